"""What a run prints: a table a case, or Markdown for docs/benchmarks.md."""

import os
import platform
import re
import statistics
import subprocess
from pathlib import Path

import cases
import subject

FIGURES = {"per_core": "per core", "req_s": "per second"}


def paired(results, name, base, key="per_core"):
    """Ratios name / base of the rounds in which both have the figure."""
    return [a[key] / b[key] for a, b in zip(results[name], results[base])
            if a.get(key) and b.get(key)]


def short(value):
    """Three digits and a unit: 98.3k, 1.36M."""
    for limit, divisor, unit in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if value >= limit:
            return f"{value / divisor:.3g}{unit}"
    return f"{value:.0f}"


def ratio(value):
    """Two digits after the point, or two that count: 1.32, 0.078."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def spread(values, form=short):
    """median [min-max], or a dash."""
    if not values:
        return "-"
    return f"{form(statistics.median(values))} [{form(min(values))}-{form(max(values))}]"


def row(case, results, name):
    """The cells of one server: name, req/s, CPU, per core, / limit, p50, p99, remarks."""
    runs = results[name]
    good = [r for r in runs if not r["error"]]
    errors = {r["error"] for r in runs if r["error"]}
    noisy = sum(r["noisy"] for r in good)
    cores = [r["server_cpu"] / r["wall"] for r in good]
    note = f"~{noisy}/{len(runs)} noisy" if noisy else ""
    return (name, spread([r["req_s"] for r in good]),
            f"{statistics.median(cores):.2f}" if cores else "-",
            spread([r["per_core"] for r in good if "per_core" in r]),
            spread(paired(results, name, next(iter(results)), case.figure), ratio),
            *(short(statistics.median(v)) if (v := [r[k] for r in good if r.get(k)]) else "-"
              for k in ("p50_us", "p99_us")),
            note + (" INVALID: " + "; ".join(sorted(errors)) if errors else ""))


def versus(case, results):
    """(subject, another, ratios of the figure, ratios of p50) for each pair that has figures."""
    for name in results:
        if name in cases.SERVERS:
            continue
        for base in results:
            before = list(results).index(base) < list(results).index(name)
            if (base in cases.SERVERS or before) and (
                    ratios := paired(results, name, base, case.figure)):
                yield name, base, ratios, paired(results, name, base, "p50_us")


def show(case, results):
    """Prints the table of a case and the ratios of its subjects."""
    rows = [("server", "req/s", "CPU", "per core", "/ limit", "p50 us", "p99 us", ""),
            *(row(case, results, name) for name in results)]
    widths = [max(len(r[i]) for r in rows) for i in range(7)]
    print(f"{case.name}: {case.what}")
    for r in rows:
        cells = [cell.ljust(width) for cell, width in zip(r, widths)]
        print("  " + "  ".join([*cells, r[7]]).rstrip())
    for name, base, ratios, waits in versus(case, results):
        print(f"  {name} / {base}: {spread(ratios, ratio)} {FIGURES[case.figure]}"
              + (f", p50 {spread(waits, ratio)}" if waits else ""))
    print(flush=True)


def _first(pattern, path, default="?"):
    try:
        match = re.search(pattern, Path(path).read_text(encoding="utf-8"), re.M)
    except OSError:
        return default
    return match[1].strip() if match else default


def _output(*argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, cwd=subject.ROOT, check=False)
    except OSError:
        return "?"
    return done.stdout.strip() or "?"


def build_type():
    """CMake's build type of the tree measured."""
    return _first(r"^CMAKE_BUILD_TYPE:\w+=(.+)$", subject.BUILD / "CMakeCache.txt")


def conditions(opt):
    """One sentence: what the figures were taken on, and how."""
    model = _first(r"^model name\s*:\s*(.+)$", "/proc/cpuinfo")
    system = _first(r'^PRETTY_NAME="?([^"\n]+)', "/etc/os-release")
    compiler = _output("cc", "--version").splitlines()[0]
    changed = "?" != _output("git", "status", "--porcelain", "--untracked-files=no")
    return (f"{os.cpu_count()} CPUs ({model}), Linux {platform.release()}, {system}, {compiler}, "
            f"{build_type()} build of {_output('git', 'rev-parse', '--short', 'HEAD')}"
            f"{' with changes' if changed else ''}; {opt.rounds} rounds of {opt.seconds} s.")


def table(everything, opt):
    """Prints all cases as Markdown: figures first, then the subjects' ratios."""
    print(conditions(opt) + "\n")
    print("| case | server | 1/s | CPU | per core, 1/s | / limit | p50 / p99 us | remarks |\n"
          "| --- | --- | --- | --- | --- | --- | --- | --- |")
    for case, results in everything.items():
        for i, name in enumerate(results):
            _, rate, cpu, per_core, limit, p50, p99, note = row(cases.CASES[case], results, name)
            print(f"| {'' if i else case} | {name} | {rate} | {cpu} | {per_core} "
                  f"| {limit if i else '1'} | {p50} / {p99} | {note.strip()} |")
    lines = [(case, *line) for case, results in everything.items()
             for line in versus(cases.CASES[case], results)]
    if lines:
        print("\n| case | subject / other | ratio | p50 |\n| --- | --- | --- | --- |")
        for case, name, base, ratios, waits in lines:
            print(f"| {case} | {name} / {base} | {spread(ratios, ratio)} "
                  f"{FIGURES[cases.CASES[case].figure]} | {spread(waits, ratio)} |")
    print(flush=True)
