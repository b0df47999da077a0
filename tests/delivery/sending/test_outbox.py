"""Outbox of single sends: rows are claimed once, settled by their claim only, retried and expired."""

import uuid
from datetime import timedelta
from importlib import import_module

import pytest
from django.contrib.auth.models import User
from django.db import connection

from delivery.conversations import threads
from delivery.conversations.answer_emails import ANSWER_EMAILS
from delivery.models import AnswerMail, Status
from tests.factories import CustomerFactory

pytestmark = pytest.mark.django_db
LATER = timedelta(hours=1)


@pytest.fixture
def mails(at) -> list[AnswerMail]:
    """Three answer emails, due one after the other."""
    thread = threads.open_by_customer(CustomerFactory(last_seen_at=at), body="Hello?", at=at)
    grace = User.objects.create_user("grace", is_staff=True)
    for minute in range(3):
        threads.reply_by_teammate(thread, teammate=grace, body="Yes", at=at + timedelta(minutes=minute))
    return list(AnswerMail.objects.order_by("pk"))


def claim(at, *, limit: int = 1) -> list[AnswerMail]:
    return ANSWER_EMAILS.outbox.claim(AnswerMail.objects.due(at), at=at, limit=limit)


def test_oldest_due_rows_are_claimed_and_none_twice(mails, at):
    first, second = claim(at + LATER, limit=2), claim(at + LATER, limit=2)

    assert [first, second] == [mails[:2], mails[2:]]
    assert {(row.status, row.attempts, row.leased_until) for row in first} == {
        (Status.SENDING, 1, at + LATER + ANSWER_EMAILS.outbox.lease)
    }


def test_row_that_another_worker_claimed_meanwhile_is_not_settled(mails, at):
    (row,) = claim(at + LATER)
    AnswerMail.objects.filter(pk=row.pk).update(claim=uuid.uuid4())

    assert not ANSWER_EMAILS.outbox.settle(row, status=Status.SENT, sent_at=at)
    row.refresh_from_db()
    assert (row.status, row.sent_at) == (Status.SENDING, None)


def test_outcome_that_a_provider_reported_meanwhile_is_kept(mails, at):
    (row,) = claim(at + LATER)
    AnswerMail.objects.filter(pk=row.pk).update(status=Status.FAILED, detail="The email bounced.")

    assert not ANSWER_EMAILS.outbox.settle(row, status=Status.SENT, sent_at=at)
    row.refresh_from_db()
    assert (row.status, row.detail) == (Status.FAILED, "The email bounced.")


def test_returned_row_counts_no_attempt(mails, at):
    (row,) = claim(at + LATER)

    ANSWER_EMAILS.outbox.put_back(row, detail="down \0")

    row.refresh_from_db()
    assert (row.status, row.attempts, row.claim, row.leased_until) == (Status.WAITING, 0, None, None)
    assert row.detail == "down ?"


def test_retry_waits_longer_each_time_and_ends_after_the_last_attempt(mails, at):
    (row,) = claim(at + LATER)
    for row.attempts, wait in enumerate(ANSWER_EMAILS.outbox.back_off, start=1):
        assert ANSWER_EMAILS.outbox.retry(row, at=at)
        assert AnswerMail.objects.get(pk=row.pk).due_at == at + wait
        AnswerMail.objects.filter(pk=row.pk).update(status=Status.SENDING, claim=row.claim)

    row.attempts += 1
    assert not ANSWER_EMAILS.outbox.retry(row, at=at)
    assert AnswerMail.objects.get(pk=row.pk).status == Status.SENDING


def test_only_rows_whose_lease_is_over_are_expired(mails, at):
    claim(at + LATER)

    assert not ANSWER_EMAILS.outbox.expired(at + LATER + ANSWER_EMAILS.outbox.lease).exists()
    assert ANSWER_EMAILS.outbox.expired(at + LATER + ANSWER_EMAILS.outbox.lease + timedelta(seconds=1)).count() == 1


def test_rows_that_the_version_before_claimed_get_a_lease_in_the_migration(mails, at):
    AnswerMail.objects.filter(pk=mails[0].pk).update(status=Status.SENDING, taken_at=at)
    statement = import_module("delivery.migrations.0022_answer_email_claims").ADD_CLAIMS

    with connection.cursor() as cursor:
        cursor.execute(statement)

    held, waiting, _ = AnswerMail.objects.order_by("pk")
    assert (held.leased_until, held.claim is None) == (at + ANSWER_EMAILS.outbox.lease, False)
    assert (waiting.leased_until, waiting.claim) == (None, None)
