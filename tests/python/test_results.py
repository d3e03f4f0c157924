"""What a handler gives back, as the client sees it: every row of the table in docs/runtimes, by
real workers."""

import json

import pytest
from wire_peer import Peer

HANDLER = '''
import asyncio, datetime, decimal, http, sys
from collections import namedtuple
import nuclio_sdk

class Logged:
    def __log__(self):
        return {"logged": float("inf")}

class Named:
    def __repr__(self):
        return "a Named"

class Unprintable:
    def __repr__(self):
        raise RuntimeError("no repr")
    __str__ = __repr__

def fail(exc):
    raise exc

Pair = namedtuple("Pair", "status body")
R = nuclio_sdk.Response
CASES = {
    "str": lambda c: "text é",
    "surrogate": lambda c: "a\\ud800b",
    "bytes": lambda c: b"\\xff\\x00",
    "bytearray": lambda c: bytearray(b"\\x01"),
    "dict": lambda c: {"a": [1, 2.5, None, True], "b": "é"},
    "dict-odd": lambda c: {"nan": float("nan"), "inf": [float("inf"), -float("inf")],
                           "named": Named(), "logged": Logged(), "bytes": b"x"},
    "dict-key": lambda c: {(1, 2): 3},
    "list-empty": lambda c: [],
    "list-str": lambda c: ["first", "second"],
    "list-dict": lambda c: [{"a": 1}, 2],
    "list-int": lambda c: [7, 8],
    "list-response": lambda c: [R(body="r", status_code=202), R(body="s")],
    "list-list": lambda c: [[1, 2], 3],
    "none": lambda c: None, "int": lambda c: 42, "float": lambda c: 1.5, "bool": lambda c: True,
    "datetime": lambda c: datetime.datetime(2024, 1, 2, 3, 4, 5),
    "set": lambda c: {1}, "triple": lambda c: (1, 2, 3), "one-tuple": lambda c: ("a",),
    "status-str": lambda c: (201, "made"),
    "status-dict": lambda c: (404, {"error": "none"}),
    "status-none": lambda c: (200, None),
    "status-bytes": lambda c: (200, b"x"),
    "status-list": lambda c: (200, [1, 2]),
    "status-enum": lambda c: (http.HTTPStatus.CREATED, "x"),
    "status-zero": lambda c: (0, "x"),
    "status-text": lambda c: ("201", "x"),
    "status-float": lambda c: (200.5, "x"),
    "status-bool": lambda c: (True, "x"),
    "status-range": lambda c: (1000, "x"),
    "status-low": lambda c: (199, "x"),
    "pair": lambda c: Pair(202, "x"),
    "response": lambda c: c.Response(headers={"X-One": "1"}, body="b", content_type="text/html",
                                     status_code=203),
    "response-default": lambda c: R(body="b"),
    "response-bytes": lambda c: R(body=b"\\xfe", content_type="image/png"),
    "response-dict": lambda c: R(body={"a": 1}, content_type="text/html"),
    "response-list": lambda c: R(body=[1, "a"]),
    "response-none": lambda c: R(),
    "response-status-zero": lambda c: R(body="x", status_code=0),
    "response-wrong-type": lambda c: R(body="x", content_type=123),
    "response-wrong-status": lambda c: R(body="x", status_code="201"),
    "response-float-status": lambda c: R(body="x", status_code=200.0),
    "response-wrong-headers": lambda c: R(body="x", headers=["a"]),
    "response-wrong-id": lambda c: R(body="x", event_id=5),
    "response-both-wrong": lambda c: R(body="x", content_type={"a": 1}, status_code="1"),
    "response-headers": lambda c: R(body="x", headers={
        "X-Text": "t", "X-Int": 5, "X-Float": 1.5, "X-Bool": True, "X-List": ["a"], "X-None": None,
        "X-Break": "a\\r\\nX-Evil: 1", "X-Bytes": b"b", "bad name": "x", "X-Evil\\r\\nY": "x",
        "X-Object": Named(), "X-Nan": float("nan"), "X-Utf8": "é", "": "x"}),
    "response-type-twice": lambda c: R(body="x", headers={"content-type": "a/b"},
                                       content_type="c/d"),
    "response-type-header": lambda c: R(body="x", headers={"content-TYPE": "a/b"}),
    "response-no-ack": lambda c: (lambda r: (r.ensure_no_ack(), r)[1])(R(body="x")),
    "response-break-type": lambda c: R(body="x", content_type="a/b\\r\\nX: y"),
    "exception": lambda c: fail(ValueError("went wrong")),
    "exit": lambda c: sys.exit(3),
    "interrupt": lambda c: fail(KeyboardInterrupt()),
    "generator-exit": lambda c: fail(GeneratorExit()),
    "cancelled": lambda c: fail(asyncio.CancelledError("c")),
    "memory": lambda c: fail(MemoryError()),
    "with-response": lambda c: fail(nuclio_sdk.ExceptionWithResponse(418, "teapot")),
    "bad-exception": lambda c: fail(type("Bad", (Exception,), {"__str__": lambda s: 1 / 0})()),
    "recursion": lambda c: (lambda d: (d.append(d), {"d": d})[1])([]),
    "unprintable": lambda c: Unprintable(),
    "unprintable-in": lambda c: {"a": Unprintable()},
}

def handler(context, event):
    return CASES[event.path[1:]](context)

async def asynchronous(context, event):
    await asyncio.sleep(0)
    return CASES[event.path[1:]](context)
'''

