"""Toxiproxy: TCP proxies that delay, stall and cut on demand. tests/support/toxiproxy.sh builds it."""

import http.client
import json
import subprocess
from pathlib import Path
from typing import Any

from kafka_broker import free_ports
from stator_proc import ROOT, wait_until

SERVER = ROOT / "build/toxiproxy/2.12.0/server"


def is_there() -> bool:
    """Builds it where it can; False: this machine has no Go for it."""
    return subprocess.run([ROOT / "tests/support/toxiproxy.sh"], check=False).returncode == 0


class Toxiproxy:
    """One server with any number of proxies; ready when the constructor returns."""

    def __init__(self, folder: Path):
        (self.port,) = free_ports(1)
        self.toxics: dict[str, list[str]] = {}
        with open(Path(folder) / "toxiproxy.log", "wb") as log:
            self.popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", str(SERVER), "-host", "127.0.0.1",
                 "-port", str(self.port)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def ready() -> bool:
            try:
                self._ask("GET", "/version")
            except OSError:
                return False
            return True
        try:
            wait_until(ready, 20, "toxiproxy")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Toxiproxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status < 300, f"{method} {path}: {answer.status} {text!r}"
        finally:
            connection.close()

    def add(self, name: str, port: int, upstream: int) -> None:
        """127.0.0.1:port leads to 127.0.0.1:upstream."""
        self._ask("POST", "/proxies", {"name": name, "listen": f"127.0.0.1:{port}",
                                       "upstream": f"127.0.0.1:{upstream}", "enabled": True})

    def delay(self, name: str, milliseconds: int) -> None:
        """Until mend(): so much later, give or take a half, in both directions."""
        for stream in ("upstream", "downstream"):
            self._toxic(name, "latency", stream, latency=milliseconds, jitter=milliseconds // 2)

    def stall(self, name: str) -> None:
        """Until mend(): connections stay, nothing comes through."""
        for stream in ("upstream", "downstream"):
            self._toxic(name, "timeout", stream, timeout=0)

    def cut(self, name: str) -> None:
        """Until mend(): connections are closed, new ones refused."""
        self._ask("POST", f"/proxies/{name}", {"enabled": False})

    def _toxic(self, name: str, kind: str, stream: str, **attributes: int) -> None:
        toxic = f"{kind}-{stream}"
        self._ask("POST", f"/proxies/{name}/toxics",
                  {"name": toxic, "type": kind, "stream": stream, "attributes": attributes})
        self.toxics.setdefault(name, []).append(toxic)

    def mend(self, name: str) -> None:
        """The proxy is as it was at first."""
        for toxic in self.toxics.pop(name, []):
            self._ask("DELETE", f"/proxies/{name}/toxics/{toxic}")
        self._ask("POST", f"/proxies/{name}", {"enabled": True})
