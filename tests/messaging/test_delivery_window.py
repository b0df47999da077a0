from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from messaging import delivery_window
from messaging.delivery_window import QuietHours, Span, Window, WindowError
from tests.support.examples import examples

DUBLIN = ZoneInfo("Europe/Dublin")
NEW_YORK = ZoneInfo("America/New_York")
OFFICE = [{"weekday": day, "from": "09:00", "to": "17:30"} for day in range(5)]
# Zones, and the UTC moments at which their clocks change.
CHANGES = [
    ("Europe/Dublin", datetime(2024, 3, 31, 1, tzinfo=UTC)),
    ("Europe/Dublin", datetime(2024, 10, 27, 1, tzinfo=UTC)),
    ("America/New_York", datetime(2024, 3, 10, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2024, 11, 3, 6, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2024, 4, 6, 15, tzinfo=UTC)),  # half an hour back
    ("Australia/Lord_Howe", datetime(2024, 10, 5, 15, 30, tzinfo=UTC)),  # half an hour forward
    ("America/Sao_Paulo", datetime(2018, 11, 4, 3, tzinfo=UTC)),  # midnight does not exist
    ("America/Sao_Paulo", datetime(2018, 2, 18, 2, tzinfo=UTC)),  # the hour before midnight occurs twice
    ("Asia/Beirut", datetime(2024, 3, 30, 22, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),  # all of Friday is skipped
    ("America/Caracas", datetime(2016, 5, 1, 7, tzinfo=UTC)),  # half an hour, permanently
    ("Asia/Gaza", datetime(2040, 10, 20, tzinfo=UTC)),  # two changes within seven days
    ("Africa/Casablanca", datetime(2024, 3, 10, 2, tzinfo=UTC)),
    ("Antarctica/Troll", datetime(2024, 3, 31, 1, tzinfo=UTC)),  # two hours at once
]


def parse(*entries: tuple[int, str, str]) -> Window:
    return delivery_window.parse_window(
        [{"weekday": day, "from": opens, "to": closes} for day, opens, closes in entries]
    )


def local(zone: ZoneInfo, *moment: int, fold: int = 0) -> datetime:
    return datetime(*moment, tzinfo=zone, fold=fold).astimezone(UTC)


def open_by_local_time(window: Window, at: datetime, zone: ZoneInfo) -> bool:
    wall = at.astimezone(zone)
    minutes = wall.hour * 60 + wall.minute
    inside = [s for s in window.spans if s.weekday == wall.weekday() and s.opens <= minute_before(s.closes, minutes)]
    return not window.spans or bool(inside)


def minute_before(closes: int, minutes: int) -> int:
    return minutes if minutes < closes else -1


# parsing


def test_an_empty_window_is_always_open():
    at = datetime(2024, 5, 4, 3, 7, tzinfo=UTC)

    for nothing in ([], None, ()):
        assert delivery_window.parse_window(nothing) == Window()
    assert delivery_window.is_open(Window(), at, DUBLIN)
    assert delivery_window.next_opening(Window(), at, DUBLIN) == at


def test_stored_window_is_parsed_as_the_same_window():
    window = delivery_window.parse_window(OFFICE)

    assert window.as_json() == OFFICE
    assert delivery_window.parse_window(window.as_json()) == window


def test_span_over_midnight_is_split_at_midnight():
    assert parse((6, "22:00", "06:00")).spans == (Span(0, 0, 360), Span(6, 1320, 1440))


@pytest.mark.parametrize("midnight", ["00:00", "24:00"])
def test_span_until_midnight_stays_in_its_day(midnight):
    assert parse((2, "22:00", midnight)).spans == (Span(2, 1320, 1440),)


def test_spans_that_overlap_or_touch_are_joined():
    window = parse((0, "13:00", "15:00"), (0, "09:00", "12:00"), (0, "12:00", "13:30"), (1, "09:00", "10:00"))

    assert window == parse((0, "09:00", "15:00"), (1, "09:00", "10:00"))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("always", "Delivery times must be a list"),
        ({"weekday": 0}, "Delivery times must be a list"),
        ([*OFFICE[:1], "Monday"], "Delivery time 2 must have a weekday, from and to"),
        ([{"weekday": 0, "from": "09:00"}], "Delivery time 1 must have a weekday, from and to"),
        ([{**OFFICE[0], "zone": "x"}], "and nothing else"),
        ([{**OFFICE[0], "weekday": 7}], "from 0 (Monday) to 6 (Sunday), not 7"),
        ([{**OFFICE[0], "weekday": True}], "not True"),
        ([{**OFFICE[0], "weekday": "0"}], "not '0'"),
        ([{**OFFICE[0], "weekday": [0]}], "not [0]"),
        ([{**OFFICE[1], "from": "9am"}], "Delivery time 1 (Tuesday): the time 'from' must look like 09:30, not '9am'"),
        ([{**OFFICE[0], "to": 17}], "the time 'to' must look like 09:30, not 17"),
        ([{**OFFICE[0], "to": "25:00"}], "must look like 09:30"),
        ([{**OFFICE[0], "to": "17:15"}], "on the hour or the half hour, not '17:15'"),
        ([{**OFFICE[0], "from": "17:30"}], "opens and closes at the same time"),
        ([{**OFFICE[0], "from": "24:00"}], "cannot begin at 24:00"),
    ],
)
def test_invalid_window_is_refused_with_a_text_that_names_the_entry(value, words):
    with pytest.raises(WindowError) as refused:
        delivery_window.parse_window(value)

    assert words in str(refused.value)


