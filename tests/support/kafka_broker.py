#!/usr/bin/env python3
"""A real Kafka for tests: brokers in KRaft mode, each in a process group of its own.

    with Broker(tmp_path) as broker:
        broker.kill()           # kill -9
        broker.start()          # the same ports, the same data
        with broker.paused():   # SIGSTOP ... SIGCONT
            ...

Broker(secure=True) has listeners with TLS, SASL and both: broker.address("SASL_SSL"). Its users are
USER with PASSWORD, by PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512; its certificates lie in broker.pki.

As a program it is one broker at 127.0.0.1:9092, for the examples, until ^C.

The jars are those of build/kafka/VERSION; tests/support/kafka.sh fetches them.
"""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from stator_proc import ROOT, patience, wait_until

VERSION = "3.9.1"
NEXT_VERSION = "4.1.1"
USER, PASSWORD = "alice", "alice-secret"
CLUSTER_ID = "c3RhdG9yLWthZmthLXRlcw"  # 16 bytes, as StorageTool writes them
START_SECONDS = 60
SECURE = ("SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
JAVA = ("java -Xms96m -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto"
        " -Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        " -Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info").split()


def free_ports(count: int) -> list[int]:
    """Different loopback TCP ports, below those that the kernel gives to clients: nobody gets one
    while its broker is away for a moment."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        low = 10000 + os.getpid() * 37 % 20000
        for port in [*range(low, 32000), *range(10000, low)]:
            s = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                s.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return found
    raise AssertionError("no free ports")


class Pki:
    """Certificates in PEM: ca.pem; server.pem and client.pem with their keys in *.key; and
    server.all, key and chain in one file. other-ca.pem has signed none of them."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.dir = folder
        self.ca, self.other_ca = folder / "ca.pem", folder / "other-ca.pem"
        self.cert, self.key = folder / "client.pem", folder / "client.key"
        for name in ("ca", "other-ca"):
            self._openssl(f"req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN={name} "
                          f"-keyout {name}.key -out {name}.pem")
        (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n", "ascii")
        for name in ("server", "client"):
            self._openssl(f"req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key "
                          f"-out {name}.csr")
            self._openssl(f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial "
                          f"-days 30 -extfile names -out {name}.pem")
        parts = [(folder / n).read_text("ascii") for n in ("server.key", "server.pem", "ca.pem")]
        (folder / "server.all").write_text("".join(parts), "ascii")

    def _openssl(self, words: str) -> None:
        done = subprocess.run(["openssl", *shlex.split(words)], cwd=self.dir, check=False,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


class Broker:
    """One node, ready when the constructor returns (unless start=False).

    config      further lines of server.properties, which win
    secure      also with the listeners of SECURE; the TLS of SSL wants a client's certificate
    proxied     ports of proxies: listener PROXY1, PROXY2 ... each, whose clients are sent there
    voters      of a Cluster: node id -> port of its controller
    """

    def __init__(self, folder: Path, *, version: str = VERSION, secure: bool = False,
                 config: dict[str, object] | None = None, proxied: Sequence[int] = (),
                 node: int = 1, ports: list[int] | None = None,
                 voters: dict[int, int] | None = None, start: bool = True):
        self.dir = Path(folder) / f"kafka-{node}"
        self.dir.mkdir(parents=True)
        self.jars = ROOT / "build" / "kafka" / version
        subprocess.run([ROOT / "tests/support/kafka.sh", version], check=True)
        proxies = {f"PROXY{i + 1}": port for i, port in enumerate(proxied)}
        names = ["PLAINTEXT", *(SECURE if secure else ()), *proxies]
        numbers = ports or free_ports(len(names) + 1)
        self.ports = dict(zip(["CONTROLLER", *names], numbers))
        self.pki = Pki(self.dir / "pki") if secure else None
        self.log_file = self.dir / "broker.log"
        self.popen: subprocess.Popen[bytes] | None = None
        lines = self._properties(node, names, voters, proxies) | (config or {})
        self.properties = self.dir / "server.properties"
        self.properties.write_text("".join(f"{k}={v}\n" for k, v in lines.items()), "utf-8")
        self._format(secure)
        if start:
            self.start()

    def _properties(self, node: int, names: list[str], voters: dict[int, int] | None,
                    proxies: dict[str, int]) -> dict[str, object]:
        voters = voters or {node: self.ports["CONTROLLER"]}
        copies = len(voters)
        told = {n: self.ports[n] for n in names} | proxies
        lines: dict[str, object] = {
            "process.roles": "broker,controller",
            "node.id": node,
            "controller.quorum.voters": ",".join(f"{n}@127.0.0.1:{p}" for n, p in voters.items()),
            "listeners": ",".join(f"{n}://127.0.0.1:{p}" for n, p in self.ports.items()),
            "advertised.listeners": ",".join(f"{n}://127.0.0.1:{p}" for n, p in told.items()),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": ",".join(
                ["CONTROLLER:PLAINTEXT",
                 *(f"{n}:{'PLAINTEXT' if n in proxies else n}" for n in names)]),
            "log.dirs": self.dir / "data",
            "num.partitions": 4,
            "default.replication.factor": copies,
            "offsets.topic.replication.factor": copies,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": min(copies, 2),
            "transaction.state.log.num.partitions": 4,
            "min.insync.replicas": min(copies, 2),
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            "message.max.bytes": 16 << 20,
            "log.cleaner.enable": "false",
            "log.retention.ms": -1,  # tests send messages of long ago, too
            "num.network.threads": 1,
            "num.io.threads": 2,
        }
        # A broker that was killed comes back when its session with the controller is over.
        lines |= {"broker.session.timeout.ms": 4000, "broker.heartbeat.interval.ms": 1000}
        if copies > 1:
            lines |= {"controller.quorum.election.timeout.ms": 1000,
                      "controller.quorum.fetch.timeout.ms": 2000}
        if self.pki:
            lines |= {"ssl.keystore.type": "PEM", "ssl.truststore.type": "PEM",
                      "ssl.keystore.location": self.pki.dir / "server.all",
                      "ssl.truststore.location": self.pki.ca,
                      "listener.name.ssl.ssl.client.auth": "required",
                      "sasl.enabled.mechanisms": ",".join(MECHANISMS)}
            for name in ("sasl_plaintext", "sasl_ssl"):
                for mechanism in MECHANISMS:
                    scram = mechanism.startswith("SCRAM")
                    lines[f"listener.name.{name}.{mechanism.lower()}.sasl.jaas.config"] = (
                        "org.apache.kafka.common.security."
                        + ("scram.ScramLoginModule" if scram else "plain.PlainLoginModule")
                        + " required" + ("" if scram else f' user_{USER}="{PASSWORD}"') + ";")
        return lines

    def _java(self, *words: str) -> list[str]:
        return [*JAVA, "-cp", f"{self.jars}/*", *words]

    def _format(self, secure: bool) -> None:
        users = []
        for mechanism in MECHANISMS[1:] if secure else ():
            users += ["--add-scram", f"{mechanism}=[name={USER},password={PASSWORD}]"]
        done = subprocess.run(
            self._java("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c",
                       str(self.properties), *users),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def __enter__(self) -> "Broker":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    # Life

    def launch(self) -> None:
        """Starts it without waiting; wait_ready() does."""
        assert not self.is_running()
        with open(self.log_file, "wb") as log:
            self.popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL",
                 *self._java("kafka.Kafka", str(self.properties))],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.dir,
                start_new_session=True)

    def start(self) -> None:
        """Starts it, again too, on its ports and data; returns when it serves."""
        self.launch()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise

    def wait_ready(self) -> None:
        """Returns when it serves."""
        def ready() -> bool:
            assert self.is_running(), "ended\n" + self.log()
            return "Kafka Server started" in self.log()
        wait_until(ready, START_SECONDS, f"broker\n{self.log()}")

    def is_running(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    def signal(self, number: int) -> None:
        """To its whole group."""
        assert self.popen is not None
        os.killpg(self.popen.pid, number)

    def stop(self) -> None:
        """SIGTERM; returns when it has ended."""
        assert self.popen is not None
        self.signal(signal.SIGTERM)
        self.popen.wait(patience(60))

    def kill(self) -> None:
        """kill -9, whatever state it is in."""
        if self.popen is not None:
            if self.is_running():
                self.signal(signal.SIGKILL)
            self.popen.wait()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stopped by SIGSTOP for a while."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def address(self, listener: str = "PLAINTEXT") -> str:
        """host:port of a listener."""
        return f"127.0.0.1:{self.ports[listener]}"


class Cluster:
    """Three nodes, replication 3, min ISR 2; ready when the constructor returns."""

    def __init__(self, folder: Path, *, version: str = VERSION, size: int = 3,
                 config: dict[str, object] | None = None):
        ports = free_ports(2 * size)
        voters = {n + 1: ports[n] for n in range(size)}
        self.nodes: list[Broker] = []
        try:
            for n in range(size):
                self.nodes.append(Broker(folder, version=version, config=config, node=n + 1,
                                         ports=[ports[n], ports[size + n]], voters=voters,
                                         start=False))
            for node in self.nodes:
                node.launch()
            for node in self.nodes:
                node.wait_ready()
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def address(self) -> str:
        """All of them, as bootstrap.servers has it."""
        return ",".join(node.address() for node in self.nodes)

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()


def serve_examples() -> None:
    """One broker at the usual port, with an empty folder, until it is interrupted."""
    with (contextlib.suppress(KeyboardInterrupt), tempfile.TemporaryDirectory() as folder,
          Broker(Path(folder), ports=[9093, 9092]) as broker):
        print(f"Kafka {VERSION} serves {broker.address()}; ^C ends it.", flush=True)
        signal.pause()


if __name__ == "__main__":
    serve_examples()
