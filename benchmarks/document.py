"""docs/benchmarks.md and its charts, written from the results."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks import charts
from benchmarks.charts import Series

DOCS = Path(__file__).resolve().parent.parent / "docs"
IDLE_ROUND = "idle round of 50 messages"

INTRODUCTION = """# Benchmarks

`make bench` measures Outbound and writes this page. `.venv/bin/python -m benchmarks NAME ...` measures only the named
benchmarks of the folder `benchmarks/`; the other rows keep their date and commit. A row compares two measurements that
were taken alternately in one run, because the speed of a machine changes. It shows the median of their ratio, the
spread, and the aim. Only rows that were measured appear.
"""
MET = {True: "yes", False: "**no**", None: ""}

Result = dict[str, Any]


def write(results: list[Result], *, docs: Path = DOCS) -> None:
    """Write the page and its charts."""
    folder = docs / "benchmarks"
    folder.mkdir(exist_ok=True)
    pictures = []
    for name, series, labels in chart_data(results):
        file = folder / f"{name}.svg"
        file.unlink(missing_ok=True)
        if series:
            file.write_text(charts.line_chart(series, **labels))
            pictures.append(f"![{labels['title']}](benchmarks/{name}.svg)\n")
    parts = [INTRODUCTION, machine_list(results), result_table(results), growth_table(results), *pictures]
    (docs / "benchmarks.md").write_text("\n".join(part for part in parts if part))


def chart_data(results: list[Result]) -> list[tuple[str, Series, dict[str, str]]]:
    """Return the charts: the name of the file, the lines, the texts."""
    latency = points_of(results, chart="latency")
    rounds = {name: found for name, found in points_of(results, chart="growth").items() if name == IDLE_ROUND}
    speed = {
        "title": "Emails per second against the delay of the mail server",
        "x_label": "milliseconds until the mail server answers",
        "y_label": "emails per second",
    }
    duration = {
        "title": "Duration of an hourly round without new matches",
        "x_label": "customers",
        "y_label": "seconds",
    }
    return [("emails-per-second", latency, speed), ("round", rounds, duration)]


def points_of(results: list[Result], *, chart: str) -> Series:
    """Return the points of a chart, by series and in order; a later row replaces an earlier one's point."""
    found: dict[str, dict[float, float]] = defaultdict(dict)
    for result in results:
        for point in result.get("points", ()):
            if point["chart"] == chart:
                found[point["series"]][point["x"]] = point["y"]
    return {series: sorted(points.items()) for series, points in found.items()}


def machine_list(results: list[Result]) -> str:
    """Return the machines of the results, each with the letter that its rows carry."""
    return "".join(f"- Machine {letter}: {name}\n" for name, letter in machine_letters(results).items())


def machine_letters(results: list[Result]) -> dict[str, str]:
    names = dict.fromkeys(result["machine"] for result in results if "machine" in result)
    return {name: chr(ord("A") + number) for number, name in enumerate(names)}


def result_table(results: list[Result]) -> str:
    """Return the table of all ratios. Results of older versions, without a date, are left out."""
    letters = machine_letters(results)
    lines = ["| what | ratio | spread | aim | met | figures | measured |", "|---|---|---|---|---|---|---|"]
    for result in results:
        if "date" not in result:
            continue
        figures = "; ".join(text for text in (result["note"], result["remark"]) if text)
        cells = (
            result["name"],
            f"{result['ratio']:.3f}",
            f"{result['low']:.3f} to {result['high']:.3f}",
            result["aim"],
            MET[result["met"]],
            figures,
            f"{result['date']}, {result['commit']}, {letters[result['machine']]}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "## Ratios\n\n" + "\n".join(lines) + "\n"


def growth_table(results: list[Result]) -> str:
    """Return the table of durations by number of customers; "" if none was measured."""
    series = points_of(results, chart="growth")
    if not series:
        return ""
    sizes = sorted({size for points in series.values() for size, _ in points})
    lines = [
        f"| operation | {' | '.join(f'{size:,.0f} customers' for size in sizes)} |",
        "|---" * (len(sizes) + 1) + "|",
    ]
    for name, points in series.items():
        seconds = dict(points)
        cells = [duration_text(seconds[size]) if size in seconds else "" for size in sizes]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "## Growth\n\n" + "\n".join(lines) + "\n"


def duration_text(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
