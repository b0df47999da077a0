"""Charts: numbers over time as Unfold's Chart.js draws them, and as a table for whoever cannot see them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

# Told apart in light and dark, and by those who see few colours: also named in the legend.
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
SHORT, LONG = timedelta(days=2), timedelta(days=120)
STEPS: dict[str, timedelta] = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}
NAMED: dict[str, Callable[[datetime], str]] = {
    "hour": lambda began: f"{began:%-d %b, %H:%M}",
    "day": lambda began: f"{began:%-d %b}",
    "week": lambda began: f"Week of {began:%-d %b %Y}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One thing that is counted over time."""

    name: str
    label: str
    numbers: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What the template draws: `data` and `options` for Chart.js, the same as rows for a table."""

    title: str
    labels: Sequence[str]
    series: Sequence[Series]
    kind: str
    stacked: bool

    @property
    def data(self) -> str:
        """The numbers as Chart.js takes them."""
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
        """How Chart.js draws them."""
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
        """The same, newest first, without the steps in which nothing happened."""
        lines = [(label, [one.numbers[at] for one in self.series]) for at, label in enumerate(self.labels)]
        return [(label, numbers) for label, numbers in reversed(lines) if any(numbers)]


def step_for(span: timedelta) -> str:
    """Hours for what took hours, days for weeks, weeks for years."""
    return "hour" if span <= SHORT else "day" if span <= LONG else "week"


def steps(first: datetime, last: datetime, *, step: str) -> list[datetime]:
    """Every step from the first to the last, the empty ones too."""
    every, found = STEPS[step], [first]
    while found[-1] < last:
        found.append(found[-1] + every)
    return found


def days(last: date, *, many: int) -> list[date]:
    """So many days up to and with the last."""
    return [last - timedelta(days=back) for back in reversed(range(many))]
