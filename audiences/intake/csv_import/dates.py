"""Dates in the cells of a file: their formats, and the reader of each."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from functools import cache
from zoneinfo import ZoneInfo

from django.db import models
from django.utils import translation
from django.utils.dates import MONTHS, MONTHS_3, MONTHS_AP


class DateFormat(models.TextChoices):
    """The format of a column's dates. All but the numbers also accept a year-first date and the name of a month."""

    ISO = "iso", "Year first: 2026-05-31"
    DAY_FIRST = "day_first", "Day first: 31/05/2026"
    MONTH_FIRST = "month_first", "Month first: 05/31/2026"
    DAYS_1900 = "days_1900", "Spreadsheet day: 46173"
    DAYS_1904 = "days_1904", "Spreadsheet day since 1904: 44711"
    SECONDS = "seconds", "Unix seconds: 1780185600"
    MILLISECONDS = "milliseconds", "Unix milliseconds: 1780185600000"


class NotADate(ValueError):
    """The text is not a date in this format."""


YEARS = range(1900, 3000)
MAX_DATE_LENGTH = 100
# Two-digit years as in POSIX: 69 to 99 are in the 20th century.
FIRST_YEAR_OF_1900 = 69
# The days before which spreadsheets count wrongly: their calendar of 1900 has a 29 February, which is day 60.
DAY_AFTER_LEAP_ERROR = 61
BASE_1900, BASE_1904 = datetime(1899, 12, 30, tzinfo=UTC), datetime(1904, 1, 1, tzinfo=UTC)
UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Languages whose names of months are read. No name means two months in them.
LANGUAGES = ("en", "de", "fr", "es", "it", "nl", "pt", "da", "sv", "nb")

TIME = (
    r"(?:(?:T|[ ,]+(?:at )?)(?P<hour>\d{1,2})"
    r"(?:[:.](?P<minute>\d{2})(?:[:.](?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?)?"
    r"(?:\s?(?P<half>[ap])\.?m\.?)?\s?(?P<zone>Z|(?:UTC|GMT)?[+-]\d{2}:?\d{2}|[+-]\d{2}|UTC|GMT)?(?: \([^()]*\))?)?"
)
ORDINAL = r"(?:st|nd|rd|th|\.|er|º)?"
WEEKDAY = r"(?:[^\W\d_]+\.?,?\s+)?"
YEAR_FIRST = re.compile(rf"(?P<year>\d{{4}})(?P<sep>[-/.]?)(?P<month>\d{{1,2}})(?P=sep)(?P<day>\d{{1,2}}){TIME}", re.I)
PLAIN = re.compile(
    rf"(?P<first>\d{{1,2}})(?P<sep>[-/.])\s?(?P<second_part>\d{{1,2}})(?P=sep)\s?(?P<year>\d{{4}}|\d\d){TIME}", re.I
)
NAMED = (
    re.compile(
        rf"{WEEKDAY}(?P<day>\d{{1,2}}){ORDINAL}[\s/-]*(?:of |de )?(?P<month>[^\W\d_]+)\.?[\s/,-]+(?:de )?"
        rf"(?P<year>\d{{4}}|\d\d){TIME}",
        re.I,
    ),
    re.compile(
        rf"{WEEKDAY}(?P<month>[^\W\d_]+)\.?[\s-]+(?P<day>\d{{1,2}}){ORDINAL},?[\s-]+(?P<year>\d{{4}}){TIME}", re.I
    ),
)
DAY_NUMBER = re.compile(r"(?P<day>\d{1,7})(?:[.,](?P<fraction>\d{1,15}))?")
WHOLE = re.compile(r"-?\d{1,14}")


@cache
def month_names() -> dict[str, int]:
    """Return the number of each month by its names and abbreviations, in lower case."""
    names: dict[str, int] = {}
    for language in LANGUAGES:
        with translation.override(language):
            for table in (MONTHS, MONTHS_3, MONTHS_AP):
                names |= {str(name).lower().rstrip("."): number for number, name in table.items()}
    return names | {"sept": 9}


def full_year(written: str) -> int:
    """Return the year of two or four digits."""
    year = int(written)
    return year if len(written) > 2 else year + (1900 if year >= FIRST_YEAR_OF_1900 else 2000)


def time_of(match: re.Match[str]) -> time:
    """Return the time of day in a match, midnight if it has none."""
    hour, half = int(match["hour"] or 0), (match["half"] or "").lower()
    if match["hour"] and not match["minute"] and not half:
        raise NotADate
    if half:
        if not 1 <= hour <= 12:
            raise NotADate
        hour = hour % 12 + (12 if half == "p" else 0)
    fraction = (match["fraction"] or "0")[:6].ljust(6, "0")
    return time(hour, int(match["minute"] or 0), int(match["second"] or 0), int(fraction))


def zone_of(written: str | None, zone: tzinfo) -> tzinfo:
    """Return the zone of an offset such as “+02:00”, else the given one."""
    if not written:
        return zone
    digits = re.sub(r"\D", "", written)
    minutes = int(digits[:2] or 0) * 60 + int(digits[2:] or 0)
    return timezone(timedelta(minutes=-minutes if "-" in written else minutes))


