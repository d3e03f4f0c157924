"""The short form of `make chaos`: random faults while a function reads keyed messages of a Kafka."""

from pathlib import Path

import pytest
import toxiproxy
from kafka_chaos import Chaos, LoadFailed, Options
from stator_proc import SANITIZER, SLOWNESS

QUICK = Options(seed=3, messages=20_000, faults=12, gap=0.8, session=2.0)
SLOW = Options(seed=6, messages=8_000, faults=10, gap=1.0, session=6.0, handler_us=1000)


@pytest.mark.parametrize("worker", ["native", "python"])
def test_random_faults(tmp_path: Path, worker: str) -> None:
    """Nothing is lost, order holds, and each repeat has a cause that the documentation names."""
    if SANITIZER and worker == "python":
        pytest.skip("one of them is enough where everything takes long")
    options = SLOW if SLOWNESS > 1 else QUICK
    options.worker = worker
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            with Chaos(folder, options, print, toxiproxy.is_there()) as chaos:
                chaos.run().check()
            return
        except LoadFailed as failure:   # the broker's and its client's, not ours: once more
            print(failure)
            if number == 2:
                raise
