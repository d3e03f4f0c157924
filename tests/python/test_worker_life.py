"""The life of a worker process: start, errors of it, drain, termination, what a handler may do."""

import os
import signal
import time

import pytest
from wire_peer import SLOW, Peer, WorkerEnded


def test_hello_and_ready(tmp_path, plane):
    (tmp_path / "h.py").write_text("def handler(context, event):\n    return 'x'\n")
    with Peer("h:handler", tmp_path, **plane) as peer:
        assert peer.hello["protocol"] == 1
        assert peer.hello["language"].startswith("python 3.")
        assert peer.hello["shared_memory"] == plane["native"]
        assert peer.ready == {"credits": 1, "batch": False}
        assert peer.call().text == "x"
        assert peer.logs == []  # STATOR_PYTHON_PORTABLE=1: no warning


def test_missing_add_on_is_one_warning(portable):
    one = portable("def handler(context, event):\n    return 'x'\n",
                   env={"STATOR_PYTHON_PORTABLE": None})
    assert one.call().text == "x"
    (log,) = one.logs
    assert log.level == "warn" and "several times slower" in log.message


def test_starts_soon(peer):
    code = "import json\ndef handler(context, event):\n    return 'x'\n"
    times = []
    for _ in range(5):
        one = peer(code)
        times.append(one.ready_after)
        one.close()
    assert min(times) < 0.4 * SLOW  # 80 ms where nothing else runs


def test_start_imports_nothing_slow(peer):
    code = ("import sys\nBEFORE = set(sys.modules)\n"
            "def handler(context, event):\n    return ' '.join(BEFORE)\n")
    one = peer(code)
    loaded = set(one.call().text.split())
    if one.hello["shared_memory"]:
        loaded.discard("datetime")  # of its C interface
    assert not loaded & {"asyncio", "json", "http.client", "logging", "inspect", "typing", "uuid",
                         "traceback", "datetime", "urllib.parse", "subprocess", "re", "enum",
                         "socket", "threading", "base64"}


@pytest.mark.parametrize("code, handler, wanted", [
    ("def handler(context, event:\n    pass\n", "h:handler", ["h.py:1: SyntaxError"]),
    ("\n\nimport no_such_thing\n", "h:handler",
     ["h.py:3: there is no module no_such_thing", "-m pip install no_such_thing"]),
    ("import cv2_missing.sub\n", "h:handler", ["h.py:1", "pip install cv2_missing"]),
    ("import json.nothing\n", "h:handler", ["h.py:1: the package json has no module json.nothing"]),
    ("def handle(context, event):\n    pass\n", "h:handler",
     ['h.py has no "handler"; there is "handle" in line 1']),
    ("x = 1\n", "h:handler", ["h.py", 'has no "handler"', "no function"]),
    ("handler = 1\n", "h:handler", ["h.py", '"handler" is an int, not a function']),
    ("def f():\n    raise RuntimeError('oh no')\nf()\n", "h:handler",
     ["h.py:2: RuntimeError: oh no"]),
    ("raise SystemExit(3)\n", "h:handler", ["h.py:1", "exit status 3"]),
    ("x = 1\n", "other:handler", ["there is no module other", "other.py"]),
    ("x = 1\n", "other.py:handler", ["there is no file", "other.py"]),
    ("x = 1\n", "h:", ["MODULE:FUNCTION"]),
    ("def handler(c, e):\n    pass\ndef init_context(context):\n    1 / 0\n", "h:handler",
     ["h.py:4: init_context failed: ZeroDivisionError"]),
    ("def handler(c, e):\n    pass\nasync def init_context(context):\n    1 / 0\n", "h:handler",
     ["h.py:4: init_context failed: ZeroDivisionError"]),
])
def test_load_errors_are_one_text(peer, code, handler, wanted):
    one = peer(code, handler, wait=False)
    assert one.wait_end() == 1
    assert one.ready is None
    for part in wanted:
        assert part in one.failed
    assert "\n" not in one.failed
    assert one.output == ""


