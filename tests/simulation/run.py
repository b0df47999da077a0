"""`make simulate SEEDS=1-1000`: run schedules on all cores and report what was found.

Each process has a database of its own. With --trace the trace of one seed is printed; with --twice each seed runs twice
and must give the same trace.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, quantiles
from types import ModuleType
from typing import Any

import psycopg

ROOT = Path(__file__).resolve().parents[2]
# Installed packages have a module `tests`, too, which would come before this folder.
sys.path[0] = str(ROOT)
sys.modules["tests"] = ModuleType("tests")
sys.modules["tests"].__path__ = [str(ROOT / "tests")]

from config.postgres import embedded  # noqa: E402
from config.pytest_plugin import template_database  # noqa: E402
from tests.simulation.sometimes import missing_states  # noqa: E402


def main() -> int:
    """Run the schedules that the arguments name. Return the exit code."""
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__)
    parser.add_argument("seeds", help="the first and the last seed, for example 1-1000")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--twice", action="store_true", help="run each seed twice and compare the traces")
    parser.add_argument("--trace", action="store_true", help="print the trace of each schedule")
    parser.add_argument("--faults", metavar="WORDS", help="plant the faults with these words in their name, or all: ''")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        # A process of the simulation.
        from tests.simulation import worker

        worker.run_part(given)
        return 0
    # Also then the processes end and their databases are dropped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    first, last = (int(part) for part in given.seeds.split("-"))
    if given.trace:
        # Long lines of two processes would mix.
        given.processes = 1
    if given.faults is not None:
        return report_faults(run_in_processes(first, last, given))
    began = time.monotonic()
    results = []
    for result in run_in_processes(first, last, given):
        results.append(result)
        report_result(result, shows_trace=given.trace)
    return report(results, took=time.monotonic() - began)


def run_in_processes(first: int, last: int, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Run the seeds in some processes and yield the results as they come."""
    with embedded.database("test"):
        server = embedded.SERVERS["test"]
        template = template_database(server)
        names = [f"simulation_{os.getpid()}_{number}" for number in range(given.processes)]
        with psycopg.connect(server.url("postgres"), autocommit=True) as session:
            for name in names:
                session.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
            try:
                yield from read_results(names, server, first, last, given)
            finally:
                for name in names:
                    session.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def read_results(
    names: list[str], server: Any, first: int, last: int, given: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Start a process for each database, and yield the lines that they print."""
    command = [sys.executable, __file__, f"{first}-{last}"]
    command += ["--twice"] * given.twice + ["--trace"] * given.trace
    command += [f"--faults={given.faults}"] * (given.faults is not None)
    reader, writer = os.pipe()
    workers = []
    for number, name in enumerate(names):
        part = f"--part={number}/{len(names)}"
        environment = {**os.environ, "DATABASE_URL": server.url(name), "DJANGO_SETTINGS_MODULE": "config.settings"}
        workers.append(subprocess.Popen([*command, part], stdout=writer, env=environment))  # noqa: S603
    os.close(writer)
    try:
        with os.fdopen(reader) as lines:
            for line in lines:
                yield json.loads(line)
    finally:
        for worker in workers:
            worker.terminate()
        codes = [worker.wait() for worker in workers]
    if any(codes):
        raise SystemExit(f"A process of the simulation failed: {codes}")


def report_result(result: dict[str, Any], *, shows_trace: bool) -> None:
    if shows_trace:
        write(*(f"{number:5} {event[:200]}" for number, event in enumerate(result["trace"])))
    if result["wrong"]:
        write(f"seed {result['seed']}:", *(f"  {words}" for words in result["wrong"]))


def report(results: list[dict[str, Any]], *, took: float) -> int:
    """Print the distribution of actors, scheduling points and states. Return the exit code."""
    failed = [result["seed"] for result in results if result["wrong"]]
    reached: Counter[str] = Counter()
    for result in results:
        reached.update(result["reached"].keys())
    steps = sorted(result["steps"] for result in results)
    actors = Counter(result["actors"] for result in results)
    parts = quantiles(steps, n=10) if len(steps) > 1 else steps * 9
    write(
        f"{len(results)} schedules in {took:.0f} s, {len(results) / took:.1f} per second",
        f"actors: {', '.join(f'{count} in {times}' for count, times in sorted(actors.items()))}",
        f"scheduling points: {mean(steps):.0f} on average, {steps[0]} to {steps[-1]},"
        f" deciles {', '.join(f'{part:.0f}' for part in parts)};"
        f" with the repair {mean(result['all_steps'] for result in results):.0f}",
        "reached in so many schedules:",
        *(f"  {times:6} {name}" for name, times in reached.most_common()),
    )
    if missing := missing_states(reached.keys(), schedules=len(results)):
        write(f"never reached: {', '.join(missing)}")
    write(f"findings: {len(failed)}" + (f", seeds {failed}" if failed else ""))
    return 1 if failed or missing else 0


def report_faults(results: Iterator[dict[str, Any]]) -> int:
    """Print in how many schedules each planted fault was found. Return the exit code."""
    found, missed = 0, []
    for result in results:
        seeds = result["seeds"]
        write(f"{len(seeds)} of {result['tried']:3}  {result['fault']}", f"          {seeds}: {result['words'][:200]}")
        found += bool(seeds)
        missed += [result["fault"]] * (not seeds)
    write(f"found: {found} of {found + len(missed)}", *(f"not found: {name}" for name in missed))
    return 1 if missed else 0


def write(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
