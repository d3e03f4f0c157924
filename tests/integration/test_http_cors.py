"""CORS on the http trigger: preflights, origins, what replies say, and that off means off."""

import pytest
from http_raw import Response, build_request
from stator_proc import STRAYS, Stator, patience

RULES = {"enabled": True, "allowOrigins": ["https://a.example", "https://B.example"],
         "allowMethods": ["GET", "PUT"], "allowHeaders": ["X-One", "Content-Type"],
         "allowCredentials": True, "exposeHeaders": ["X-Two", "X-Three"],
         "preflightMaxAgeSeconds": 77}
VARY = ["Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"]


def preflight(s: Stator, origin: str | None = "https://a.example", method: str | None = "GET",
              headers: str | None = None, target: str = "/") -> Response:
    """The answer to a preflight; None leaves a header out."""
    sent = [("Origin", origin), ("Access-Control-Request-Method", method),
            ("Access-Control-Request-Headers", headers)]
    return s.request("OPTIONS", target, headers=[(n, v) for n, v in sent if v is not None])


def cors_headers(answer: Response) -> dict[str, str]:
    """Everything that begins with Access-Control-."""
    return {n: v for n, v in answer.headers if n.startswith("Access-Control-")}


def handled(s: Stator, result: str) -> float:
    return s.metric("nuclio_processor_handled_events_total", result=result)


@pytest.fixture(name="ruled", scope="module")
def ruled_fixture(tmp_path_factory):
    """A processor with RULES whose handler echoes."""
    with Stator(tmp_path_factory.mktemp("cors"), "echo", attributes={"cors": RULES}) as s:
        yield s


def test_defaults(start):
    """Only `enabled`: any origin, Nuclio's methods and headers."""
    s = start("echo", attributes={"cors": {"enabled": True}})
    answer = preflight(s, "http://anywhere", "PATCH", "Authorization, X-Nuclio-Log-Level")
    assert answer.status == 200 and answer.body == b"" and answer.all("Vary") == VARY
    assert answer.header("Content-Type") is None and answer.header("Content-Length") == "0"
    assert cors_headers(answer) == {
        "Access-Control-Allow-Origin": "http://anywhere",
        "Access-Control-Max-Age": "5",
        "Access-Control-Allow-Methods": "HEAD, GET, POST, PUT, DELETE, OPTIONS, PATCH",
        "Access-Control-Allow-Headers":
            "Accept, Content-Length, Content-Type, Authorization, X-Nuclio-Log-Level"}
    answer = s.post(b"x", headers=[("Origin", "null")])
    assert answer.body == b"x" and answer.all("Vary") == ["Origin"]
    assert cors_headers(answer) == {"Access-Control-Allow-Origin": "null"}
    assert preflight(s, "http://a", "BREW").status == 400


@pytest.mark.parametrize("origin, method, headers", [
    ("https://a.example", "GET", None), ("https://b.EXAMPLE", "put", None),
    ("https://a.example", "OPTIONS", None), ("https://a.example", "GET", "x-one"),
    ("https://a.example", "GET", "X-ONE, content-type"),
    ("https://a.example", "GET", "content-type,x-one"), ("https://a.example", "GET", ""),
])
def test_preflight_allowed(ruled, origin, method, headers):
    """The answer says all the rules, and echoes the origin as it came."""
    answer = preflight(ruled, origin, method, headers)
    assert answer.status == 200 and answer.body == b"" and answer.all("Vary") == VARY
    assert cors_headers(answer) == {
        "Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true",
        "Access-Control-Max-Age": "77", "Access-Control-Allow-Methods": "GET, PUT",
        "Access-Control-Allow-Headers": "X-One, Content-Type"}


@pytest.mark.parametrize("origin, method, headers", [
    (None, "GET", None), ("", "GET", None), ("https://c.example", "GET", None),
    ("https://a.example:8080", "GET", None), ("https://a.example", "POST", None),
    ("https://a.example", "GET", "X-Two"), ("https://a.example", "GET", "X-One, X-Two"),
    ("https://a.example", "GET", "X-One,,Content-Type"), ("https://a.example", "GET", "X-One,"),
    ("https://a.example", "GET", "X-One Content-Type"),
])
def test_preflight_refused(ruled, origin, method, headers):
    """400, the three Vary headers and nothing about the rules."""
    answer = preflight(ruled, origin, method, headers)
    assert answer.status == 400 and answer.body == b"" and answer.all("Vary") == VARY
    assert cors_headers(answer) == {}


def test_plain_options(ruled):
    """OPTIONS without a requested method is the function's."""
    for method in (None, ""):
        answer = preflight(ruled, method=method)
        assert answer.status == 200 and answer.all("Vary") == ["Origin"]
    assert ruled.request("OPTIONS", "/", b"mine", [("Origin", "https://a.example")]).body == b"mine"


