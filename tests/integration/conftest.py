"""Fixtures of the integration tests; the helpers lie in tests/support."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from stator_proc import Stator, python_options  # noqa: E402

if TYPE_CHECKING:
    from kafka_broker import Broker
    from kafka_client import Client
    from kafka_function import Function


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


@pytest.fixture(name="worker", params=["native", "portable"])
def worker_fixture(request: pytest.FixtureRequest) -> str:
    """Which Python worker: the extension, or the one in pure Python."""
    return request.param


@pytest.fixture(name="python")
def python_fixture(tmp_path: Path, start: Callable[..., Stator],
                   worker: str) -> Callable[..., Stator]:
    """python(code, ...) as start(): a function whose handler.py has this code, with that worker."""
    def start_python(code: str, **options: Any) -> Stator:
        return start("", **python_options(tmp_path, code, worker, **options))

    return start_python


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


@pytest.fixture(name="broker", scope="session")
def broker_fixture(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Broker]":
    """One Kafka for all tests of this pytest run that leave it as it was: those that stop it, kill
    it or pause it make a kafka_broker.Broker of their own, in a fixture of that name for all of
    their file."""
    from kafka_broker import Broker

    with Broker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture(name="kafka", scope="module")
def kafka_fixture(broker: "Broker") -> "Client":
    """A client of the file's Kafka, for topics, messages and offsets."""
    from kafka_client import Client

    return Client(broker.address())


@pytest.fixture(name="function")
def function_fixture(tmp_path: Path, kafka: "Client") -> "Iterator[Callable[..., Function]]":
    """function(topic, ...) as kafka_function.Function(); its processors end with the test."""
    from kafka_function import Function
    made: list[Function] = []

    def make(topic: str, *args: Any, **options: Any) -> Function:
        made.append(Function(tmp_path, kafka, topic, *args, **options))
        return made[-1]
    try:
        yield make
        for s in (s for f in made for s in f.started if s.is_running()):
            s.stop()
    finally:
        for s in (s for f in made for s in f.started):
            s.kill()
