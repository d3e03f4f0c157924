"""A strict reader of the Prometheus text format, version 0.0.4. Whatever bends its rules raises."""

import math
import re
from dataclasses import dataclass

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\S+)")
NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|Inf)|NaN")
TYPES = ("counter", "gauge", "histogram", "summary", "untyped")
ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


@dataclass(frozen=True)
class Series:
    """Name and labels of a sample."""

    name: str
    labels: tuple[tuple[str, str], ...]

    def has(self, labels: dict[str, str]) -> bool:
        own = dict(self.labels)
        return all(own.get(name) == value for name, value in labels.items())


class Samples(dict[Series, float]):
    """Values by series, with the families' types and helps."""

    def __init__(self) -> None:
        super().__init__()
        self.types: dict[str, str] = {}
        self.helps: dict[str, str] = {}

    def find(self, name: str, /, **labels: str) -> dict[Series, float]:
        """The samples of that name that have at least these labels."""
        return {s: v for s, v in self.items() if s.name == name and s.has(labels)}

    def sum(self, name: str, /, **labels: str) -> float:
        """Their sum; there must be one at least."""
        found = self.find(name, **labels)
        assert found, f"no sample {name} with {labels}"
        return math.fsum(found.values())


def _labels(text: str, line: str) -> tuple[tuple[str, str], ...]:
    labels: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = LABEL.match(text, at)
        assert match, f"bad labels: {line}"
        assert match[1] not in labels, f"label {match[1]} twice: {line}"
        labels[match[1]] = re.sub(r"\\.", lambda m: ESCAPES[m[0]], match[2])
        at = match.end()
    return tuple(sorted(labels.items()))


def _number(text: str, line: str) -> float:
    assert NUMBER.fullmatch(text), f"bad value: {line}"
    return float(text)


def _family_of(name: str, samples: Samples) -> str:
    """The family a sample belongs to: its name, or that of its histogram."""
    for suffix in ("_bucket", "_sum", "_count"):
        base = name.removesuffix(suffix)
        if base != name and samples.types.get(base) in ("histogram", "summary"):
            return base
    return name


def _comment(line: str, samples: Samples) -> str:
    """A HELP or TYPE line; returns the family's name."""
    match = re.fullmatch(rf"# (HELP|TYPE) ({NAME}) (.*)", line)
    assert match, f"neither HELP nor TYPE: {line}"
    kind, name, text = match.groups()
    table = samples.helps if kind == "HELP" else samples.types
    assert name not in table, f"second {kind} of {name}"
    assert kind == "HELP" or text in TYPES, f"unknown type: {line}"
    table[name] = text
    return name


def _check_histogram(name: str, samples: Samples) -> None:
    """Buckets grow, the last is +Inf and equals the count, each has its sum."""
    groups: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    for series, value in samples.find(f"{name}_bucket").items():
        rest = tuple(label for label in series.labels if label[0] != "le")
        bound = _number(dict(series.labels)["le"], f"{name}_bucket")
        groups.setdefault(rest, []).append((bound, value))
    assert groups, f"histogram {name} without buckets"
    for labels, buckets in groups.items():
        bounds = [b for b, _ in buckets]
        counts = [c for _, c in buckets]
        assert bounds == sorted(set(bounds)) and bounds[-1] == math.inf, f"bounds of {name}"
        assert counts == sorted(counts), f"buckets of {name} shrink"
        assert samples[Series(f"{name}_count", labels)] == counts[-1], f"count of {name}"
        assert samples[Series(f"{name}_sum", labels)] >= 0, f"sum of {name}"


def parse(text: str) -> Samples:
    """Every sample of an exposition, whose families must be whole and in one piece."""
    samples = Samples()
    seen: list[str] = []  # families in order
    assert text.endswith("\n"), "the last line has no end"
    for line in text.split("\n")[:-1]:
        assert line and line == line.strip(), f"blank line or blanks around: {line!r}"
        if line.startswith("#"):
            family = _comment(line, samples)
        else:
            match = SAMPLE.fullmatch(line)
            assert match, f"no sample: {line}"
            family = _family_of(match[1], samples)
            assert family in samples.types and family in samples.helps, f"no TYPE or HELP: {line}"
            series = Series(match[1], _labels(match[2] or "", line))
            assert series not in samples, f"twice: {line}"
            samples[series] = _number(match[3], line)
        if not seen or seen[-1] != family:
            assert family not in seen, f"family {family} comes in pieces"
            seen.append(family)
    for name, kind in samples.types.items():
        if kind == "histogram":
            _check_histogram(name, samples)
        for series, value in samples.find(name).items():
            assert kind != "counter" or value >= 0, f"negative counter: {series}"
    return samples