def test_where_handlers_are_found(tmp_path, plane):
    text = "def {0}(context, event):\n    return '{1}'\nclass Group:\n" \
           "    @staticmethod\n    def inner(context, event):\n        return 'inner'\n"
    (tmp_path / "main.py").write_text(text.format("handler", "main"))
    (tmp_path / "my-nuclio.py").write_text(text.format("run", "hyphen"))
    (tmp_path / "json.py").write_text(text.format("run", "not the library"))
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("")
    (tmp_path / "pkg" / "sub.py").write_text("from . import other\n" + text.format("f", "sub"))
    (tmp_path / "pkg" / "other.py").write_text("")
    for spec, wanted in [("main:handler", "main"), ("main", "main"), ("main.py", "main"),
                         ("my-nuclio:run", "hyphen"), ("pkg.sub:f", "sub"),
                         ("json.py:run", "not the library"), ("pkg/../main.py:handler", "main"),
                         (str(tmp_path / "main.py"), "main"), ("main:Group.inner", "inner")]:
        with Peer(spec, tmp_path, **plane) as one:
            assert one.call().text == wanted, spec


def test_prints_are_output_and_stdin_is_empty(peer):
    one = peer("import sys\ndef handler(context, event):\n"
               "    print('out'); print('err', file=sys.stderr)\n"
               "    return repr(sys.stdin.read())\n")
    assert one.call().text == "''"
    assert one.output == "out\nerr\n"


def test_drain_resume_terminate(peer):
    one = peer("def init_context(context):\n"
               "    context.platform.set_drain_callback(lambda: print('drain'))\n"
               "    context.platform.set_termination_callback(lambda: print('end'))\n"
               "def handler(context, event):\n    return 'x'\n")
    one.drain()
    one.wait(lambda: one.drained == 1)
    assert one.output == "drain\n"
    seq = one.send()
    one.pump(0.3)
    assert not one.answers[seq].done
    one.resume()
    assert one.answer(seq).text == "x"
    one.terminate()
    assert one.wait_end() == 0
    assert one.output == "drain\nend\n"


def test_async_drain_waits_for_what_runs(peer):
    one = peer("import asyncio\n"
               "async def note(text):\n    await asyncio.sleep(0)\n    print(text)\n"
               "def init_context(context):\n"
               "    context.platform.set_drain_callback(lambda: note('drain'))\n"
               "    context.platform.set_termination_callback(lambda: note('end'))\n"
               "async def handler(context, event):\n"
               "    await asyncio.sleep(0.3)\n    return 'x'\n", max_concurrency=4)
    first = one.send()
    one.pump(0.1)
    one.drain()
    second = one.send()
    one.wait(lambda: one.drained == 1)
    assert one.answers[first].done and not one.answers[second].done
    one.resume()
    assert one.answer(second).text == "x"
    one.terminate()
    assert one.wait_end() == 0
    assert one.output == "drain\nend\n"


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_ends_when_the_processor_is_gone(peer, kind):
    one = peer(f"{kind} handler(context, event):\n    return 'x'\n")
    assert one.call().text == "x"
    one.control.close()
    one.data.close()
    end = time.monotonic() + 20 * SLOW
    while one.exit_status is None and time.monotonic() < end:
        one._reap(os.WNOHANG)
        time.sleep(0.01)
    assert one.exit_status == 0


def test_os_exit_ends_the_process(peer):
    one = peer("import os\ndef handler(context, event):\n    os._exit(7)\n")
    one.send()
    assert one.wait_end() == 7


def test_a_signal_ends_the_process(peer):
    one = peer("def handler(context, event):\n    return 'x'\n")
    os.kill(one.pid, signal.SIGTERM)
    assert one.wait_end() == -signal.SIGTERM


def test_children_of_handlers_answer_nothing(peer):
    one = peer("import os, sys\ndef handler(context, event):\n"
               "    pid = os.fork()\n"
               "    if pid == 0:\n"
               "        if event.path == '/raise':\n            raise ValueError('child')\n"
               "        if event.path == '/exit':\n            sys.exit(3)\n"
               "        return 'child'\n"
               "    return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n")
    assert one.call().text == "0"
    assert one.call(path="/raise").text == "1"
    assert one.call(path="/exit").text == "1"
    assert one.call().text == "0"


def test_closed_descriptors_end_the_worker(peer):
    one = peer("import os\ndef handler(context, event):\n"
               "    os.closerange(3, 100)\n    return 'x'\n")
    one.send()
    with pytest.raises(WorkerEnded):
        one.wait(lambda: False)
    one.wait_end()
