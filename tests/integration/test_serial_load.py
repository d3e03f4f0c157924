"""Answers under load: ldgen checks each one, of the handler on the loop and on a worker thread.

Plain and sanitizer builds alike; the budgets of speed are in test_serial_budget.py.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))

import cases  # noqa: E402
import subject  # noqa: E402


@pytest.mark.parametrize("config", ["native.yaml", "native-thread.yaml", "native-process.yaml"])
def test_every_answer_is_right(tmp_path, config):
    """No request is lost, swapped, changed or refused, whatever the shape of the load."""
    with subject.stator(tmp_path, config=config) as server:
        for name in ("http-get", "http-get-c4", "http-post-1k", "http-pipelined"):
            cases.run_checked(name, tmp_path, server.port, seconds=1)
