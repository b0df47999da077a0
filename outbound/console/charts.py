"""Charts: numbers over time for Unfold's Chart.js, and as a table for people who cannot see the chart."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

# Distinguishable in light and dark mode and with colour blindness; the legend names them too.
COLOURS: dict[str, str] = {
    "sent": "#3b82f6",
    "opened": "#10b981",
    "clicked": "#8b5cf6",
    "replied": "#f59e0b",
    "bounced": "#ef4444",
    "unsubscribed": "#94a3b8",
    "email": "#3b82f6",
    "in_app": "#10b981",
    "push": "#f59e0b",
}
HOURLY_LIMIT, DAILY_LIMIT = timedelta(days=2), timedelta(days=120)
STEPS: dict[str, timedelta] = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}
STEP_LABELS: dict[str, Callable[[datetime], str]] = {
    "hour": lambda began: f"{began:%-d %b, %H:%M}",
    "day": lambda began: f"{began:%-d %b}",
    "week": lambda began: f"Week of {began:%-d %b %Y}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One measure over time."""

    name: str
    label: str
    numbers: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """The template's input: `data` and `options` for Chart.js, and `rows` for the table."""

    title: str
    labels: Sequence[str]
    series: Sequence[Series]
    kind: str
    stacked: bool

    @property
    def data(self) -> str:
        """Return the JSON of the data set for Chart.js."""
        few = len(self.labels) <= 31
        return json.dumps(
            {
                "labels": list(self.labels),
                "datasets": [
                    {
                        "label": one.label,
                        "data": list(one.numbers),
                        "borderColor": COLOURS[one.name],
                        "backgroundColor": COLOURS[one.name],
                        "borderWidth": 2 if self.kind == "line" else 0,
                        "borderRadius": 3,
                        "maxBarThickness": 22,
                        "pointRadius": 3 if few else 0,
                        "tension": 0,
                    }
                    for one in self.series
                ],
            }
        )

    @property
    def options(self) -> str:
        """Return the JSON of the options for Chart.js."""
        axis: dict[str, Any] = {"color": "#8a94a3", "precision": 0, "maxRotation": 0, "autoSkipPadding": 16}
        legend = {"position": "bottom", "labels": {"color": "#8a94a3", "boxWidth": 10, "boxHeight": 10}}
        return json.dumps(
            {
                "animation": False,
                "responsive": True,
                "maintainAspectRatio": False,
                "interaction": {"mode": "index", "intersect": False},
                "plugins": {"legend": {**legend, "display": len(self.series) > 1}},
                "scales": {
                    "x": {"stacked": self.stacked, "ticks": axis, "grid": {"display": False}, "border": {"width": 0}},
                    "y": {
                        "stacked": self.stacked,
                        "beginAtZero": True,
                        "ticks": axis,
                        "border": {"width": 0},
                        "grid": {},
                    },
                },
            }
        )

    @property
    def rows(self) -> list[tuple[str, list[int]]]:
        """Return the same numbers for the table, newest first, without empty steps."""
        lines = [(label, [one.numbers[at] for one in self.series]) for at, label in enumerate(self.labels)]
        return [(label, numbers) for label, numbers in reversed(lines) if any(numbers)]


def step_for(span: timedelta) -> str:
    """Return the step of a chart: hours for two days, days for 120 days, then weeks."""
    return "hour" if span <= HOURLY_LIMIT else "day" if span <= DAILY_LIMIT else "week"


def steps(first: datetime, last: datetime, *, step: str) -> list[datetime]:
    """Return every step from the first to the last, empty ones included."""
    every, found = STEPS[step], [first]
    while found[-1] < last:
        found.append(found[-1] + every)
    return found


def days(last: date, *, many: int) -> list[date]:
    """Return `many` days up to and including the last."""
    return [last - timedelta(days=back) for back in reversed(range(many))]
