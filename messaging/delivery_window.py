"""Delivery window: spans of the week, in half hours, in the local time of a zone.

A window without spans is always open. The opening minute is included, the closing minute is not. When daylight saving
time begins or ends, local time decides: a time that occurs twice is open twice; a span that begins in the skipped hour
opens at the end of that hour; a span that lies entirely in the skipped hour does not open that night.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cache, lru_cache
from itertools import groupby
from zoneinfo import ZoneInfo, available_timezones

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
FULL_DAY = 24 * 60
HALF_HOUR = 30
# Names in the tz database that are not places: the server's own zone, and the zone of an unconfigured clock.
EXCLUDED_ZONES = {"localtime", "Factory", "posixrules"}
# No zone in the tz database changes its clock twice within 6 days, so one day contains at most one change.
CHANGE_SEARCH_STEP = timedelta(days=1)


class WindowError(ValueError):
    """The delivery times are invalid. The error's text names the entry and the reason."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Part of one day, in minutes since midnight local time; `opens` is included, `closes` is not."""

    weekday: int
    opens: int
    closes: int


@dataclass(frozen=True, slots=True)
class Window:
    """Spans in the order of the week, which neither overlap nor touch within a day. Without spans, always open."""

    spans: tuple[Span, ...] = ()

    def as_json(self) -> list[dict[str, object]]:
        """Return the stored form, which `parse_window` reads."""
        return [{"weekday": s.weekday, "from": _format_time(s.opens), "to": _format_time(s.closes)} for s in self.spans]


# A window that never opens: `next_opening` gives the moment a week later, at which it is judged again.
NEVER = Window((Span(0, 0, 0),))
JUDGED_AGAIN_AFTER = timedelta(days=7)

# The beginning and the end of quiet hours, each day.
QuietHours = tuple[time, time]


def parse_window(value: object) -> Window:
    """Parse a list of `{"weekday": 0-6 (0 is Monday), "from": "HH:MM", "to": "HH:MM"}`. None means always open.

    A span over midnight is split at midnight. Spans that overlap or touch are joined. Raise WindowError if invalid.
    """
    if value is None:
        return Window()
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise WindowError("Delivery times must be a list of entries with a weekday, from and to.")
    return Window(
        _join_spans([span for number, entry in enumerate(value, start=1) for span in _parse_spans(entry, number)])
    )


def quiet_window(quiet: QuietHours) -> Window:
    """Return the window of quiet hours, which may cross midnight. Raise WindowError if invalid."""
    opens, closes = (moment.strftime("%H:%M") for moment in quiet)
    if opens == closes:
        raise WindowError("Quiet hours cannot be the whole day, so they must begin and end at different times.")
    if any(moment.minute % HALF_HOUR for moment in quiet):
        raise WindowError("Quiet hours must begin and end on the hour or the half hour.")
    return parse_window([{"weekday": day, "from": opens, "to": closes} for day in range(len(DAYS))])


@lru_cache(maxsize=1000)
def without_quiet_hours(window: Window, quiet: QuietHours) -> Window:
    """Return the times of a window that are not quiet; NEVER if all are."""
    spans = window.spans or tuple(Span(day, 0, FULL_DAY) for day in range(len(DAYS)))
    for closed in quiet_window(quiet).spans:
        spans = tuple(left for span in spans for left in _cut_span(span, closed))
    return Window(spans) if spans else NEVER


def describe_quiet_hours(quiet: QuietHours, zone_name: str) -> str:
    """Return quiet hours as text: "22:00 to 08:00, Europe/Dublin time"."""
    words = " to ".join(moment.strftime("%H:%M") for moment in quiet)
    return f"{words}, {zone_name} time" if zone_name else words


def is_open(window: Window, at: datetime, zone: ZoneInfo) -> bool:
    """Return whether a message may be delivered at this moment."""
    return not window.spans or _is_open_locally(window, _local_time(at, zone))


def next_opening(window: Window, at: datetime, zone: ZoneInfo) -> datetime:
    """Return the first moment from `at` on, in UTC, at which the window is open; `at` itself if it is open now."""
    moment = at.astimezone(UTC)
    if window == NEVER:
        return moment + JUDGED_AGAIN_AFTER
    if is_open(window, at, zone):
        return moment
    while True:
        # Until the next clock change, local time has a constant offset from UTC.
        offset = _utc_offset(moment, zone)
        until = _next_clock_change(moment, moment + CHANGE_SEARCH_STEP, zone)
        opening = _next_opening_locally(window, moment.replace(tzinfo=None) + offset)
        if opening is not None and (opening - offset).replace(tzinfo=UTC) < until:
            return (opening - offset).replace(tzinfo=UTC)
        moment = until


def describe_window(window: Window, zone_name: str) -> str:
    """Return the window as text: "Monday to Friday 09:00 to 17:00, Europe/Dublin time"."""
    if not window.spans:
        return "At any time"
    hours = {
        day: " and ".join(f"{_format_time(s.opens)} to {_format_time(s.closes)}" for s in spans)
        for day, spans in groupby(window.spans, key=lambda span: span.weekday)
    }
    runs: list[list[int]] = []
    for day, text in hours.items():
        if runs and runs[-1][-1] == day - 1 and hours[day - 1] == text:
            runs[-1].append(day)
        else:
            runs.append([day])
    words = "; ".join(f"{_format_days(run)} {hours[run[0]]}" for run in runs).replace("00:00 to 24:00", "all day")
    return f"{words}, {zone_name} time" if zone_name else words