PLAIN, JSON = "text/plain", "application/json"
GO = "text/plain; charset=utf-8"
ROWS = [
    ("str", 200, PLAIN, "text é"),
    ("surrogate", 200, PLAIN, "a\ufffdb"),
    ("bytes", 200, PLAIN, b"\xff\x00"),
    ("bytearray", 200, PLAIN, b"\x01"),
    ("dict", 200, JSON, '{"a": [1, 2.5, null, true], "b": "\\u00e9"}'),
    ("dict-odd", 200, JSON, '{"nan": "NaN", "inf": ["Infinity", "-Infinity"], "named": "a Named", '
                            '"logged": {"logged": "Infinity"}, "bytes": "b\'x\'"}'),
    ("list-empty", 200, JSON, "[]"),
    ("list-str", 200, PLAIN, "first"),
    ("list-dict", 200, JSON, '{"a": 1}'),
    ("list-int", 200, PLAIN, "7"),
    ("list-response", 202, PLAIN, "r"),
    ("list-list", 200, JSON, "[1, 2]"),
    ("none", 200, PLAIN, "None"),
    ("int", 200, PLAIN, "42"),
    ("float", 200, PLAIN, "1.5"),
    ("bool", 200, PLAIN, "True"),
    ("datetime", 200, PLAIN, "2024-01-02 03:04:05"),
    ("set", 200, PLAIN, "{1}"),
    ("triple", 200, PLAIN, "(1, 2, 3)"),
    ("one-tuple", 200, PLAIN, "('a',)"),
    ("status-str", 201, PLAIN, "made"),
    ("status-dict", 404, JSON, '{"error": "none"}'),
    ("status-none", 200, JSON, "null"),
    ("status-bytes", 200, JSON, '"b\'x\'"'),
    ("status-list", 200, JSON, "[1, 2]"),
    ("status-enum", 201, PLAIN, "x"),
    ("status-zero", 200, PLAIN, "x"),
    ("pair", 202, PLAIN, "x"),
    ("response", 203, "text/html", "b"),
    ("response-default", 200, PLAIN, "b"),
    ("response-bytes", 200, "image/png", b"\xfe"),
    ("response-dict", 200, JSON, '{"a": 1}'),
    ("response-list", 200, PLAIN, "[1, 'a']"),
    ("response-none", 200, PLAIN, "None"),
    ("response-status-zero", 200, PLAIN, "x"),
    ("response-type-twice", 200, "c/d", "x"),
    ("response-type-header", 200, PLAIN, "x"),
    ("response-break-type", 200, "a/b  X: y", "x"),
    ("unprintable-in", 200, JSON, '{"a": "Unable to serialize object: RuntimeError"}'),
]
WRONG = [
    ("status-text", "json: cannot unmarshal string into Go struct field Result.status_code of "
                    "type int"),
    ("status-float", "json: cannot unmarshal number 200.5 into Go struct field "
                     "Result.status_code of type int"),
    ("status-bool", "json: cannot unmarshal bool into Go struct field Result.status_code of "
                    "type int"),
    ("status-range", "the handler's status 1000 is not in 200 to 599"),
    ("status-low", "the handler's status 199 is not in 200 to 599"),
    ("response-wrong-type", "json: cannot unmarshal number into Go struct field "
                            "Result.content_type of type string"),
    ("response-wrong-status", "json: cannot unmarshal string into Go struct field "
                              "Result.status_code of type int"),
    ("response-float-status", "json: cannot unmarshal number 200.0 into Go struct field "
                              "Result.status_code of type int"),
    ("response-wrong-headers", "json: cannot unmarshal array into Go struct field "
                               "Result.headers of type map[string]interface {}"),
    ("response-wrong-id", "json: cannot unmarshal number into Go struct field "
                          "Result.event_id of type string"),
    ("response-both-wrong", "json: cannot unmarshal object into Go struct field "
                            "Result.content_type of type string"),
]
RAISED = [
    ("exception", "went wrong", "ValueError: went wrong"),
    ("exit", "3", "SystemExit: 3"),
    ("interrupt", "", "KeyboardInterrupt"),
    ("generator-exit", "", "GeneratorExit"),
    ("cancelled", "c", "CancelledError: c"),
    ("memory", "", "MemoryError"),
    ("with-response", "status 418", "ExceptionWithResponse: status 418"),
    ("bad-exception", "Bad", "Bad: <exception str() failed>"),
    ("dict-key", "keys must be str, int, float, bool or None, not tuple", "TypeError"),
    ("recursion", "", "RecursionError"),
    ("unprintable", "no repr", "RuntimeError: no repr"),
]


