"""Dates in the cells of a file."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from audiences.intake.csv_import.dates import READERS, DateFormat, NotADate, read_date

DUBLIN = ZoneInfo("Europe/Dublin")
ANY_ORDER = (DateFormat.ISO, DateFormat.DAY_FIRST, DateFormat.MONTH_FIRST)

READ = [
    # Dates that mean the same in each order.
    *((order, "2026-05-31", "2026-05-31T00:00:00+01:00") for order in ANY_ORDER),
    *((order, "20251231", "2025-12-31T00:00:00+00:00") for order in ANY_ORDER),
    *((order, "2026/5/3", "2026-05-03T00:00:00+01:00") for order in ANY_ORDER),
    *((order, "31 May 2026", "2026-05-31T00:00:00+01:00") for order in ANY_ORDER),
    *((order, "May 31st, 2026 9:05 pm", "2026-05-31T21:05:00+01:00") for order in ANY_ORDER),
    *((order, "Sunday, 31. Mai 2026", "2026-05-31T00:00:00+01:00") for order in ANY_ORDER),
    *((order, "1er août 2026", "2026-08-01T00:00:00+01:00") for order in ANY_ORDER),
    (DateFormat.ISO, "2026-05-31T10:00:00Z", "2026-05-31T10:00:00+00:00"),
    (DateFormat.ISO, "2026-05-31 10:00:00.5 +02:00", "2026-05-31T10:00:00.500000+02:00"),
    # Dates whose order the column decides.
    (DateFormat.DAY_FIRST, "03/04/2026", "2026-04-03T00:00:00+01:00"),
    (DateFormat.MONTH_FIRST, "03/04/2026", "2026-03-04T00:00:00+00:00"),
    (DateFormat.DAY_FIRST, "3.4.26 10:15", "2026-04-03T10:15:00+01:00"),
    (DateFormat.MONTH_FIRST, "5-31-1999 12:00 AM", "1999-05-31T00:00:00+01:00"),
    # Numbers.
    (DateFormat.DAYS_1900, "46173", "2026-05-31T00:00:00+01:00"),
    (DateFormat.DAYS_1900, "46173.75", "2026-05-31T18:00:00+01:00"),
    (DateFormat.DAYS_1900, "46173,5", "2026-05-31T12:00:00+01:00"),
    (DateFormat.DAYS_1904, "44711", "2026-05-31T00:00:00+01:00"),
    (DateFormat.SECONDS, "1780185600", "2026-05-31T00:00:00+00:00"),
    (DateFormat.MILLISECONDS, "1780185600123", "2026-05-31T00:00:00.123000+00:00"),
]
REFUSED = [
    (DateFormat.ISO, "01234"),
    (DateFormat.ISO, "03/04/2026"),
    (DateFormat.ISO, "2026-02-30"),
    (DateFormat.ISO, "20251331"),
    (DateFormat.ISO, "1780185600"),
    (DateFormat.ISO, "0001-01-01"),
    (DateFormat.DAY_FIRST, "05/31/2026"),
    (DateFormat.DAY_FIRST, "1.2"),
    (DateFormat.DAY_FIRST, "1/2.2026"),
    (DateFormat.MONTH_FIRST, "31/05/2026"),
    (DateFormat.MONTH_FIRST, "5/31/2026 13:00 pm"),
    (DateFormat.DAYS_1900, "60"),
    (DateFormat.DAYS_1900, "046173"),
    (DateFormat.DAYS_1900, "9999999"),
    (DateFormat.SECONDS, "01780185600"),
    (DateFormat.MILLISECONDS, "99999999999999"),
    *((date_format, "not a date") for date_format in DateFormat),
    *((date_format, "") for date_format in DateFormat),
    *((date_format, "Monday " * 100_000) for date_format in DateFormat),
]


def test_every_format_has_a_reader():
    assert set(READERS) == set(DateFormat)


def test_dates_are_read_in_the_format_of_their_column():
    for date_format, written, meant in READ:
        read = read_date(f" {written} ", date_format, zone=DUBLIN)
        assert (read, read.utcoffset()) == (
            datetime.fromisoformat(meant),
            datetime.fromisoformat(meant).utcoffset(),
        ), (date_format, written)


def test_dates_in_another_format_are_refused():
    for date_format, written in REFUSED:
        with pytest.raises(NotADate):
            pytest.fail(f"{date_format} {written[:50]}: {read_date(written, date_format, zone=DUBLIN)}")


def test_day_numbers_count_the_29_february_1900_of_spreadsheets():
    for number, day in (("1", "1900-01-01"), ("59", "1900-02-28"), ("61", "1900-03-01")):
        assert read_date(number, DateFormat.DAYS_1900, zone=ZoneInfo("UTC")).date().isoformat() == day


def test_example_in_each_label_is_read():
    for date_format in DateFormat:
        example = str(date_format.label).rpartition(": ")[2]
        assert read_date(example, date_format, zone=ZoneInfo("UTC")) == datetime(2026, 5, 31, tzinfo=UTC), example
