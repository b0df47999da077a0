"""Ratios of two measurements, taken alternately at least five times, because machines are noisy: median and spread."""

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results.json"


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


def measure_alternately(
    ours: Callable[[], float], theirs: Callable[[], float], *, times: int = 5
) -> list[tuple[float, float]]:
    """Measure both sides alternately, so that a drift of the machine affects both."""
    return [(ours(), theirs()) for _ in range(times)]


def ratio_row(name: str, ratios: list[float], *, at_most: float = 0, at_least: float = 0, note: str = "") -> Row:
    """Return a row for these ratios; one of the two bounds is the aim."""
    median = statistics.median(ratios)
    return Row(
        name=name,
        ratio=round(median, 3),
        low=round(min(ratios), 3),
        high=round(max(ratios), 3),
        aim=f"<= {at_most}" if at_most else f">= {at_least}",
        met=median <= at_most if at_most else median >= at_least,
        note=note,
    )


def write_report(rows: list[Row]) -> str:
    """Return the table, and merge the rows into `results.json`."""
    known = {r["name"]: r for r in json.loads(RESULTS.read_text())} if RESULTS.exists() else {}
    known |= {r.name: asdict(r) for r in rows}
    RESULTS.write_text(json.dumps(list(known.values()), indent=1) + "\n")
    lines = [f"{'what':<58} {'ratio':>7} {'spread':>15} {'aim':>8}  met"]
    for r in rows:
        met = {True: "yes", False: "no", None: "-"}[r.met]
        lines.append(f"{r.name:<58} {r.ratio:>7.3f} {f'{r.low:.3f}-{r.high:.3f}':>15} {r.aim:>8}  {met}")
        if r.note:
            lines.append(f"    {r.note}")
    return "\n".join(lines)
