"""Budgets of operations: what logging costs the loops, and how long a scrape takes. The goals are
those of docs/benchmarks.md; here with slack for a busy machine."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))

import ops  # noqa: E402

SLACK = 5
LOGGING = 0.05  # of a core, for 100,000 records a second
SCRAPE = 0.002  # seconds, ten triggers


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="no CPU times in ns here")
@pytest.mark.parametrize("encoding", ["console", "json"])
def test_logging(tmp_path, encoding):
    """At 100,000 records a second, or as many as the machine has time for."""
    result = ops.logging_cost(tmp_path, encoding, 1)
    print(result)
    assert result["part_of_a_core"] < LOGGING * SLACK


def test_scrape(tmp_path):
    result = ops.scrape_time(tmp_path)
    print(result)
    assert result["bytes"] > 10_000
    assert result["seconds"] < SCRAPE * SLACK
