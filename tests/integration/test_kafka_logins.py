"""How the kafka trigger logs in: SCRAM and certificates, from files."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka_broker import PASSWORD, USER, Broker, Pki
from kafka_client import Client
from kafka_command import Command
from kafka_function import RECORDER, Function, numbered
from stator_proc import patience, wait_until


@pytest.fixture(name="broker", scope="module")
def broker_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One with logins."""
    with Broker(tmp_path_factory.mktemp("kafka"), secure=True) as broker:
        yield broker


def scram(pki: Pki, folder: Path) -> dict[str, Any]:
    """TLS and a password that lies in a file."""
    (folder / "password").write_text(PASSWORD, "ascii")
    return {"caCert": str(pki.ca), "secretPath": str(folder),
            "sasl": {"enable": True, "mechanism": "SCRAM-SHA-256", "user": USER,
                     "password": "password"}}


def mutual(pki: Pki, _folder: Path) -> dict[str, Any]:
    """TLS with a certificate of the client, all from files."""
    return {"caCert": str(pki.ca), "accessKey": str(pki.key), "accessCertificate": str(pki.cert)}


THROWER = RECORDER + """
def handler(context, event):
    note(event)
    if event.body == b"throw":
        raise ValueError("no good")
"""


@pytest.mark.parametrize("listener, login", [("SASL_SSL", scram), ("SSL", mutual)],
                         ids=["scram", "mtls"])
def test_logins(broker: Broker, kafka: Client, function: Callable[..., Function], tmp_path: Path,
                listener: str, login: Callable[[Pki, Path], dict[str, Any]]) -> None:
    """Messages are read, dead letters written, positions committed."""
    assert broker.pki is not None
    topic, dead = kafka.create_topic(2), kafka.create_topic(1)
    kafka.produce(topic, [*numbered(40, 4), ("bad", "throw")])
    f = function(topic, THROWER, workers=1, retry={"maxAttempts": 2, "base": "10ms"},
                 deadLetter={"topic": dead}, attributes={
                     "brokers": [broker.address(listener)]} | login(broker.pki, tmp_path))
    f.start()
    f.wait_for(41)
    f.wait_committed()
    assert [m.value() for m in kafka.read(dead)] == [b"throw"]


@pytest.mark.parametrize("wrong", ["password", "authority"])
def test_refused_logins(broker: Broker, kafka: Client, function: Callable[..., Function],
                        tmp_path: Path, wrong: str) -> None:
    """The processor runs, /status says why nothing comes, and no secret is in the log."""
    assert broker.pki is not None
    topic = kafka.create_topic(1)
    login = scram(broker.pki, tmp_path)
    if wrong == "password":
        login["sasl"]["password"] = "not-the-password"
    else:
        login["caCert"] = str(broker.pki.other_ca)
    f = function(topic, workers=1, attributes={"brokers": [broker.address("SASL_SSL")]} | login)
    s = f.start()
    word = "authentication" if wrong == "password" else "certificate"
    wait_until(lambda: word in " ".join(s.status()["reasons"]).lower(), 20, f"{word} in /status")
    wait_until(lambda: s.log("The broker can't be used"), 20, "it is in the log")
    assert s.ready() == 200
    assert "not-the-password" not in s.stdout() + s.stderr()
    assert PASSWORD not in s.stdout() + s.stderr()


@pytest.mark.parametrize("verb", ["lag", "peek"])
def test_command_with_a_refused_login(broker: Broker, kafka: Client, tmp_path: Path, verb: str) -> None:
    """What is wrong is said, and no secret with it; the right password is all that it needs."""
    assert broker.pki is not None
    topic = kafka.create_topic(1)
    kafka.produce(topic, ["x"])
    c = Command(tmp_path, kafka, [topic])
    trigger = {"kind": "kafka", "attributes": {
        "topics": [topic], "consumerGroup": c.group, "initialOffset": "earliest",
        "brokers": [broker.address("SASL_SSL")]} | scram(broker.pki, tmp_path)}
    c.write({"k": trigger})
    c.run(verb)
    (tmp_path / "password").write_text("not-the-password", "ascii")
    said = c.run(verb, timeout=f"{patience(5):g}s", status=3).stderr
    assert f"no connection to {broker.address('SASL_SSL')}: " in said
    assert "authentication" in said.lower() and "not-the-password" not in said
    assert said.count("\n") == 1
