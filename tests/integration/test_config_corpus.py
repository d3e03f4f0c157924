"""`stator check` over the files in config/: good ones pass without a word, bad ones are refused with
every word of NAME.txt (<any> stands for what other kinds of triggers and runtimes add). The JSON
Schemas agree, but for what they can't see: syntax (yaml-*) and rules between values (rule-*)."""

import json
import os
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("STATOR_BUILD", ROOT / "build"))
STATOR = os.environ.get("STATOR", str(BUILD / "stator"))
FOLDER = Path(__file__).resolve().parent / "config"


def files(folder):
    """Its configurations."""
    return sorted(file for file in (FOLDER / folder).iterdir() if file.suffix != ".txt")


def stator(*args, cwd=None):
    """A run of the program to its end."""
    return subprocess.run([STATOR, *args], capture_output=True, text=True, timeout=60, cwd=cwd,
                          check=False)


@pytest.fixture(name="validator", scope="module")
def validator_fixture():
    """validator(file): that of the file's schema."""
    schemas = {name: jsonschema.Draft202012Validator(json.loads(stator("schema", name).stdout))
               for name in ("function", "platform")}
    return lambda file: schemas["platform" if file.stem.replace("rule-", "").startswith("platform")
                                else "function"]


def load(file):
    """YAML as the JSON that it stands for; dates are text."""
    return json.loads(json.dumps(yaml.safe_load(file.read_text()), default=str))


@pytest.mark.parametrize("file", files("good"), ids=lambda file: file.name)
def test_good(validator, file):
    """Nothing is told, --strict or not."""
    for strict in ([], ["--strict"]):
        done = stator("check", *strict, file.name, cwd=file.parent)
        assert (done.returncode, done.stderr) == (0, "")
    validator(file).validate(load(file))


def test_bad_are_many():
    """Each has its text."""
    bad = files("bad")
    assert len(bad) >= 60
    assert {file.stem for file in bad} == {file.stem for file in (FOLDER / "bad").glob("*.txt")}


@pytest.mark.parametrize("file", files("bad"), ids=lambda file: file.name)
def test_bad(validator, file):
    """All faults at once, each with file, line, column, what was found, expected, and an example."""
    done = stator("check", "--strict", file.name, cwd=file.parent)
    assert done.returncode == 1 and done.stdout == ""
    expected = file.with_suffix(".txt").read_text()
    pattern = ".*".join(re.escape(part) for part in expected.split("<any>"))
    assert re.fullmatch(pattern, done.stderr), f"told\n{done.stderr}expected\n{expected}"
    for line in done.stderr.splitlines():
        assert re.match(rf"{re.escape(file.name)}(:\d+:\d+)?: ", line)
    if not file.name.startswith(("yaml-", "rule-")):
        assert not validator(file).is_valid(load(file))
