"""The subject: how stator is started here, on ports that are free.

As a program, `subject.py DIR PORT [CONFIG]` prints the command for instr.sh, one word a line.
"""

import os
import sys
from pathlib import Path

import procs

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = Path(os.environ.get("STATOR_BUILD", ROOT / "build")).resolve()
BINARY = Path(os.environ.get("STATOR", BUILD / "stator")).resolve()
OUT = Path(os.environ.get("BENCH_OUT", BUILD / "bench")).resolve()

PLATFORM = """\
healthCheck: {{enabled: true, listenAddress: "127.0.0.1:{health}"}}
webAdmin: {{enabled: false}}
metrics:
  sinks:
    scrape: {{kind: prometheusPull, url: "127.0.0.1:{metrics}"}}
  system: [scrape]
  functions: [scrape]
"""


def command(scratch, port, config="native.yaml", health=None):
    """argv that runs a configuration of this folder in the foreground, on one I/O loop. The
    working directory must be ROOT: handler paths are relative to it."""
    scratch = Path(scratch)
    platform = scratch / f"platform-{port}.yaml"
    spare, metrics = procs.free_ports(2)
    platform.write_text(PLATFORM.format(health=health or spare, metrics=metrics))
    path = HERE / config
    if BUILD != ROOT / "build":         # another build tree: its own handlers
        text = path.read_text().replace("build/bench/", f"{BUILD}/bench/")
        path = scratch / config
        path.write_text(text)
    return [str(BINARY), "run", "--config", str(path), "--platform-config", str(platform),
            "--port", str(port), "--loops", "1"]


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: subject.py DIR PORT [CONFIG]")
    print("\n".join(command(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])))
