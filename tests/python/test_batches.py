"""Batches: lists of events in, a Response for each out, and what is wrong with results."""

import pytest

HANDLER = '''
import asyncio
from nuclio_sdk import Response
def answer(context, events):
    case = events[0].path
    if case == "/raise":
        raise ValueError("oh no")
    if case == "/text":
        return "text"
    if case == "/none":
        return []
    if case == "/one":
        return [Response(body="x", event_id=events[-1].id)]
    if case == "/no-id":
        return [Response(body="x") for event in events]
    if case == "/foreign":
        return [Response(body="x", event_id="nobody")] + good(events) + ["x", 5]
    if case == "/wrong":
        return [Response(body="x", status_code="1", event_id=events[0].id)] + good(events[1:])
    if case == "/stream":
        return [Response(body=(c for c in "abc"), event_id=events[0].id)] + good(events[1:])
    if case == "/log":
        context.logger.info("batch")
    return good(events)
def good(events):
    return [Response(body=f"{event.body.decode()}{len(events)}{event.last_in_batch}",
                     status_code=201, event_id=event.id) for event in reversed(events)]
def handler(context, events):
    assert isinstance(events, list)
    return answer(context, events)
async def asynchronous(context, events):
    await asyncio.sleep(0)
    return handler(context, events)
'''


@pytest.fixture(params=["handler", "asynchronous"])
def worker(request, peer):
    return peer(HANDLER, f"h:{request.param}", batch=True)


def run(worker, path, count=3, **kw):
    sent = worker.send_batch([{"body": str(i), "path": path, **kw} for i in range(count)])
    return [worker.answer(seq) for seq in sent]


def test_batch(worker):
    assert worker.ready["batch"]
    for _ in range(2):
        answers = run(worker, "/")
        assert [one.text for one in answers] == ["03False", "13False", "23True"]
        assert {one.status for one in answers} == {201}
    assert [one.text for one in run(worker, "/", 1)] == ["01True"]
    assert len(run(worker, "/", 200)) == 200


def test_one_event_is_a_batch_of_one(worker):
    assert worker.call("x").text == "x1True"


def test_exception_answers_each(worker):
    for one in run(worker, "/raise"):
        assert one.status == 500 and one.outcome == 1
        assert one.text.startswith('Exception caught in handler - "oh no": Traceback')
    assert {log.message for log in worker.logs} == {"Exception caught in handler"}
    assert run(worker, "/")[0].status == 201


def test_no_list(worker):
    for one in run(worker, "/text"):
        assert one.status == 500
        assert one.text == "a batch handler gives back a list of Response, not str"


def test_results_that_fit_no_event(worker):
    for case in ("/none", "/no-id"):
        for one in run(worker, case):
            assert one.status == 500
            assert one.text == ("the batch's result has no Response with event_id "
                                + worker.ids[one.seq])
    assert [one.status for one in run(worker, "/one")] == [500, 500, 200]
    assert [one.status for one in run(worker, "/foreign")] == [201, 201, 201]


def test_one_wrong_result(worker):
    answers = run(worker, "/wrong")
    assert [one.status for one in answers] == [500, 201, 201]
    assert "Result.status_code of type int" in answers[0].text
    answers = run(worker, "/stream")
    assert [one.status for one in answers] == [500, 201, 201] and "streamed" in answers[0].text


def test_one_unreadable_event(worker):
    sent = worker.send_batch([{"body": "a", "path": "/"}, {"body": "b", "path": b"/\xff"},
                              {"body": "c", "path": "/"}])
    assert [worker.answer(seq).status for seq in sent] == [201, 500, 201]
    sent = worker.send_batch([{"body": "b", "path": b"/\xff"}])
    assert worker.answer(sent[0]).status == 500


def test_log_of_a_batch_belongs_to_its_first_event(worker):
    answers = run(worker, "/log")
    assert [log.seq for log in worker.logs] == [answers[0].seq]
    assert answers[0].flags == 2


def test_cloud_events_in_a_batch_have_their_own(peer):
    one = peer("from nuclio_sdk import Response\ndef handler(context, events):\n"
               "    return [Response(body=event.type + event.trigger.kind, event_id=event.id)\n"
               "            for event in events]\n", batch=True)
    sent = one.send_batch([
        {"headers": [("ce-specversion", "1.0"), ("ce-type", f"t{i}"), ("ce-source", f"s{i}"),
                     ("ce-id", f"i{i}")]} for i in range(3)] + [{}])
    assert [one.answer(seq).text for seq in sent] == ["t0s0", "t1s1", "t2s2", "http"]


def test_batch_of_a_handler_that_turns_out_to_be_asynchronous(peer):
    one = peer(HANDLER + "def plain(context, events):\n    return asynchronous(context, events)\n",
               "h:plain", batch=True)
    assert [a.status for a in run(one, "/")] == [201] * 3
    assert [a.status for a in run(one, "/raise")] == [500] * 3
