"""Fixtures of the integration tests; the helpers lie in tests/support."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from stator_proc import Stator  # noqa: E402


@pytest.fixture(name="start")
def start_fixture(tmp_path: Path) -> Iterator[Callable[..., Stator]]:
    """start(handler, ...) as stator_proc.Stator. What still runs when the test passed must end well
    by SIGTERM; whatever happened, nothing is left."""
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


@pytest.fixture(name="shared", scope="module")
def shared_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Stator]]:
    """shared(handler): one processor for all tests of the file that ask for the same handler, with
    four workers. Only for tests that leave it as it was."""
    servers: dict[str, Stator] = {}

    def get(handler: str) -> Stator:
        if handler not in servers:
            servers[handler] = Stator(tmp_path_factory.mktemp(handler), handler, workers=4)
        return servers[handler]

    try:
        yield get
        for s in servers.values():
            s.stop()
    finally:
        for s in servers.values():
            s.kill()
