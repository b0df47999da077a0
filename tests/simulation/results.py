"""The results of many schedules: kept in a file, so that a run can go on later, and reported for docs/simulation.md."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, quantiles
from typing import Any

# How many seeds a line of the table covers.
SEEDS_PER_LINE = 10_000

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file with a line for each schedule. A line that a killed run did not finish is left out."""

    path: Path

    def lines(self) -> Iterator[Result]:
        if self.path.exists():
            for line in self.path.read_text().split("\n"):
                if line.endswith("}"):
                    yield json.loads(line)

    def read(self, seeds: range) -> dict[int, Result]:
        """Return the results of these seeds."""
        return {line["seed"]: line for line in self.lines() if line["seed"] in seeds}

    def add(self, result: Result) -> None:
        """Add a result, on a line of its own."""
        with self.path.open("a") as file:
            file.write(f"\n{json.dumps(result)}")


def distribution(results: Sequence[Result]) -> list[str]:
    """Return the distribution of actors and scheduling points, and the states that were reached."""
    steps = sorted(result["steps"] for result in results)
    actors = Counter(result["actors"] for result in results)
    parts = quantiles(steps, n=10) if len(steps) > 1 else steps * 9
    reached = reached_states(results)
    return [
        f"actors: {', '.join(f'{count} in {times}' for count, times in sorted(actors.items()))}",
        f"scheduling points: {mean(steps):.0f} on average, {steps[0]} to {steps[-1]},"
        f" deciles {', '.join(f'{part:.0f}' for part in parts)};"
        f" with the repair {mean(result['all_steps'] for result in results):.0f}",
        "reached in so many schedules:",
        *(f"  {times:6} {name}" for name, times in reached.most_common()),
    ]


def reached_states(results: Sequence[Result]) -> Counter[str]:
    """Return in how many schedules each state was reached."""
    reached: Counter[str] = Counter()
    for result in results:
        reached.update(list(result["reached"]))
    return reached


def table(results: Sequence[Result]) -> list[str]:
    """Return the lines of a table: a line for every 10,000 seeds, with a hash of the hashes of their traces."""
    lines = [
        "| seeds | schedules | actors | scheduling points | findings | hash of all traces |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    ordered = sorted(results, key=lambda result: result["seed"])
    for number in sorted({(result["seed"] - 1) // SEEDS_PER_LINE for result in ordered}):
        part = [result for result in ordered if (result["seed"] - 1) // SEEDS_PER_LINE == number]
        digest = hashlib.blake2b("".join(result["digest"] for result in part).encode(), digest_size=8).hexdigest()
        actors = [result["actors"] for result in part]
        lines.append(
            f"| {part[0]['seed']:,} to {part[-1]['seed']:,} | {len(part):,} | {min(actors)} to {max(actors)},"
            f" {mean(actors):.1f} on average | {sum(result['steps'] for result in part):,},"
            f" {mean(result['steps'] for result in part):.0f} on average"
            f" | {sum(bool(result['wrong']) for result in part)} | `{digest}` |"
        )
    return lines


def fault_table(results: Sequence[Result]) -> list[str]:
    """Return the lines of a table of the planted faults: how many schedules found each, and the first of them."""
    lines = ["| behaviour | the fault | found by | first by seed |", "| --- | --- | --- | --- |"]
    for result in sorted(results, key=lambda result: [int(part) for part in result["fault"].split()[0].split(".")]):
        section, words = result["fault"].split(maxsplit=1)
        seeds = result["seeds"]
        first = min(seeds) if seeds else "none"
        lines.append(f"| {section} | {words} | {len(seeds)} of {result['tried']} | {first} |")
    return lines
