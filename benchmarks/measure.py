"""Ratios of two measurements, taken alternately at least five times, because machines are noisy: median and spread."""

import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import machine

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "benchmarks" / "results.json"


@dataclass(frozen=True, slots=True)
class Point:
    """One absolute figure for a chart or table of docs/benchmarks.md."""

    chart: str
    series: str
    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the table. `met`: whether the median meets the aim; None if the row has no aim."""

    name: str
    ratio: float
    low: float
    high: float
    aim: str
    met: bool | None
    note: str = ""
    points: tuple[Point, ...] = ()


def measure_alternately(
    ours: Callable[[], float], theirs: Callable[[], float], *, times: int = 5
) -> list[tuple[float, float]]:
    """Measure both sides alternately, so that a drift of the machine affects both."""
    return [(ours(), theirs()) for _ in range(times)]


def ratio_row(
    name: str,
    ratios: list[float],
    *,
    at_most: float = 0,
    at_least: float = 0,
    note: str = "",
    points: tuple[Point, ...] = (),
) -> Row:
    """Return a row for these ratios; one of the two bounds is the aim, or the row has none."""
    median = statistics.median(ratios)
    return Row(
        name=name,
        ratio=round(median, 3),
        low=round(min(ratios), 3),
        high=round(max(ratios), 3),
        aim=f"<= {at_most}" if at_most else f">= {at_least}" if at_least else "",
        met=median <= at_most if at_most else median >= at_least if at_least else None,
        note=note,
        points=points,
    )


def write_results(rows: list[Row]) -> list[dict]:
    """Merge the rows into docs/benchmarks/results.json, each with its date, commit and machine. Return all rows.

    The variable BENCH_REMARK is noted beside the rows, for example "small run".
    """
    origin = {
        "date": machine.today(),
        "commit": machine.commit(),
        "machine": machine.description(),
        "remark": os.environ.get("BENCH_REMARK", ""),
    }
    known = {row["name"]: row for row in json.loads(RESULTS.read_text())} if RESULTS.exists() else {}
    known |= {row.name: asdict(row) | origin for row in rows}
    RESULTS.write_text(json.dumps(list(known.values()), indent=1) + "\n")
    return list(known.values())


def text_table(rows: list[Row]) -> str:
    lines = [f"{'what':<58} {'ratio':>7} {'spread':>15} {'aim':>8}  met"]
    for row in rows:
        met = {True: "yes", False: "no", None: "-"}[row.met]
        lines.append(f"{row.name:<58} {row.ratio:>7.3f} {f'{row.low:.3f}-{row.high:.3f}':>15} {row.aim:>8}  {met}")
        if row.note:
            lines.append(f"    {row.note}")
    return "\n".join(lines)


def wait_until(condition: Callable[[], object], *, within: float = 60, interval: float = 0.002) -> float:
    """Wait until the condition is true; return how many seconds that took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > within:
            raise TimeoutError(f"Not within {within:.0f} seconds.")
        time.sleep(interval)
    return time.monotonic() - began
