"""Fixtures of the integration tests; the helpers lie in tests/support."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from stator_proc import Stator  # noqa: E402


@pytest.fixture(name="start")
def start_fixture(tmp_path: Path) -> Iterator[Callable[..., Stator]]:
    """start(handler, ...) as stator_proc.Stator. What still runs when the test passed must end well by
    SIGTERM; whatever happened, nothing is left."""
    started: list[Stator] = []

    def start(handler: str, **options: object) -> Stator:
        options.setdefault("name", f"test{len(started)}" if started else "test")
        started.append(Stator(tmp_path, handler, **options))
        return started[-1]

    try:
        yield start
        for s in started:
            if s.is_running():
                s.stop()
    finally:
        for s in started:
            s.kill()
