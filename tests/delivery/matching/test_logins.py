"""Logins that REST, bulk jobs and imports report, judged with the last-seen value from before (behaviour 4.16)."""

import json
from datetime import datetime, timedelta

import pytest
from django.db import connection, transaction

from audiences import intake
from audiences.intake import bulk_jobs
from audiences.intake.csv_import.upsert import COLUMNS, upsert_slice
from audiences.models import Customer
from delivery.matching import recheck, rounds
from delivery.models import Status
from delivery.visits import visit
from messaging.models import Message
from tests.factories import CustomerFactory, MessageFactory, rule

pytestmark = pytest.mark.django_db(transaction=True)

HOUR, LONG_AGO = timedelta(hours=1), timedelta(days=40)
RULES = [rule("last_seen_at", "more_than_days_ago", 30), rule("name", "is", "Pro")]
TOMORROW = [{"weekday": 1, "from": "09:00", "to": "17:00"}]


@pytest.fixture
def customer(at) -> Customer:
    return CustomerFactory(user_id="25", email="25@x.example", name="Free", last_seen_at=at - LONG_AGO)


@pytest.fixture
def message(at, customer) -> Message:
    """A message that everyone was judged for once."""
    message = MessageFactory(rules=RULES, window=TOMORROW, live=True, at=at)
    rounds.run_round(at=at)
    return message


def log_in(at: datetime) -> None:
    intake.identify({"user_id": "25", "name": "Pro", "update_last_request_at": True}, at=at)


def report_moment(at: datetime) -> None:
    intake.identify({"user_id": "25", "name": "Pro", "last_request_at": at.timestamp()}, at=at)


def run_bulk_job(at: datetime) -> None:
    data = {"user_id": "25", "name": "Pro", "last_request_at": at.timestamp()}
    bulk_jobs.submit_job([{"method": "post", "data": json.loads(json.dumps(data))}], data_type="user", to=None, at=at)
    assert bulk_jobs.process_jobs(clock=lambda: at, go_on=lambda: True) == 1


def import_row(at: datetime) -> None:
    row = dict.fromkeys(COLUMNS) | {"line": 1, "user_id": "25", "name": "Pro", "last_seen_at": at}
    with transaction.atomic(), connection.cursor() as cursor:
        upsert_slice(cursor, [[row[name] for name in COLUMNS]], tag=None, at=at)


@pytest.mark.parametrize("report", [log_in, report_moment, run_bulk_job, import_row])
@pytest.mark.parametrize("is_driven", [True, False])
def test_login_is_judged_with_the_previous_last_seen(at, customer, message, settings, report, is_driven):
    settings.CHANGE_DRIVEN_MATCHING = is_driven
    report(at + HOUR / 2)

    assert rounds.run_round(at=at + HOUR).made == 1

    record = message.records.get()
    assert (record.status, record.judged_last_seen_at) == (Status.WAITING, at - LONG_AGO)
    # The login itself withdraws nothing, and neither does a visit of the same session.
    visit.visit(customer, at=at + HOUR * 0.9)
    assert recheck.recheck_due(message, at=at.replace(day=5, hour=9)) == 0


def test_check_after_a_login_uses_the_previous_last_seen(at, customer, message):
    log_in(at + HOUR / 2)

    assert visit.check(customer, at=at + HOUR / 2) is None

    assert message.records.get().judged_last_seen_at == at - LONG_AGO


@pytest.mark.parametrize("hours", [3, 30])
def test_login_is_judged_once_and_later_changes_see_the_new_last_seen(at, customer, message, hours):
    intake.identify({"user_id": "25", "update_last_request_at": True}, at=at + HOUR / 2)
    rounds.run_round(at=at + HOUR)
    Customer.objects.update(name="Pro")

    assert rounds.run_round(at=at + hours * HOUR).made == 0
    assert not message.records.exists()


def test_first_match_judges_everyone_as_of_now(at, customer):
    log_in(at)
    message = MessageFactory(rules=RULES, live=True, at=at)

    assert rounds.run_round(at=at + HOUR / 4).made == 0
    assert not message.records.exists()


def test_report_of_an_old_moment_begins_no_session(at, customer, message):
    Customer.objects.update(last_seen_at=at)
    intake.identify({"user_id": "25", "name": "Pro", "last_request_at": (at - LONG_AGO).timestamp()}, at=at)

    customer.refresh_from_db()
    assert (customer.last_seen_at, customer.present_since_at) == (at - LONG_AGO, at - LONG_AGO)
