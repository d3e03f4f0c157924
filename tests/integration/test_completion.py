"""Completion for bash: what the file says for a line that is being typed."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from stator_proc import BINARY, run_cli

FILE = Path(__file__).resolve().parents[2] / "processor" / "cli" / "stator.bash"
SCRIPT = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_stator
printf '%s\\n' "${COMPREPLY[@]}"
"""


def complete(*words: str, cwd: Path | None = None) -> list[str]:
    """The choices for the last word."""
    done = subprocess.run(["bash", "--norc", "-c", SCRIPT, "bash", str(FILE), str(BINARY), *words],
                          capture_output=True, text=True, timeout=60, cwd=cwd, check=False)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return sorted(line for line in done.stdout.splitlines() if line)


def commands() -> list[str]:
    return sorted(re.findall(r"^  ([a-z]+) ", run_cli("--help").stdout, re.M))


def test_commands():
    """All that the help names."""
    assert complete("") == commands()
    assert {"run", "invoke", "health", "version"} <= set(commands())


def test_prefix():
    """Only what goes on from what is typed."""
    assert complete("ver") == ["version"]
    assert complete("nothing") == []


@pytest.mark.parametrize("command", commands())
def test_options(command):
    """All that the command's help names; each one is long."""
    said = sorted(set(re.findall(r"^ +(?:-\S, +)?(--[a-z-]+)", run_cli(command, "--help").stdout,
                                 re.M)))
    assert complete(command, "--") == said


def test_values(tmp_path):
    """Files where an option takes one, methods, and nothing for numbers."""
    for name in ("function.yaml", "hello.so", "b c"):
        (tmp_path / name).touch()
    everything = ["b c", "function.yaml", "hello.so"]
    assert complete("run", "", cwd=tmp_path) == everything
    assert complete("run", "--config", "f", cwd=tmp_path) == ["function.yaml"]
    assert complete("run", "--port", "", cwd=tmp_path) == []
    assert complete("run", "--strict", "", cwd=tmp_path) == everything
    assert complete("invoke", "-d", "@h", cwd=tmp_path) == ["@hello.so"]
    assert complete("invoke", "--data", "", cwd=tmp_path) == everything
    assert complete("invoke", "--url", "", cwd=tmp_path) == []
    assert complete("invoke", "-X", "P") == ["PATCH", "POST", "PUT"]
    assert complete("kafka", "") == ["lag", "peek", "replay-dlq"]
    assert complete("kafka", "lag", "", cwd=tmp_path) == everything
    assert complete("schema", "") == ["function", "platform"]


def test_loads_as_a_shell_would(tmp_path):
    """Sourcing it registers the completion and leaves nothing else behind."""
    script = f"set -u; source {FILE}; complete -p stator; compgen -v | grep -i stator"
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True,
                          timeout=60, cwd=tmp_path, check=False,
                          env={k: v for k, v in os.environ.items() if "STATOR" not in k})
    assert done.stdout == "complete -F _stator stator\n" and done.stderr == ""