# is_open and next_opening


def test_opening_minute_is_included_and_closing_minute_is_not():
    window = delivery_window.parse_window(OFFICE)
    monday = datetime(2024, 5, 6, tzinfo=DUBLIN)

    assert not delivery_window.is_open(window, monday.replace(hour=8, minute=59, second=59, microsecond=999999), DUBLIN)
    assert delivery_window.is_open(window, monday.replace(hour=9), DUBLIN)
    assert delivery_window.is_open(window, monday.replace(hour=17, minute=29, second=59, microsecond=999999), DUBLIN)
    assert not delivery_window.is_open(window, monday.replace(hour=17, minute=30), DUBLIN)


def test_window_is_open_in_one_zone_and_closed_in_another_at_the_same_moment():
    window, at = delivery_window.parse_window(OFFICE), datetime(2024, 5, 6, 9, tzinfo=UTC)

    assert delivery_window.is_open(window, at, DUBLIN)
    assert not delivery_window.is_open(window, at, NEW_YORK)


def test_a_match_on_saturday_waits_for_monday_morning():
    at = local(DUBLIN, 2024, 5, 4, 12, 13)

    assert delivery_window.next_opening(delivery_window.parse_window(OFFICE), at, DUBLIN) == local(
        DUBLIN, 2024, 5, 6, 9
    )


def test_opening_is_in_utc_also_if_it_is_now():
    at = datetime(2024, 5, 6, 10, 1, 2, 345, tzinfo=NEW_YORK)
    opening = delivery_window.next_opening(delivery_window.parse_window(OFFICE), at, NEW_YORK)

    assert opening == at
    assert opening.tzinfo is UTC


def test_just_after_closing_the_next_opening_is_a_week_away():
    window = parse((0, "09:00", "10:00"))

    assert delivery_window.next_opening(window, local(DUBLIN, 2024, 5, 6, 10), DUBLIN) == local(DUBLIN, 2024, 5, 13, 9)


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="needs a time zone"):
        delivery_window.is_open(delivery_window.parse_window(OFFICE), datetime(2024, 5, 6, 9), DUBLIN)  # noqa: DTZ001


# clock changes


def test_opening_in_the_skipped_hour_is_at_the_end_of_that_hour():
    window = parse((6, "02:30", "05:00"))
    at = local(NEW_YORK, 2024, 3, 10, 1, 59)

    assert delivery_window.next_opening(window, at, NEW_YORK) == local(NEW_YORK, 2024, 3, 10, 3)


