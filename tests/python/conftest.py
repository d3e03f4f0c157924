"""What the tests of the Python packages share."""

import os
import sys

import pytest

HERE = os.path.dirname(__file__)
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "support")]
from native_rig import worker_fixture  # noqa: E402, F401
from wire_peer import HAS_NATIVE, LIBRARY, Peer  # noqa: E402

sys.path.insert(0, str(LIBRARY))

SYSTEM_PYTHON = "/usr/bin/python3"
PLANES = [pytest.param((sys.executable, False), id="portable"),
          pytest.param((SYSTEM_PYTHON, False), id="portable-system"),
          pytest.param((SYSTEM_PYTHON, True), id="native")]


def usable(plane):
    """The interpreter and the data plane of a worker, for Peer(); skips what is not there."""
    python, native = plane
    if not os.access(python, os.X_OK):
        pytest.skip(f"no {python}")
    if native and (not HAS_NATIVE or os.environ.get("STATOR_SANITIZER")):
        pytest.skip("no extension of an ordinary build")
    return {"python": python, "native": native}


@pytest.fixture(params=PLANES, scope="module")
def plane(request):
    """Options of Peer(): the worker in pure Python, by two interpreters, and the extension."""
    return usable(request.param)


@pytest.fixture
def start(tmp_path):
    """start(code, handler="h:handler", **options): a worker for a handler file of this text. All
    end with the test."""
    made = []

    def start_one(code, handler="h:handler", **options):
        (tmp_path / "h.py").write_text(code)
        made.append(Peer(handler, tmp_path, **options))
        return made[-1]

    yield start_one
    for one in made:
        one.close()


@pytest.fixture
def portable(start):
    """start() of the worker in pure Python."""
    return start


@pytest.fixture(params=PLANES[1:])
def peer(request, start):
    """start() of both workers."""
    options = usable(request.param)
    return lambda code, handler="h:handler", **more: start(code, handler, **{**options, **more})
