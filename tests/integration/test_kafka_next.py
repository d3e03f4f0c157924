"""The core cases of the kafka trigger against the next Kafka."""

from collections.abc import Iterator

import pytest
from kafka_broker import NEXT_VERSION, Broker
from stator_proc import SANITIZER
from test_kafka import test_aborted_transactions, test_dead_letters, test_fields  # noqa: F401
from test_kafka_faults import test_clean_hand_over, test_processor_dies  # noqa: F401

# The same tests against another Kafka go through the same of ours.
pytestmark = pytest.mark.skipif(bool(SANITIZER), reason="only in builds without a sanitizer")


@pytest.fixture(name="broker", scope="module")
def broker_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One of the next version."""
    with Broker(tmp_path_factory.mktemp("kafka"), version=NEXT_VERSION) as broker:
        yield broker
