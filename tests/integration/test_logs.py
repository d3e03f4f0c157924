"""What handlers log: to the client that asks for it, and to the log; how the log is written."""

import json
import re
import time

import pytest
from http_raw import Connection, build_request
from stator_proc import patience, wait_until

HANDLERS = ["logs", "logs_blocking"]  # on the loop, on a thread
ALL = b"debug d\ninfo i\nwarn w\nerror e"


def ask(s, body, level="debug", status=200):
    """The records that came with the reply, None without the header."""
    headers = [("Host", "test")] + ([("x-nuclio-log-level", level)] if level is not None else [])
    answer = s.post(body, headers=headers)
    assert answer.status == status
    text = answer.header("X-Nuclio-Logs")
    return None if text is None else json.loads(text)


def messages(records):
    return [r["message"] for r in records]


def function_log(s):
    """What handlers have written so far."""
    return [r for r in s.log() if r["name"] == "function"]


# X-Nuclio-Logs

@pytest.mark.parametrize("handler", HANDLERS)
def test_records_of_the_request(shared, handler):
    """Their keys and nothing else: the shape that Nuclio's dashboard and nuctl read."""
    s = shared(handler)
    before = time.time()
    records = ask(s, ALL)
    assert [list(r) for r in records] == [["level", "time", "name", "message"]] * 4
    assert [(r["level"], r["name"], r["message"]) for r in records] == [
        ("debug", "http", "d"), ("info", "http", "i"), ("warn", "http", "w"), ("error", "http", "e")]
    assert all(before - 1 < r["time"] / 1000 < time.time() + 1 for r in records)
    assert re.search(r'"time":\d{13}\.\d{3},', s.post(ALL, headers=[
        ("Host", "test"), ("X-Nuclio-Log-Level", "debug")]).header("X-Nuclio-Logs"))


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("level, expected", [
    ("debug", "diwe"), ("info", "iwe"), ("warn", "we"), ("error", "e"), ("", "diwe"),
    ("loud", "diwe"), ("INFO", "diwe"), ("warning", "diwe")])
def test_levels(shared, handler, level, expected):
    assert messages(ask(shared(handler), ALL, level)) == list(expected)


@pytest.mark.parametrize("handler", HANDLERS)
def test_nothing_unless_asked_for(shared, handler):
    assert ask(shared(handler), ALL, None) is None


@pytest.mark.parametrize("handler", HANDLERS)
def test_no_records_are_an_empty_array(shared, handler):
    assert ask(shared(handler), b"") == []


@pytest.mark.parametrize("handler", HANDLERS)
def test_error_replies_have_it_too(shared, handler):
    assert messages(ask(shared(handler), b"info a\nfail", status=418)) == ["a"]


@pytest.mark.parametrize("handler", HANDLERS)
def test_text_is_raw_utf8(shared, handler):
    text = 'é 你 😀 "\\ \t \x01 \x7f'
    answer = shared(handler).post(f"info {text}".encode(), headers=[
        ("Host", "test"), ("X-Nuclio-Log-Level", "info")])
    raw = answer.header("X-Nuclio-Logs").encode("latin-1")
    assert json.loads(raw)[0]["message"] == text
    assert "é 你 😀".encode() in raw


@pytest.mark.parametrize("handler", HANDLERS)
def test_limit(start, handler):
    """4095 bytes come, 4096 don't: a warning instead."""
    s = start(handler, workers=1)
    empty = s.post(b"info ", headers=[("Host", "test"), ("X-Nuclio-Log-Level", "info")])
    room = 4095 - len(empty.header("X-Nuclio-Logs"))
    assert len(messages(ask(s, b"long %d" % room))[0]) == room
    assert not s.log("X-Nuclio-Logs is left out")
    assert ask(s, b"long %d" % (room + 1)) is None
    assert s.wait_log("X-Nuclio-Logs is left out")["level"] == "warn"
    assert ask(s, b"long 8000") is None
    assert ask(s, b"\n".join([b"info " + b"x" * 50] * 60)) is None
    assert messages(ask(s, b"info short")) == ["short"]


@pytest.mark.parametrize("handler", HANDLERS)
def test_pipeline_and_keep_alive(shared, handler):
    """Each reply has the records of its own request."""
    with shared(handler).connect() as c:
        c.send(b"".join(build_request("POST", "/", b"info %d" % i, [
            ("Host", "test")] + ([("X-Nuclio-Log-Level", "info")] if i % 2 == 0 else []))
            for i in range(20)))
        for i in range(20):
            text = c.read_response().header("X-Nuclio-Logs")
            assert (messages(json.loads(text)) if text else None) == (
                [str(i)] if i % 2 == 0 else None)