def zone_or_fallback(name: str | None, fallback: ZoneInfo) -> ZoneInfo:
    """Return the zone of this name, or the fallback if the name is empty or unknown."""
    return ZoneInfo(name) if name and name in _known_zones() else fallback


@cache
def _known_zones() -> frozenset[str]:
    return frozenset(available_timezones() - EXCLUDED_ZONES)


def _cut_span(span: Span, closed: Span) -> list[Span]:
    """Return the parts of a span that are not in another."""
    if span.weekday != closed.weekday:
        return [span]
    parts = ((span.opens, min(span.closes, closed.opens)), (max(span.opens, closed.closes), span.closes))
    return [Span(span.weekday, opens, closes) for opens, closes in parts if opens < closes]


def _parse_spans(entry: object, number: int) -> list[Span]:
    label = f"Delivery time {number}"
    if not isinstance(entry, Mapping) or set(entry) != {"weekday", "from", "to"}:
        raise WindowError(f"{label} must have a weekday, from and to, and nothing else.")
    weekday = entry["weekday"]
    if isinstance(weekday, bool) or not isinstance(weekday, int) or weekday not in range(7):
        raise WindowError(f"{label}: the weekday must be a number from 0 (Monday) to 6 (Sunday), not {weekday!r}.")
    label = f"{label} ({DAYS[weekday]})"
    opens, closes = (_parse_minutes(entry[name], f"{label}: the time {name!r}") for name in ("from", "to"))
    if opens == FULL_DAY:
        raise WindowError(f"{label}: it cannot begin at 24:00. Use 00:00 of the next day.")
    if opens == closes:
        raise WindowError(f"{label}: it opens and closes at the same time. For a whole day use 00:00 to 24:00.")
    if opens < closes:
        return [Span(weekday, opens, closes)]
    tomorrow = [Span((weekday + 1) % 7, 0, closes)] if closes else []
    return [Span(weekday, opens, FULL_DAY), *tomorrow]


def _parse_minutes(text: object, label: str) -> int:
    if text == "24:00":
        return FULL_DAY
    try:
        parsed = datetime.strptime(text, "%H:%M")  # type: ignore[arg-type]  # noqa: DTZ007
    except (TypeError, ValueError):
        raise WindowError(f"{label} must look like 09:30, not {text!r}.") from None
    if parsed.minute % HALF_HOUR:
        raise WindowError(f"{label} must be on the hour or the half hour, not {text!r}.")
    return parsed.hour * 60 + parsed.minute


def _join_spans(spans: list[Span]) -> tuple[Span, ...]:
    joined: list[Span] = []
    for span in sorted(spans):
        last = joined[-1] if joined else None
        if last and last.weekday == span.weekday and span.opens <= last.closes:
            joined[-1] = Span(last.weekday, last.opens, max(last.closes, span.closes))
        else:
            joined.append(span)
    return tuple(joined)


def _format_time(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _format_days(run: list[int]) -> str:
    if len(run) == len(DAYS):
        return "Every day"
    first, last = DAYS[run[0]], DAYS[run[-1]]
    return {1: first, 2: f"{first} and {last}"}.get(len(run), f"{first} to {last}")


def _local_time(at: datetime, zone: ZoneInfo) -> datetime:
    if at.tzinfo is None:
        raise ValueError("A moment needs a time zone.")
    return at.astimezone(zone).replace(tzinfo=None)


def _utc_offset(at: datetime, zone: ZoneInfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()


def _is_open_locally(window: Window, local: datetime) -> bool:
    weekday, minute = local.weekday(), local.hour * 60 + local.minute
    return any(s.weekday == weekday and s.opens <= minute < s.closes for s in window.spans)


def _next_opening_locally(window: Window, local: datetime) -> datetime | None:
    """Return the first open time from `local` on, today or tomorrow, assuming no clock change; or None."""
    for ahead in (0, 1):
        midnight = datetime.combine(local.date(), time()) + timedelta(days=ahead)
        for span in window.spans:
            if span.weekday == midnight.weekday() and midnight + timedelta(minutes=span.closes) > local:
                return max(local, midnight + timedelta(minutes=span.opens))
    return None


def _next_clock_change(start: datetime, end: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment between `start` and `end` at which the zone changes its clock; `end` if it does not."""
    before = _utc_offset(start, zone)
    if _utc_offset(end, zone) == before:
        return end
    # Clocks change on whole seconds. Invariant: the old offset at `early`, another offset at `late`.
    early, late = int(start.timestamp()), -int(-end.timestamp() // 1)
    while late - early > 1:
        middle = (early + late) // 2
        if _utc_offset(datetime.fromtimestamp(middle, UTC), zone) == before:
            early = middle
        else:
            late = middle
    return datetime.fromtimestamp(late, UTC)
