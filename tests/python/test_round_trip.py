"""Events and responses of any shape go through a worker and come back as they were."""

import json
from urllib.parse import parse_qsl

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from protobuf import fields
from wire_peer import Peer

from stator import _json, testing
from stator._worker import control, events, results, wire
from stator.event import TriggerInfo

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True,
                    suppress_health_check=[HealthCheck.function_scoped_fixture,
                                           HealthCheck.too_slow])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=30)
TOKEN = st.text("abcXYZ019-_", min_size=1, max_size=12)
HEADERS = st.lists(st.tuples(TOKEN, LINE), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12)

HANDLER = '''
import json
from stator import Response
def handler(context, event):
    if event.path == "/respond":
        made = event.body
        return Response(dict(made["headers"]), bytes.fromhex(made["body"]), made["type"],
                        made["status"])
    if event.path == "/json":
        return {"value": event.body}
    headers = [(name, value.decode() if event.shard_id >= 0 else value)
               for name, value in event.header_list]
    return json.dumps([event.method, event.path, headers, event.fields,
                       event.raw_body.hex(), event.topic, event.key.hex(), event.offset,
                       event.shard_id, event.content_type])
'''


@pytest.fixture(scope="module")
def worker(tmp_path_factory, plane):
    folder = tmp_path_factory.mktemp("round")
    (folder / "h.py").write_text(HANDLER)
    with Peer("h:handler", folder, **plane) as peer:
        yield peer


@SETTINGS
@given(method=TOKEN, path=TEXT, headers=HEADERS, body=st.binary(max_size=300), topic=TEXT,
       key=st.binary(max_size=20), offset=st.integers(0, 2**64 - 1),
       shard=st.integers(-1, 2**31 - 1), content_type=LINE)
def test_event(worker, method, path, headers, body, topic, key, offset, shard, content_type):
    answer = worker.call(body, method=method, path="/" + path, headers=headers, topic=topic,
                         key=key, offset=offset, shard=shard, content_type=content_type)
    if content_type.lower().startswith("application/cloudevents"):
        return
    if path in ("respond", "json"):
        return
    assert json.loads(answer.text) == [
        method, "/" + path, [list(pair) for pair in headers] + [["content-type", content_type]],
        {}, body.hex(), topic, key.hex(), offset, shard, content_type]


@SETTINGS
@given(status=st.integers(200, 599), content_type=LINE.filter(bool), body=st.binary(max_size=300),
       headers=st.dictionaries(TOKEN, LINE | st.integers(), max_size=5))
def test_response(worker, status, content_type, body, headers):
    answer = worker.call(json.dumps({"status": status, "type": content_type, "body": body.hex(),
                                     "headers": headers}),
                         path="/respond", content_type="application/json")
    assert (answer.status, answer.content_type, answer.body) == (status, content_type, body)
    assert answer.headers == [(name, str(value)) for name, value in headers.items()
                              if name.lower() != "content-type"]


@SETTINGS
@given(VALUES)
def test_json(worker, value):
    answer = worker.call(json.dumps(value), path="/json", content_type="application/json")
    assert json.loads(answer.text) == {"value": value}


@SETTINGS
@given(st.lists(st.tuples(st.integers(1, 30).filter(lambda ident: ident != wire.RECORD),
                          st.binary(max_size=40)), max_size=20),
       st.integers(0, 2**64 - 1), st.integers(0, 255))
def test_records(sections, seq, flags):
    record = wire.pack(wire.RESULT, flags, seq, sections)
    assert len(record) % 16 == 0
    assert wire.record_head.unpack_from(record)[2:] == (wire.RESULT, flags, seq)
    assert [(ident, record[at:at + size]) for ident, at, size in wire.sections(record)] == sections


@SETTINGS
@given(st.binary(max_size=120))
def test_bytes_that_are_no_record(data):
    record = data.ljust(16, b"\0")
    record = len(record).to_bytes(4, "little") + record[4:]
    try:
        events.decode(events.Source([]), record)
    except (wire.BrokenRecord, events.UnreadableEvent):
        pass


@SETTINGS
@given(st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=9))
def test_headers(headers):
    assert wire.unpack_headers(wire.pack_headers(headers)) == headers


@SETTINGS
@given(st.lists(st.tuples(TEXT, TEXT), max_size=6))
def test_fields(pairs):
    from urllib.parse import urlencode

    query = urlencode(pairs).encode()
    seen = []

    class Fake:
        _source = events.Source([TriggerInfo()])

        def _bytes(self, ident):
            seen.append(ident)
            return query

    assert events._fields(Fake()) == dict(parse_qsl(query.decode(), keep_blank_values=True))


@SETTINGS
@given(st.integers(0, 2**32 - 1), TEXT, st.integers(-2**63, 2**63 - 1), st.booleans(),
       st.lists(st.tuples(TEXT, TEXT), max_size=3))
def test_control_messages(worker_id, text, version, batch, triggers):
    values = {"worker": worker_id, "handler": text, "version": version, "batch": batch,
              "triggers": [{"kind": kind, "name": name} for kind, name in triggers],
              "pool": {"kind": text, "name": ""}}
    data = control.encode(control.CONFIGURE, values)
    found = control.decode(control.CONFIGURE, data + b"\xfa\x01\x03abc")  # a field of the future
    assert {name: found[name] for name in values} == values
    assert found["code_dir"] == "" and found["max_concurrency"] == 0
    if text:
        assert dict(fields(data))[6] == text.encode()


@SETTINGS
@given(st.binary(max_size=60))
def test_bytes_that_are_no_control_message(data):
    try:
        control.decode(control.TO_WORKER, data)
    except (ValueError, IndexError, KeyError, AttributeError, TypeError):
        pass


@SETTINGS
@given(st.recursive(st.none() | st.floats() | st.text() | st.binary(max_size=5) | st.just({1}),
                    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner)
                    | st.dictionaries(st.text() | st.floats(), inner, max_size=3), max_leaves=8))
def test_any_result_is_a_reply(value):
    status, content_type, headers, body = results.to_reply(value)
    assert status == 200 and isinstance(body, bytes) and content_type
    json.loads(_json.encode_variables({"v": value}))
    assert testing.call(lambda context, event: value).body == body