def moment_of(match: re.Match[str], *, year: int, month: int, day: int, zone: tzinfo) -> datetime:
    return datetime.combine(date(year, month, day), time_of(match), tzinfo=zone_of(match["zone"], zone))


def read_year_first_or_named(written: str, zone: tzinfo) -> datetime | None:
    """Read a date that means the same in each order; return None if the text is not one."""
    if written[4:5] == "-" or written[8:9] == "T":
        # Python's parser is ten times as fast, and knows fewer forms.
        try:
            read = datetime.fromisoformat(written)
        except ValueError:
            pass
        else:
            return read if read.tzinfo else read.replace(tzinfo=zone)
    if match := YEAR_FIRST.fullmatch(written):
        # Without separators, months and days have two digits.
        if not match["sep"] and not (len(match["month"]) == len(match["day"]) == 2):
            raise NotADate
        return moment_of(match, year=int(match["year"]), month=int(match["month"]), day=int(match["day"]), zone=zone)
    for pattern in NAMED:
        match = pattern.fullmatch(written)
        number = match and month_names().get(match["month"].lower())
        if match and number:
            return moment_of(match, year=full_year(match["year"]), month=number, day=int(match["day"]), zone=zone)
    return None


def read_iso(written: str, zone: tzinfo) -> datetime:
    read = read_year_first_or_named(written, zone)
    if read is None:
        raise NotADate
    return read


def read_day_first(written: str, zone: tzinfo) -> datetime:
    if match := PLAIN.fullmatch(written):
        year, month, day = full_year(match["year"]), int(match["second_part"]), int(match["first"])
        return moment_of(match, year=year, month=month, day=day, zone=zone)
    return read_iso(written, zone)


def read_month_first(written: str, zone: tzinfo) -> datetime:
    if match := PLAIN.fullmatch(written):
        year, month, day = full_year(match["year"]), int(match["first"]), int(match["second_part"])
        return moment_of(match, year=year, month=month, day=day, zone=zone)
    return read_iso(written, zone)


def read_day_number(written: str) -> tuple[int, timedelta]:
    """Return the whole days, and the time of the day, rounded to seconds, that the fraction means."""
    match = DAY_NUMBER.fullmatch(written)
    # A number with a leading zero is a code.
    if match is None or (written[0] == "0" and match["day"] != "0"):
        raise NotADate
    seconds = round(float(f"0.{match['fraction'] or 0}") * 24 * 60 * 60)
    return int(match["day"]), timedelta(seconds=seconds)


def read_days_1900(written: str, zone: tzinfo) -> datetime:
    days, rest = read_day_number(written)
    if days == DAY_AFTER_LEAP_ERROR - 1 or days < 1:
        raise NotADate
    early = days < DAY_AFTER_LEAP_ERROR
    return (BASE_1900 + timedelta(days=days + early) + rest).replace(tzinfo=zone)


def read_days_1904(written: str, zone: tzinfo) -> datetime:
    days, rest = read_day_number(written)
    return (BASE_1904 + timedelta(days=days) + rest).replace(tzinfo=zone)


def read_whole(written: str) -> int:
    if not WHOLE.fullmatch(written) or (written.lstrip("-")[0] == "0" and written != "0"):
        raise NotADate
    return int(written)


READERS: dict[DateFormat, Callable[[str, tzinfo], datetime]] = {
    DateFormat.ISO: read_iso,
    DateFormat.DAY_FIRST: read_day_first,
    DateFormat.MONTH_FIRST: read_month_first,
    DateFormat.DAYS_1900: read_days_1900,
    DateFormat.DAYS_1904: read_days_1904,
    DateFormat.SECONDS: lambda written, _zone: UNIX_EPOCH + timedelta(seconds=read_whole(written)),
    DateFormat.MILLISECONDS: lambda written, _zone: UNIX_EPOCH + timedelta(milliseconds=read_whole(written)),
}


# Formats that also read dates which mean the same in each order.
CALENDAR_FORMATS = {DateFormat.ISO, DateFormat.DAY_FIRST, DateFormat.MONTH_FIRST}


def read_complete_moment(value: str) -> datetime | None:
    """Read an ISO date with a time and a zone; return None if the text is another one. Only for speed."""
    if value[4:5] != "-":
        return None
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        return None
    return read if read.tzinfo is not None and 1900 <= read.year <= 2999 else None


def read_date(value: str, date_format: DateFormat, *, zone: ZoneInfo) -> datetime:
    """Read a date, or a date and time, in this format. `zone` applies if the text has none. Raises NotADate."""
    written = value.strip()
    if len(written) > MAX_DATE_LENGTH:
        raise NotADate
    try:
        read = READERS[date_format](written, zone)
    except (ValueError, OverflowError):
        raise NotADate from None
    if read.year not in YEARS:
        raise NotADate
    return read