def test_allowed_request(ruled):
    """The reply says who may read it."""
    answer = ruled.post(b"abc", headers=[("Origin", "https://B.EXAMPLE")])
    assert (answer.status, answer.body) == (200, b"abc") and answer.all("Vary") == ["Origin"]
    assert cors_headers(answer) == {
        "Access-Control-Allow-Origin": "https://B.EXAMPLE",
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": "X-Two, X-Three"}


@pytest.mark.parametrize("sent", [[], [("Origin", "")], [("Origin", "https://c.example")]])
def test_refused_request(ruled, sent):
    """Nuclio's empty 200: the handler does not run, the failure is counted."""
    before = handled(ruled, "failure")
    answer = ruled.post(b"abc", headers=sent)
    assert (answer.status, answer.body) == (200, b"") and answer.all("Vary") == ["Origin"]
    assert cors_headers(answer) == {} and answer.header("Content-Type") is None
    ruled.wait_metric(before + 1, "nuclio_processor_handled_events_total", result="failure")


def test_preflights_count(ruled):
    """Allowed ones as a success, others as a failure."""
    well, badly = handled(ruled, "success"), handled(ruled, "failure")
    preflight(ruled)
    preflight(ruled, "https://c.example")
    preflight(ruled, "https://d.example")
    ruled.wait_metric(well + 1, "nuclio_processor_handled_events_total", result="success")
    ruled.wait_metric(badly + 2, "nuclio_processor_handled_events_total", result="failure")


def test_health_path(ruled):
    """It needs no origin; a preflight for it is a preflight."""
    answer = ruled.get("/__internal/health")
    assert answer.status == 200 and answer.all("Vary") == []
    assert preflight(ruled, target="/__internal/health").all("Vary") == VARY


def test_handler_wins(start):
    """What the handler has set is not said twice; it may vary by more."""
    s = start("headers", attributes={"cors": RULES})
    answer = s.get(headers=[("Origin", "https://a.example"), ("Vary", "Accept"),
                            ("access-control-allow-origin", "https://mine")])
    assert answer.all("Access-Control-Allow-Origin") == ["https://mine"]
    assert answer.all("Vary") == ["Accept", "Origin"]
    assert answer.header("Access-Control-Allow-Credentials") == "true"


def test_many_headers(start):
    """More of them than any array of ours has at first."""
    s = start("headers", attributes={"cors": RULES})
    sent = [("Origin", "https://a.example")] + [(f"X-{i}", str(i)) for i in range(200)]
    with s.connect() as c:
        for n in (1, 201, 20):
            answer = c.ask("GET", headers=sent[:n])
            assert answer.header("Access-Control-Allow-Origin") == "https://a.example"
            assert [v for k, v in answer.headers if k.startswith("X-")] == \
                [v for _, v in sent[1:n]]


def test_failures(start):
    """Errors and timeouts say it too: a page may read them."""
    s = start("outcome", attributes={"cors": RULES})
    for body, status in ((b"error-418", 418), (b"reject", 400), (b"retry", 503)):
        answer = s.post(body, headers=[("Origin", "https://a.example")])
        assert answer.status == status
        assert answer.header("Access-Control-Allow-Origin") == "https://a.example"


def test_timeout(start):
    """408 comes from the loop while the handler still has the event."""
    s = start("hang", env=STRAYS, workers=1, spec={"eventTimeout": "200ms"},
              attributes={"cors": RULES})
    answer = s.post(b"hang 500", headers=[("Origin", "https://a.example")], timeout=patience(20))
    assert answer.status == 408
    assert answer.header("Access-Control-Allow-Origin") == "https://a.example"


def test_stream(start):
    """Streamed replies have it in their head."""
    s = start("stream", attributes={"cors": RULES})
    answer = s.post(b"", headers=[("Origin", "https://a.example")])
    assert answer.header("Access-Control-Allow-Origin") == "https://a.example"


def test_pipeline(ruled):
    """Preflights keep their place among other requests."""
    ask = [("Origin", "https://a.example")]
    with ruled.connect() as c:
        c.send(build_request("POST", "/", b"1", ask)
               + build_request("OPTIONS", "/", headers=[*ask, ("Access-Control-Request-Method",
                                                               "PUT")])
               + build_request("POST", "/", b"2") + build_request("POST", "/", b"3", ask))
        answers = [c.read_response() for _ in range(4)]
    assert [(a.status, a.body) for a in answers] == [(200, b"1"), (200, b""), (200, b""),
                                                      (200, b"3")]
    assert answers[1].header("Access-Control-Max-Age") == "77"


@pytest.mark.parametrize("rules", [{}, {"enabled": False, "allowOrigins": ["https://a.example"]}])
def test_off(start, rules):
    """Without `enabled` nothing is answered or added."""
    s = start("echo", attributes={"cors": rules})
    answer = preflight(s)
    assert answer.status == 200 and answer.all("Vary") == [] and cors_headers(answer) == {}
    assert s.post(b"x").body == b"x"


def test_bad_item(start):
    """A list that would break the reply's head is refused at the start."""
    s = start("echo", ready=False,
              attributes={"cors": {"enabled": True, "allowHeaders": ["A\r\nB"]}})
    assert s.wait() == 1
    assert "cors" in s.stderr() + s.stdout()