@pytest.fixture(scope="module", params=["handler", "asynchronous"])
def worker(request, plane, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    (folder / "h.py").write_text(HANDLER)
    with Peer(f"h:{request.param}", folder, **plane) as peer:
        yield peer


@pytest.mark.parametrize("case, status, content_type, body", ROWS, ids=[row[0] for row in ROWS])
def test_result(worker, case, status, content_type, body):
    answer = worker.call(path=f"/{case}")
    wanted = body if isinstance(body, bytes) else body.encode()
    assert (answer.status, answer.content_type, answer.body) == (status, content_type, wanted)
    assert answer.outcome == 0 and answer.flags == 0 and answer.duration_ns > 0


@pytest.mark.parametrize("case, text", WRONG, ids=[row[0] for row in WRONG])
def test_wrong_types(worker, case, text):
    answer = worker.call(path=f"/{case}")
    assert (answer.status, answer.content_type, answer.text) == (500, GO, text)
    assert answer.outcome == 1


@pytest.mark.parametrize("case, text, last", RAISED, ids=[row[0] for row in RAISED])
def test_exceptions(worker, case, text, last):
    answer = worker.call(path=f"/{case}")
    assert (answer.status, answer.content_type, answer.outcome) == (500, PLAIN, 1)
    if text:
        assert answer.text.startswith(f'Exception caught in handler - "{text}": Traceback (most')
    assert answer.text.startswith('Exception caught in handler - "')
    assert last in answer.text
    if case == "exception":  # the first line is the handler's, not the worker's
        assert "/h.py" in answer.text.splitlines()[1]
        assert "stator/_worker" not in answer.text
    (log,) = worker.logs_of(answer.seq)
    assert log.level == "error" and answer.flags == 2
    assert json.loads(log.variables)["worker_id"] == "0"
    assert worker.call(path="/str").status == 200  # it lives


def test_headers(worker):
    headers = worker.call(path="/response-headers").headers
    assert headers == [
        ("X-Text", "t"), ("X-Int", "5"), ("X-Float", "1.5"), ("X-Break", "a  X-Evil: 1"),
        ("X-Bytes", "b'b'"), ("X-Object", "a Named"), ("X-Nan", "NaN"), ("X-Utf8", "é")]
    assert worker.call(path="/response").headers == [("X-One", "1")]
    assert worker.call(path="/response-no-ack").headers == [("x-nuclio-stream-no-ack", "true")]
    assert worker.call(path="/response-type-twice").headers == []


def test_a_second_copy_of_the_sdk(peer):
    """A function may bring Nuclio's own package."""
    one = peer("class Response:\n"
               "    def __init__(self):\n"
               "        self.body, self.headers = 'x', {'A': 'b'}\n"
               "        self.content_type, self.status_code, self.event_id = 'c/d', 201, None\n"
               "def handler(context, event):\n    return Response()\n")
    answer = one.call()
    assert (answer.status, answer.content_type, answer.text) == (201, "c/d", "x")
    assert answer.headers == [("A", "b")]


def test_large_results(worker, peer):
    one = peer("def handler(context, event):\n    return bytes(int(event.body))\n")
    for size in (0, 1, 65535, 65536, 65537, 3 << 20):
        assert one.call(str(size)).body == bytes(size)
