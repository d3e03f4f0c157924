"""What the tests of the Python packages share."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))
from native_rig import worker_fixture  # noqa: E402, F401
from wire_peer import LIBRARY, Peer  # noqa: E402

sys.path.insert(0, str(LIBRARY))

SYSTEM_PYTHON = "/usr/bin/python3"
PYTHONS = [sys.executable] + ([SYSTEM_PYTHON] if os.access(SYSTEM_PYTHON, os.X_OK) else [])


@pytest.fixture(params=PYTHONS, scope="module")
def python(request):
    """The worker's interpreter: the one of the tests, and the system's."""
    return request.param


@pytest.fixture
def peer(tmp_path):
    """peer(code, handler="handler", **options): a worker for a handler file of this text. All end
    with the test."""
    made = []

    def start(code, handler="h:handler", **options):
        (tmp_path / "h.py").write_text(code)
        made.append(Peer(handler, tmp_path, **options))
        return made[-1]

    yield start
    for one in made:
        one.close()
