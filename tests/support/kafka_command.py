"""`stator kafka` for tests."""

import json
import subprocess
from pathlib import Path
from typing import Any

from kafka_client import Client
from stator_proc import BINARY, patience

TIMEOUT = f"{patience(30):g}s"


class Command:
    """stator kafka over a function.yaml of its own, which is JSON."""

    def __init__(self, folder: Path, kafka: Client, topics: list[str], **trigger: Any):
        self.file, self.group = folder / "command.yaml", f"g-{topics[0]}"
        attributes = {"topics": topics, "brokers": [kafka.bootstrap],
                      "consumerGroup": self.group, "initialOffset": "earliest"}
        self.write({"k": {"kind": "kafka", "attributes": attributes} | trigger})

    def write(self, triggers: dict[str, Any], **spec: Any) -> None:
        self.file.write_text(json.dumps({"spec": {
            "runtime": "native", "handler": "x.so", "triggers": triggers} | spec}), "utf-8")

    def run(self, *words: str, status: int = 0, timeout: str = TIMEOUT) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run([str(BINARY), "kafka", words[0], str(self.file), "--timeout", timeout,
                               *words[1:]], capture_output=True, text=True, check=False,
                              timeout=patience(120))
        assert done.returncode == status, done.stdout + done.stderr
        return done
