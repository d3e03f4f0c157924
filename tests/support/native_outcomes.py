"""What the handler tests/unit/handlers/outcome.c answers, wherever it runs: the body that asks for it,
status, body and content type of the answer."""

OUTCOMES = [
    (b"empty", 200, b"", None),
    (b"ok-after-fail", 200, b"", None),
    (b"last-reply", 202, b"this one", "text/plain; charset=utf-8"),
    (b"plain error", 500, b"", None),
    (b"error-418", 418, b"I am a teapot", "text/plain; charset=utf-8"),
    (b"error-bad-status", 500, b"no such status", "text/plain; charset=utf-8"),
    (b"error-after-reply", 500, b"", None),
    (b"reject", 400, b"poison", "text/plain; charset=utf-8"),
    (b"unknown", 500, b"", None),
    (b"token-without-defer", 200, b"at once", "text/plain; charset=utf-8"),
    (b"defer-without-token", 500, b"handler returned STATOR_DEFER without a token of defer()",
     "text/plain; charset=utf-8"),
]