def test_timeout(start):
    """What was logged until then; the handler goes on logging."""
    s = start("logs_blocking", workers=2, spec={"eventTimeout": "200ms"})
    body = b"info before\nsleep 600\n" + b"info after\n" * 100
    assert messages(ask(s, body, status=408)) == ["before"]
    s.wait_log("after")
    s.wait_metric(1, "stator_late_results_total")


def test_no_worker(start):
    """Nothing ran: no records, but the header."""
    s = start("logs_blocking", workers=1, trigger={"workerAvailabilityTimeoutMilliseconds": 0})
    with s.connect() as c:
        c.send(build_request("POST", "/", b"info busy\nsleep 1000"))
        s.wait_log("busy")
        assert ask(s, b"info x", status=503) == []
        c.read_response()


def test_streamed_reply(shared):
    """The head has what was logged before it left."""
    records = ask(shared("logs_blocking"), b"info a\nstream\nsleep 100\ninfo b", status=202)
    assert messages(records)[0] == "a"


# The sinks

def platform(system, functions, **attributes):
    return {"logger": {
        "sinks": {"out": {"kind": "stdout", "attributes": {"encoding": "json"}},
                  "own": {"kind": "stdout", "attributes": {"encoding": "json", **attributes}}},
        "system": [{"level": system, "sink": "out"}],
        "functions": [{"level": functions, "sink": "own"}]}}


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("level, expected", [("debug", "diwe"), ("warn", "we"), ("error", "e")])
def test_level_of_functions(start, handler, level, expected):
    """Apart from that of the system, and from what a client asks for."""
    s = start(handler, workers=1, platform=platform("info", level))
    assert messages(ask(s, ALL)) == list("diwe")
    wait_until(lambda: messages(function_log(s))[-1:] == ["e"])
    assert messages(function_log(s)) == list(expected)
    assert s.log("Listening")


def test_function_decides_about_its_level(start):
    s = start("logs", platform=platform("debug", "debug"), spec={"loggerSinks": [{"level": "warn"}]})
    s.post(ALL)
    wait_until(lambda: messages(function_log(s))[-1:] == ["e"])
    assert messages(function_log(s)) == ["w", "e"]
    assert any(r["level"] == "info" for r in s.log())


def test_function_decides_about_its_sink(start):
    """One of the platform's, by name; the processor's own records stay where they were."""
    both = platform("debug", "debug", varGroupName="more")
    both["logger"]["functions"] = both["logger"]["system"]
    s = start("logs", platform=both, spec={"loggerSinks": [{"level": "warn", "sink": "own"}]})
    s.post(ALL)
    wait_until(lambda: messages(function_log(s))[-1:] == ["e"])
    assert all("more" in r for r in function_log(s))
    assert not any("more" in r for r in s.log("Listening"))


@pytest.mark.parametrize("attributes, keys, form", [
    ({}, ["level", "time", "name", "message", "event"], r"\d{13}\.\d{3}"),
    ({"timeFieldName": "at", "timeFieldEncoding": "iso8601"},
     ["level", "at", "name", "message", "event"], r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"'),
    ({"varGroupName": "more"}, ["level", "time", "name", "message", "more"], r"\d{13}\.\d{3}")])
def test_json_form(start, attributes, keys, form):
    s = start("logs", platform=platform("info", "info", **attributes))
    s.post(b"info hello")
    found = s.wait_log("hello")
    assert list(found) == keys
    line = next(text for text in s.stdout().splitlines() if '"hello"' in text)
    assert re.search(rf'"(time|at)":{form},', line)
    if "more" in keys:
        assert list(found["more"]) == ["event"]


def test_flattened_group(start):
    s = start("logs", platform=platform("info", "info", varGroupName="more",
                                        varGroupMode="flattened"))
    s.post(b"info hello")
    assert re.fullmatch(r"event=[0-9a-f-]{36}", s.wait_log("hello")["more"])


def test_console(start):
    """Nuclio's line: date, level, name in 25 columns, message, variables."""
    s = start("logs", ready=False, platform={"logger": {"sinks": {}, "system": [
        {"level": "info", "sink": "stdout"}]}})
    form = (r"\d\d\.\d\d\.\d\d \d\d:\d\d:\d\d\.\d{3} \(I\) {12}processor.http Listening "
            r'\{"trigger": "http", "address": "127.0.0.1:\d+"\}')
    end = time.monotonic() + patience(10)
    while not re.search(form, s.stdout()):
        assert time.monotonic() < end, s.stdout()
        time.sleep(0.02)
    s.wait_ready()


def test_level_change_while_it_runs(start, tmp_path):
    address = str(tmp_path / "a")
    s = start("logs", platform=platform("info", "error") | {
        "webAdmin": {"listenAddress": f"unix:{address}"}})
    s.post(b"info hidden")
    with Connection(address, patience(10)) as c:
        assert c.ask("PUT", "/logger/level", b'{"functions": "info"}').status == 200
    s.post(b"info shown")
    s.wait_log("shown")
    assert s.log("hidden") == []
