"""Refused visitors are counted per day; many of them raise an alarm."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import pytest
import time_machine
from django.db import connection
from rest_framework.test import APIClient

from audiences import identity_verification
from audiences.models import Workspace
from delivery.maintenance import retention
from delivery.models import Alarm, Refusal, RefusedVisitors
from delivery.monitoring import alarms
from tests.delivery.api.messenger.test_ping import Browser

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def counts() -> dict[tuple[date, str], int]:
    return {(one.day, one.reason): one.count for one in RefusedVisitors.objects.all()}


def refused(email: str, *, address: str = "192.0.2.1") -> None:
    """A visitor whose website signs the address as it is written."""
    user = {"email": email, "user_hash": identity_verification.user_hash(Workspace.current().identity_secret, email)}
    answered = APIClient(REMOTE_ADDR=address).post("/messenger/ping", {"user": user}, format="json")
    assert answered.status_code == 403


def test_refused_visitor_is_counted_once_a_day(at):
    with time_machine.travel(at, tick=False):
        for _ in range(3):
            refused("Kim@x.example")
            refused("Bob@x.example")
        refused("Kim@x.example", address="192.0.2.2")
    with time_machine.travel(at + DAY, tick=False):
        refused("Kim@x.example")

    assert counts() == {(at.date(), Refusal.ADDRESS_FORM): 3, (at.date() + DAY, Refusal.ADDRESS_FORM): 1}


def test_refusals_are_counted_by_their_reason(at):
    with time_machine.travel(at, tick=False):
        refused("Kim@x.example")
        Browser().ping(user_id="kim", user_hash="0" * 64)
        APIClient().post("/messenger/ping", {"user": {"user_id": "ann"}}, format="json")
        Browser().ping(user_id=" kim")

    day = at.date()
    assert counts() == {
        (day, Refusal.ADDRESS_FORM): 1,
        (day, Refusal.NOT_SIGNED): 2,
        (day, Refusal.USER_ID_FORM): 1,
    }


def test_refusals_are_counted_by_days_of_the_workspace(at):
    Workspace.current()
    Workspace.objects.update(zone="Pacific/Auckland")
    with time_machine.travel(at.replace(hour=23), tick=False):
        refused("Kim@x.example")

    assert {day for day, _ in counts()} == {at.date() + DAY}


def test_accepted_visitor_is_not_counted(at):
    Browser().ping(email="kim@x.example")
    Browser().ping()

    assert counts() == {}


def test_invented_names_do_not_fill_the_database_or_the_cache(at, monkeypatch):
    monkeypatch.setattr("delivery.api.messenger.access.REFUSED_VISITOR_SLOTS", 4)
    with time_machine.travel(at, tick=False):
        for n in range(30):
            refused(f"Kim{n}@x.example")

    assert counts() == {(at.date(), Refusal.ADDRESS_FORM): 4}


@pytest.mark.django_db(transaction=True)
def test_concurrent_refusals_are_all_counted():
    def add(_n: int) -> None:
        try:
            RefusedVisitors.add(date(2026, 5, 4), Refusal.NOT_SIGNED)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))

    assert RefusedVisitors.objects.get().count == 40


def test_fewer_refusals_than_the_setting_raise_no_alarm(at, settings):
    settings.REFUSED_VISITORS_ALARM = 3
    for reason in (Refusal.NOT_SIGNED, Refusal.ADDRESS_FORM):
        RefusedVisitors.add(at.date(), reason)
    assert alarms.check_refused_visitors(at) == ""

    RefusedVisitors.add(at.date(), Refusal.NOT_SIGNED)

    words = alarms.check_refused_visitors(at)
    assert words.startswith("3 visitors were refused on 4 May 2026")
    assert "1 with an email address that is not in lower case" in words
    assert "2 with a missing or wrong user_hash (your website may sign with an old identity secret" in words


def test_alarm_ends_after_a_day_without_refusals(at, settings):
    settings.REFUSED_VISITORS_ALARM = 1
    RefusedVisitors.add(at.date(), Refusal.NOT_SIGNED)
    for hours in range(48):
        alarms.check_alarms(at=at + timedelta(hours=hours))

    alarm = Alarm.objects.get(kind="refused")
    assert alarm.over_at is not None
    assert alarm.over_at.date() == at.date() + 2 * DAY


def test_old_days_are_deleted(at):
    for days in (0, 89, 92):
        RefusedVisitors.add((at - days * DAY).date(), Refusal.NOT_SIGNED)

    retention.delete_expired(at=at, go_on=lambda: True)

    assert RefusedVisitors.objects.count() == 2