def test_hour_that_occurs_twice_is_open_both_times():
    window = parse((6, "01:00", "01:30"))
    first = local(NEW_YORK, 2024, 11, 3, 1)
    second = local(NEW_YORK, 2024, 11, 3, 1, fold=1)

    assert second - first == timedelta(hours=1)
    assert delivery_window.next_opening(window, first - timedelta(minutes=5), NEW_YORK) == first
    assert delivery_window.next_opening(window, first + timedelta(minutes=30), NEW_YORK) == second
    assert not delivery_window.is_open(window, second + timedelta(minutes=30), NEW_YORK)


def test_when_the_clock_goes_back_into_an_open_span_it_opens_at_the_change():
    window = parse((6, "00:30", "01:30"))
    closed = local(NEW_YORK, 2024, 11, 3, 1, 45)

    assert not delivery_window.is_open(window, closed, NEW_YORK)
    assert delivery_window.next_opening(window, closed, NEW_YORK) == local(NEW_YORK, 2024, 11, 3, 1, fold=1)


def test_span_inside_the_skipped_hour_does_not_open_that_night():
    window = parse((6, "02:00", "02:30"))
    at = local(NEW_YORK, 2024, 3, 10, 0)

    assert delivery_window.next_opening(window, at, NEW_YORK) == local(NEW_YORK, 2024, 3, 17, 2)


def test_lord_howe_changes_by_half_an_hour():
    zone = ZoneInfo("Australia/Lord_Howe")
    window = parse((6, "02:00", "03:00"))

    assert delivery_window.next_opening(window, local(zone, 2024, 10, 6, 1), zone) == local(zone, 2024, 10, 6, 2, 30)


@pytest.mark.parametrize(("name", "day"), [("America/Sao_Paulo", (2018, 11, 4)), ("Asia/Beirut", (2024, 3, 31))])
def test_window_of_a_day_without_midnight_opens_at_one(name, day):
    zone = ZoneInfo(name)
    evening = local(zone, *day, 12) - timedelta(hours=20)

    assert delivery_window.next_opening(parse((6, "00:00", "08:00")), evening, zone) == local(zone, *day, 1)


def test_window_on_a_skipped_day_opens_a_week_later():
    zone = ZoneInfo("Pacific/Apia")
    thursday = local(zone, 2011, 12, 29, 12)

    assert delivery_window.next_opening(parse((4, "09:00", "10:00")), thursday, zone) == local(zone, 2012, 1, 6, 9)
    assert delivery_window.next_opening(parse((4, "22:00", "06:00")), thursday, zone) == local(zone, 2011, 12, 31, 0)


