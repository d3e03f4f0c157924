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
    if case == "/nothing":
        return None
    if case.startswith("/ordered"):
        return ordered(events, case)
    if case == "/log":
        context.logger.info("batch")
    return good(events)
def good(events):
    return [Response(body=f"{event.body.decode()}{len(events)}{event.last_in_batch}",
                     status_code=201, event_id=event.id) for event in reversed(events)]
def ordered(events, case):
    replies = [Response(body=event.body, event_id=event.id) for event in events]
    replies[0].content_type, replies[1].status_code = "a/b", 404
    odd = replies[2]
    if case.endswith("headers"):
        odd.headers["X-A"] = 1
    elif case.endswith("dict"):
        odd.body = {"a": 1}
    elif case.endswith("id"):
        odd.event_id = None
    elif case.endswith("status"):
        odd.status_code = 700
    elif case.endswith("type"):
        odd.content_type = "a\\r\\nb"
    elif case.endswith("large"):
        odd.body = "x" * 100_000
    elif case.endswith("surrogate"):
        odd.body = "\\udc80"
    elif case.endswith("twice"):
        odd.event_id = events[0].id
    elif case.endswith("attribute"):
        del odd.body
    return replies
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


def test_no_result_at_all_is_one_for_each(worker):
    for one in run(worker, "/nothing"):
        assert (one.status, one.text, one.outcome) == (200, "None", 0)


ODD = {"": (200, "2"), "headers": (200, "2"), "dict": (200, '{"a": 1}'), "id": (500, None),
       "status": (500, None), "type": (200, "2"), "large": (200, "x" * 100_000),
       "surrogate": (200, None), "twice": (500, None), "attribute": (500, None)}


@pytest.mark.parametrize("case", ODD)
def test_results_in_the_order_of_the_events(worker, case):
    """The usual ones, and one among them that is not."""
    answers = run(worker, f"/ordered{case}", 5)
    assert [one.text for one in answers[:2] + answers[3:]] == ["0", "1", "3", "4"]
    assert [one.status for one in answers[:2] + answers[3:]] == [200, 404, 200, 200]
    assert answers[0].content_type == "a/b" and answers[1].content_type == "text/plain"
    status, text = ODD[case]
    assert answers[2].status == status and text in (None, answers[2].text)


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
