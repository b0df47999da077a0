"""`make simulate SEEDS=1-1000`: run schedules on all cores and report what was found.

Each process has a database of its own. With --trace the trace of one seed is printed; with --twice each seed runs twice
and must give the same trace. With --results FILE a run that was ended goes on where it was.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
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
from tests.simulation.results import ResultFile, distribution, fault_table, reached_states, table  # noqa: E402
from tests.simulation.sometimes import missing_states  # noqa: E402


def main() -> int:
    """Run the schedules that the arguments name. Return the exit code."""
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__)
    parser.add_argument("seeds", help="the first and the last seed, for example 1-1000")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--twice", action="store_true", help="run each seed twice and compare the traces")
    parser.add_argument("--trace", action="store_true", help="print the trace of each schedule")
    parser.add_argument("--faults", metavar="WORDS", help="plant the faults with these words in their name, or all: ''")
    parser.add_argument("--enough", type=int, default=1, help="how many schedules have to find a planted fault")
    parser.add_argument("--results", type=Path, help="a file for the results; the seeds in it do not run again")
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
    kept = ResultFile(given.results) if given.results else None
    earlier = kept.read(range(first, last + 1)) if kept else {}
    # The processes leave these out, too.
    results = list(earlier.values())
    began = time.monotonic()
    for result in run_in_processes(first, last, given):
        results.append(result)
        report_result(result, shows_trace=given.trace)
        if kept is not None:
            kept.add({**result, "reached": sorted(result["reached"])})
    return report(results, new=len(results) - len(earlier), took=time.monotonic() - began, has_table=bool(kept))


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
    command += [f"--faults={given.faults}", f"--enough={given.enough}"] * (given.faults is not None)
    command += [f"--results={given.results}"] * (given.results is not None)
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


def report(results: list[dict[str, Any]], *, new: int, took: float, has_table: bool) -> int:
    """Print the distribution of actors, scheduling points and states. Return the exit code."""
    failed = sorted(result["seed"] for result in results if result["wrong"])
    write(f"{new} schedules in {took:.0f} s, {new / took:.1f} per second", *distribution(results))
    if has_table:
        write(*table(results))
    if missing := missing_states(reached_states(results).keys(), schedules=len(results)):
        write(f"never reached: {', '.join(missing)}")
    write(f"findings: {len(failed)}" + (f", seeds {failed}" if failed else ""))
    return 1 if failed or missing else 0


def report_faults(results: Iterator[dict[str, Any]]) -> int:
    """Print which schedules found each planted fault, and a table. Return the exit code."""
    found = []
    for result in results:
        found.append(result)
        seeds = result["seeds"]
        write(f"{len(seeds)} of {result['tried']:3}  {result['fault']}", f"          {seeds}: {result['words'][:200]}")
    write(*fault_table(found))
    missed = [result["fault"] for result in found if not result["seeds"]]
    write(f"found: {len(found) - len(missed)} of {len(found)}", *(f"not found: {name}" for name in missed))
    return 1 if missed else 0


def write(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