half_hours = st.integers(0, 47)
all_windows = st.lists(
    st.tuples(st.integers(0, 6), half_hours, half_hours).filter(lambda t: t[1] != t[2]), max_size=6
).map(lambda rows: parse(*((d, f"{a // 2:02}:{a % 2 * 30:02}", f"{b // 2:02}:{b % 2 * 30:02}") for d, a, b in rows)))
near_a_change = st.builds(
    lambda change, seconds: (ZoneInfo(change[0]), change[1] + timedelta(seconds=seconds)),
    st.sampled_from(CHANGES),
    st.integers(-40 * 3600, 40 * 3600) | st.sampled_from([-1, 0, 1]),
)
anywhere = st.tuples(
    st.sampled_from(sorted(available_timezones())).map(ZoneInfo),
    st.datetimes(datetime(1980, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)


@pytest.mark.parametrize(("name", "at"), CHANGES)
def test_moments_in_the_table_are_clock_changes(name, at):
    zone = ZoneInfo(name)

    assert at.astimezone(zone).utcoffset() != (at - timedelta(seconds=1)).astimezone(zone).utcoffset()


@examples(100)
@given(window=all_windows, where=near_a_change | anywhere)
def test_window_is_open_according_to_local_time(window, where):
    zone, at = where

    assert delivery_window.is_open(window, at, zone) == open_by_local_time(window, at, zone)


@examples(60)
@given(window=all_windows, where=near_a_change | anywhere)
@example(parse((6, "02:00", "02:30")), (NEW_YORK, datetime(2024, 3, 10, tzinfo=UTC)))
@example(parse((4, "00:00", "24:00")), (ZoneInfo("Pacific/Apia"), datetime(2011, 12, 30, tzinfo=UTC)))
def test_next_opening_is_the_first_open_moment(window, where):
    zone, at = where
    opening = delivery_window.next_opening(window, at, zone)

    assert opening >= at
    assert open_by_local_time(window, opening, zone)
    if opening > at:
        assert not open_by_local_time(window, opening - timedelta(microseconds=1), zone)
        minute = at
        while minute < opening:
            assert not open_by_local_time(window, minute, zone)
            minute += timedelta(minutes=1)


@examples(100)
@given(all_windows)
def test_every_window_survives_storing_and_parsing(window):
    assert delivery_window.parse_window(window.as_json()) == window


# quiet hours


quiet_hours = (
    st.tuples(half_hours, half_hours)
    .filter(lambda t: t[0] != t[1])
    .map(lambda t: (time(t[0] // 2, t[0] % 2 * 30), time(t[1] // 2, t[1] % 2 * 30)))
)


def is_quiet(quiet: QuietHours, at: datetime, zone: ZoneInfo) -> bool:
    begin, end = quiet
    local = at.astimezone(zone).time()
    return begin <= local < end if begin < end else local >= begin or local < end


@examples(100)
@given(window=all_windows, quiet=quiet_hours, where=near_a_change | anywhere)
def test_message_goes_while_its_window_is_open_and_no_quiet_hours_are(window, quiet, where):
    zone, at = where
    both = delivery_window.without_quiet_hours(window, quiet)

    assert delivery_window.is_open(both, at, zone) == (
        open_by_local_time(window, at, zone) and not is_quiet(quiet, at, zone)
    )
    opening = delivery_window.next_opening(both, at, zone)
    assert opening >= at
    assert delivery_window.is_open(both, opening, zone) == (both != delivery_window.NEVER)


def test_window_within_quiet_hours_never_opens_and_is_judged_again_each_week():
    window = parse((1, "22:00", "23:00"), (6, "23:30", "06:00"))
    at = datetime(2024, 5, 8, 3, 7, tzinfo=UTC)

    both = delivery_window.without_quiet_hours(window, (time(22), time(8)))

    assert both == delivery_window.NEVER
    assert not delivery_window.is_open(both, at, DUBLIN)
    assert delivery_window.next_opening(both, at, DUBLIN) == at + timedelta(days=7)


@pytest.mark.parametrize(
    ("quiet", "words"),
    [((time(8), time(8)), "cannot be the whole day"), ((time(22, 15), time(8)), "on the hour or the half hour")],
)
def test_invalid_quiet_hours_are_refused(quiet, words):
    with pytest.raises(WindowError, match=words):
        delivery_window.quiet_window(quiet)


# descriptions and zones


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([], "At any time"),
        ([(d, "09:00", "17:00") for d in range(5)], "Monday to Friday 09:00 to 17:00, Europe/Dublin time"),
        ([(5, "09:00", "12:00"), (6, "09:00", "12:00")], "Saturday and Sunday 09:00 to 12:00, Europe/Dublin time"),
        ([(d, "00:00", "24:00") for d in range(7)], "Every day all day, Europe/Dublin time"),
        (
            [(0, "09:00", "12:00"), (0, "13:00", "17:00"), (2, "09:00", "12:00")],
            "Monday 09:00 to 12:00 and 13:00 to 17:00; Wednesday 09:00 to 12:00, Europe/Dublin time",
        ),
    ],
)
def test_window_is_described_as_text(entries, words):
    assert delivery_window.describe_window(parse(*entries), "Europe/Dublin") == words


def test_description_without_a_zone_name_has_no_zone():
    assert delivery_window.describe_window(parse((0, "09:00", "17:00")), "") == "Monday 09:00 to 17:00"


def test_a_known_zone_is_used():
    assert delivery_window.zone_or_fallback("America/New_York", DUBLIN) == NEW_YORK


@pytest.mark.parametrize(
    "name",
    ["", None, "Mars/Base", "../etc", "/etc/passwd", "a\0b", "Europe", "europe/dublin", "\udcff", "x" * 5000, "."],
)
def test_unknown_zone_name_gives_the_fallback(name):
    assert delivery_window.zone_or_fallback(name, DUBLIN) is DUBLIN
