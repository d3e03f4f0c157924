#!/usr/bin/env python3
"""Measures stator beside reference servers, in interleaved rounds.

The server and its children run on one core, the client on another, so throughput says little by
itself: compare "per core", requests served per CPU second of the server's whole process tree, and
its ratio to the limit of the same round. README.md says how to read the table.
"""

import argparse
import fnmatch
import json
import os
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path

import cases
import procs
import report
import streams
import subject

EXTRA_TRIES = 4     # for one server of one case, beyond the rounds, when runs are noisy


def parse_args():
    """Command line; opt.suts becomes a dict of name -> (command, url), opt.cases a list."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--case", nargs="+", default=["http-*"], metavar="NAME",
                   help="cases or patterns ('http-*', the default; 'all')")
    p.add_argument("--list", action="store_true", help="list the cases and stop")
    p.add_argument("--table", action="store_true", help="print Markdown for docs/benchmarks.md")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=int, default=2, help="length of one run, but for streams")
    p.add_argument("--messages", type=int, help="of a stream, read at most so many in one run")
    p.add_argument("--only", nargs="+", metavar="SERVER",
                   help="of the references, only these (and the limit)")
    p.add_argument("--no-stator", action="store_true",
                   help="leave out the stator of this tree: only references and --sut-cmd")
    p.add_argument("--sut-name", action="append", default=[],
                   help="one more subject, for instance another build; repeatable, with --sut-cmd")
    p.add_argument("--sut-cmd", action="append", default=[],
                   help="its foreground command; {port} {case} {config} are filled in")
    p.add_argument("--url", action="append", default=[],
                   help="where it answers (http://127.0.0.1:{port}/)")
    p.add_argument("--server-core", type=int, default=0)
    p.add_argument("--client-core", type=int, default=1)
    p.add_argument("--foreign", type=float, default=0.15,
                   help="discard runs with more foreign CPU than this, in cores")
    p.add_argument("--quiet-wait", type=float, default=60, help="seconds a case may wait for quiet")
    p.add_argument("--json", type=Path, help="also write every run to this file")
    p.add_argument("--out", type=Path, default=subject.OUT, help="where the built programs are")
    opt = p.parse_args()
    names = opt.sut_name or ["sut"] * len(opt.sut_cmd)
    urls = opt.url + ["http://127.0.0.1:{port}/"] * (len(names) - len(opt.url))
    if len(names) != len(opt.sut_cmd) or len(set(names)) != len(names):
        p.error("each --sut-name needs its own --sut-cmd")
    if set(names) & {*cases.SERVERS, *cases.SUBJECTS}:
        p.error("a --sut-name may not be one of the kit's own names")
    opt.suts = dict(zip(names, zip(opt.sut_cmd, urls)))
    patterns = ["*" if c == "all" else c for arg in opt.case for c in arg.split(",")]
    opt.cases = [c for c in cases.CASES.values()
                 if any(fnmatch.fnmatch(c.name, pattern) for pattern in patterns)]
    if not opt.cases:
        p.error("no such case; see --list")
    return opt


def fill(template, values):
    """Replaces {name} by its value; other braces stay as they are."""
    for key, value in values.items():
        template = template.replace("{" + key + "}", value)
    return template


def start_command(opt, case, name, place):
    """argv and URL of any competitor."""
    url = f"http://127.0.0.1:{place.port}/"
    if name in opt.suts:
        values = {"port": str(place.port), "case": case.name,
                  "config": f"tests/bench/{cases.SUBJECTS[case.subjects[0]]}"}
        argv, url = (fill(part, values) for part in opt.suts[name])
        return shlex.split(argv), url
    if name in cases.SUBJECTS:
        return cases.subject_command(name, place), url
    server = cases.SERVERS[name]
    return server.argv(place), url + (server.echo_path if case.echo else "")


def run_http(opt, case, name, gate):
    """One run of one server: start, warm up, measure, stop."""
    place = cases.Place(opt.out, opt.dir, procs.free_port())
    argv, url = start_command(opt, case, name, place)
    server = procs.Process(argv, opt.server_core, opt.dir / f"{name}.log", cwd=subject.ROOT)
    try:
        server.wait_port(place.port)
        warm = cases.run_client(case, place, url, cases.CLIENTS[case.client].warm_up,
                                opt.client_core)
        if warm["error"]:
            return warm
        gate.wait(server)
        window = procs.Window(server)
        result = cases.run_client(case, place, url, opt.seconds, opt.client_core)
        wall, (cpu,), foreign = window.close()
        return {**result, "server_cpu": cpu, "wall": wall, "foreign": foreign}
    finally:
        server.stop()


def run_kafka(opt, case, name, gate):
    """One run of one consumer (or producer) on a topic that was filled before."""
    if opt.kafka is None:
        opt.kafka = streams.Kafka(opt.dir, opt.out)
    stream = opt.kafka.stream(case.messages, min(case.count, opt.messages or case.count))
    place = cases.Place(opt.out, opt.dir, None, stream)
    argv = start_command(opt, case, name, place)[0]
    gate.wait(opt.kafka)
    if name in cases.SERVERS:
        result = streams.run_limit(opt.kafka, argv, opt.server_core, opt.dir)
    else:
        result = streams.run_subject(stream, opt.kafka, argv, opt.server_core, opt.dir,
                                     name in cases.SUBJECTS)
    if case.echo and opt.kafka.end(stream.target) < stream.count * streams.LAST:
        result["error"] = "messages were not published"
    return result


# How a case is run: (opt, case, name, gate) -> result with total, req_s and error, and unless
# there was an error, server_cpu, wall and foreign.
RUNNERS = {"http": run_http, "kafka": run_kafka}


def run_once(opt, case, name, gate):
    """One run of any kind; its result always has total, req_s, error."""
    try:
        result = RUNNERS[case.runner](opt, case, name, gate)
    except (RuntimeError, OSError) as error:
        result = {"total": 0, "req_s": None, "error": str(error)}
    if not result["error"] and result["server_cpu"] > 0:
        result["per_core"] = result["total"] / result["server_cpu"]
    return result


def competitors(opt, case):
    """Names of those that can run here, the limit first."""
    found = []
    for name in case.servers:
        if opt.only and name not in opt.only and name != case.servers[0]:
            continue
        lack = cases.missing(cases.SERVERS[name].needs, opt.out)
        if lack is None:
            found.append(name)
        elif name == case.servers[0]:
            sys.exit(f"bench.py: {lack} is not built")
        else:
            opt.left_out.setdefault(name, f"{name} is left out: no {lack} (see setup.sh)")
    return found + ([] if opt.no_stator else list(case.subjects)) + list(opt.suts)


def measure(opt, case):
    """All rounds of a case: name -> one result a round."""
    names = competitors(opt, case)
    results = {name: [] for name in names}
    tries_left = dict.fromkeys(names, EXTRA_TRIES)
    gate = procs.QuietGate(opt.foreign, opt.quiet_wait)
    for number in range(opt.rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            best = run_once(opt, case, name, gate)
            while not best["error"] and best["foreign"] > opt.foreign and tries_left[name] > 0:
                tries_left[name] -= 1
                again = run_once(opt, case, name, gate)
                if again["error"] or again["foreign"] < best["foreign"]:
                    best = again
            best["noisy"] = not best["error"] and best["foreign"] > opt.foreign
            results[name].append(best)
            if sys.stderr.isatty():
                print(f"\r  {case.name} round {number + 1} {name:20}", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    return results


def run_cases(opt):
    """Runs and shows the chosen cases; case name -> what measure() gave."""
    everything = {}
    for case in opt.cases:
        needs = cases.CLIENTS[case.client].needs if case.runner == "http" else "java"
        if lack := cases.missing((needs,), opt.out):
            opt.left_out.setdefault(case.name, f"{case.name} is left out: no {lack}")
            continue
        everything[case.name] = results = measure(opt, case)
        if not opt.table:
            report.show(case, results)
        if opt.json:    # after each case, so that an interrupted run keeps what it has
            opt.json.write_text(json.dumps({"time": time.time(), "load": os.getloadavg(),
                                            "cases": everything}, indent=1) + "\n")
    if opt.table:
        report.table(everything, opt)
    for line in opt.left_out.values():
        print(line)
    return everything


def main():
    """Runs the chosen cases; the exit status is 1 if any run was invalid."""
    opt = parse_args()
    if opt.list:
        for case in opt.cases:
            print(f"{case.name:18} {case.what} ({', '.join(case.servers + case.subjects)})")
        return 0
    if not {opt.server_core, opt.client_core} <= os.sched_getaffinity(0):
        sys.exit("bench.py: needs the two cores named by --server-core and --client-core")
    if not opt.no_stator and not subject.BINARY.exists():
        sys.exit(f"bench.py: {subject.BINARY} is not built (--no-stator: references alone)")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    procs.adopt_orphans()
    os.sched_setaffinity(0, {opt.client_core})
    opt.left_out = {}
    if not opt.no_stator and report.build_type() == "Debug":
        print("This is a Debug build: its figures say nothing about stator.\n")
    with tempfile.TemporaryDirectory(dir=opt.out, prefix="run-") as directory:
        opt.dir = Path(directory)
        opt.dir.chmod(0o755)        # nginx gives up root and must still read its files
        opt.kafka = None
        try:
            everything = run_cases(opt)
        finally:
            if opt.kafka is not None:
                opt.kafka.stop()
    return any(r["error"] for c in everything.values() for runs in c.values() for r in runs)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        procs.kill_own()
