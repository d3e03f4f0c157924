"""SASL OAUTHBEARER: tokens for client credentials, from an endpoint that is a real HTTP server, to a
broker that looks at them (Kafka's validator of unsigned ones)."""

import base64
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from kafka_broker import Broker
from kafka_client import Client
from kafka_function import RECORDER, Function
from stator_proc import BINARY, patience, wait_until

LIFE = 6
CLIENT, SECRET = "the client", "se:cr%et&"


def part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


class Endpoint:
    """Gives tokens to one client; `status` is what it says to everybody instead. `in_body`: where it
    looks for id and secret."""

    def __init__(self) -> None:
        self.status, self.in_body, self.life = 200, False, LIFE
        self.asked: list[dict[str, list[str]]] = []
        self.given = 0
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                status, body = endpoint.answer(form, self.headers.get("Authorization", ""))
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/token"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, form: dict[str, list[str]], authorization: str) -> tuple[int, dict[str, Any]]:
        self.asked.append(form)
        basic = "Basic " + base64.b64encode(b"the%20client:se%3Acr%25et%26").decode()
        if self.status != 200:
            return self.status, {"error": "temporarily_unavailable"}
        if self.in_body:
            fine = form.get("client_id") == [CLIENT] and form.get("client_secret") == [SECRET]
        else:
            fine = authorization == basic
        if not fine or form.get("grant_type") != ["client_credentials"]:
            return 401, {"error": "invalid_client", "error_description": "who?"}
        self.given += 1
        now = int(time.time())
        token = f"{part({'alg': 'none'})}.{part({'sub': CLIENT, 'iat': now, 'exp': now + self.life})}."
        return 200, {"access_token": token, "token_type": "bearer", "expires_in": self.life}


@pytest.fixture(name="endpoint")
def endpoint_fixture() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()


@pytest.fixture(name="guarded", scope="module")
def guarded_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker whose SASL_PLAINTEXT takes tokens, and ends sessions when they do."""
    prefix = "listener.name.sasl_plaintext."
    with Broker(tmp_path_factory.mktemp("oauth"), secure=True, config={
            f"{prefix}sasl.enabled.mechanisms": "OAUTHBEARER",
            f"{prefix}oauthbearer.connections.max.reauth.ms": 3_600_000,
            f"{prefix}oauthbearer.sasl.jaas.config":
                "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required "
                'unsecuredLoginStringClaim_sub="broker" '
                'unsecuredValidatorAllowableClockSkewMs="3000";'}) as broker:
        yield broker


@pytest.fixture(name="make")
def make_fixture(guarded: Broker, endpoint: Endpoint, tmp_path: Path) -> Iterator[Callable[..., Function]]:
    """make(code, ...): a function that reads a new topic with tokens."""
    made: list[Function] = []

    def make(code: str, **options: Any) -> Function:
        kafka = Client(guarded.address())
        secret = tmp_path / "secret"
        secret.write_text(SECRET + "\n", "utf-8")
        f = Function(tmp_path, kafka, kafka.create_topic(1), code, workers=1, attributes={
            "brokers": [guarded.address("SASL_PLAINTEXT")],
            "sasl": {"enable": True, "mechanism": "OAUTHBEARER", "oauth": {
                "clientID": CLIENT, "clientSecret": str(secret), "tokenURL": endpoint.url,
                "scopes": ["read", "write it"]}}}, **options)
        made.append(f)
        return f
    yield make
    for s in (s for f in made for s in f.started):
        s.kill()


CODE = RECORDER + """
def handler(context, event):
    note(event)
    if event.body == b"dead":
        raise ValueError("to the dead letters")
"""


def test_tokens(endpoint: Endpoint, make: Callable[..., Function]) -> None:
    """The trigger and its dead letters get them, and new ones before they end; commands do, too."""
    f = make(CODE, retry={"maxAttempts": 1}, deadLetter={"topic": "dead"})
    f.kafka.create_topic(1, name="dead")
    s = f.start()
    f.kafka.produce(f.topic, [("k", "dead"), ("k", "1")])
    f.wait_for(2)
    f.wait_committed()
    assert len(f.kafka.read("dead")) == 1
    assert endpoint.asked[0]["scope"] == ["read write it"]
    file = f.dir / "command.yaml"
    file.write_text(json.dumps({"spec": {"runtime": "native", "handler": "x.so",
                                         "triggers": {"k": f.trigger}}}), "utf-8")
    done = subprocess.run([str(BINARY), "kafka", "lag", "--timeout", f"{patience(20):g}s", str(file)],
                          capture_output=True, text=True, check=False, timeout=patience(60))
    assert done.returncode == 0 and ": 0 in 1 partitions" in done.stdout, done.stdout + done.stderr
    given = endpoint.given
    wait_until(lambda: endpoint.given >= given + 4, 10 * LIFE, "new tokens")
    f.kafka.produce(f.topic, [("k", "2")])
    f.wait_for(3)
    s.stop()


def test_endpoint_away(endpoint: Endpoint, make: Callable[..., Function]) -> None:
    """It is asked again; the log says why there is no token; the processor is ready meanwhile."""
    endpoint.status, endpoint.life = 503, 600
    f = make(CODE)
    f.kafka.produce(f.topic, [("k", "1")])
    s = f.start()
    wait_until(lambda: s.log("No token could be fetched"), 20, "a line")
    line = s.log("No token could be fetched")[0]
    assert line["reason"] == "status 503: temporarily_unavailable" and line["url"] == endpoint.url
    assert SECRET not in json.dumps(s.log(""))
    wait_until(lambda: len(endpoint.asked) >= 3, 60, "asked again")
    assert s.ready() == 200
    endpoint.status = 200
    f.wait_for(1, 60)
    assert s.log("Tokens are fetched again")
    s.stop()


def test_credentials_in_the_body(endpoint: Endpoint, make: Callable[..., Function]) -> None:
    """Where the endpoint does not look at the header."""
    endpoint.in_body, endpoint.life = True, 600
    f = make(CODE)
    f.kafka.produce(f.topic, [("k", "1")])
    s = f.start()
    f.wait_for(1)
    assert not s.log("No token could be fetched")
    s.stop()


def test_refused(endpoint: Endpoint, make: Callable[..., Function]) -> None:
    """Who has the wrong secret hears so."""
    f = make(CODE)
    (f.dir / "secret").write_text("wrong", "utf-8")
    s = f.start()
    wait_until(lambda: s.log("No token could be fetched"), 20, "a line")
    assert s.log("No token could be fetched")[0]["reason"] == "status 401: invalid_client, who?"
    wait_until(lambda: s.status()["degraded"], 20, "degraded")
    assert any("invalid_client" in reason for reason in s.status()["reasons"])
    s.stop()
