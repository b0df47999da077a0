"""Stored counters: always equal to the real counts, and without blocking concurrent writers."""

from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread

import pytest
from django.db import connection, connections, transaction

from delivery.matching import launch
from delivery.models import CountChange, DeliveryRecord, Reason, Status, Tally
from delivery.models.count import COUNTED, STATUSES
from delivery.reporting import counters
from tests.factories import AT, CustomerFactory, MembershipFactory, MessageFactory

pytestmark = pytest.mark.django_db


def sent(records, **moments) -> None:
    records.update(status=Status.SENT, reason="", due_at=None, sent_at=moments.pop("at", AT), **moments)


@pytest.fixture
def message():
    CustomerFactory.create_batch(5)
    return MessageFactory(in_app=True, one_off=True, live=True)


def test_every_status_is_counted():
    assert set(STATUSES) == set(Status.values)
    assert set(counters.Counts.__dataclass_fields__) == set(COUNTED)


def test_message_without_records_has_zero_counts(message):
    other = MessageFactory()

    assert counters.counts_of([other.pk])[other.pk] == counters.Counts()


def test_counts_include_folded_and_pending_changes(message):
    sent(DeliveryRecord.objects.filter(pk=message.records.first().pk), opened_at=AT)
    before = counters.counts_of([message.pk])[message.pk]

    counters.fold_changes()

    assert not CountChange.objects.exists()
    assert counters.counts_of([message.pk])[message.pk] == before == counters.Counts(waiting=4, sent=1, opened=1)
    message.records.filter(status=Status.WAITING).skip(reason=Reason.ARCHIVED)
    assert counters.counts_of([message.pk])[message.pk] == counters.Counts(skipped=4, sent=1, opened=1)
    counters.fold_changes()
    assert list(counters.find_differences()) == []


def test_every_change_of_a_record_is_counted(message):
    first, second, third, fourth, _ = message.records.order_by("pk")
    sent(DeliveryRecord.objects.filter(pk__in=[first.pk, second.pk]), opened_at=AT, clicked_at=AT, replied_at=AT)
    DeliveryRecord.objects.filter(pk=first.pk).update(bounced_at=AT, complained_at=AT, unsubscribed_at=AT)
    DeliveryRecord.objects.filter(pk=third.pk).update(
        status=Status.SENDING, claim="00000000-0000-0000-0000-000000000000", leased_until=AT
    )
    DeliveryRecord.objects.filter(pk=third.pk).mark_uncertain(reason=Reason.LOST_TOUCH, detail="")
    DeliveryRecord.objects.filter(pk=fourth.pk).withdraw(reason=Reason.STOPPED)

    found = counters.counts_of([message.pk])[message.pk]

    assert found == counters.Counts(
        waiting=1, sent=2, uncertain=1, withdrawn=1, opened=2, clicked=2, replied=2, bounced=1, complained=1,
        unsubscribed=1,
    )  # fmt: skip
    assert found.records == 5
    assert list(counters.find_differences()) == []


def test_removed_timestamp_is_subtracted(message):
    record = DeliveryRecord.objects.filter(pk=message.records.first().pk)
    sent(record, opened_at=AT)
    record.update(opened_at=None)

    assert counters.counts_of([message.pk])[message.pk].opened == 0
    counters.fold_changes()
    assert counters.counts_of([message.pk])[message.pk].opened == 0


def test_rolled_back_change_is_not_counted(message):
    with transaction.atomic():
        sent(message.records.all())
        transaction.set_rollback(True)

    assert counters.counts_of([message.pk])[message.pk] == counters.Counts(waiting=5)


def test_one_statement_writes_one_change_row_per_counter(message):
    CountChange.objects.all().delete()

    sent(message.records.all())

    assert sorted(CountChange.objects.values_list("what", "number")) == [("sent", 5), ("waiting", -5)]


def test_customers_are_counted_once_when_sent_per_company():
    customer = CustomerFactory(name="Ada")
    MembershipFactory.create_batch(3, customer=customer)
    MembershipFactory()
    message = MessageFactory(one_off=True, in_app=True, body="<p>{{ company.name }}</p>", live=True)

    found = counters.counts_of([message.pk])[message.pk]

    assert found.records == 4
    assert counters.customer_count(message, found) == 2


def test_days_follow_the_time_zone(message):
    first, second, *_ = message.records.order_by("pk")
    sent(DeliveryRecord.objects.filter(pk=first.pk), at=datetime(2026, 1, 4, 23, 50, tzinfo=UTC))
    sent(DeliveryRecord.objects.filter(pk=second.pk), at=datetime(2026, 1, 4, 18, 20, tzinfo=UTC))  # 00:05 in Kathmandu

    def days(zone: str) -> list[tuple[int, int]]:
        return [(day.day, numbers["sent"]) for day, numbers in counters.counts_over_time(message, zone=zone)]

    assert days("Europe/Dublin") == [(4, 2)]
    assert days("Asia/Tokyo") == [(5, 2)]
    assert days("Asia/Kathmandu") == [(5, 2)]
    assert days("Asia/Dubai") == [(4, 1), (5, 1)]
    first, last = counters.activity_period(message)
    assert last - first == timedelta(hours=5, minutes=30)
    counters.fold_changes()
    assert days("Asia/Dubai") == [(4, 1), (5, 1)]
    assert [began.hour for began, _ in counters.counts_over_time(message, zone="UTC", step="hour")] == [18, 23]


def test_sent_messages_are_summed_by_channel(message):
    sent(message.records.all())
    counters.fold_changes()
    Tally.objects.update(quarter=AT)

    found = counters.sent_by_channel(since=AT - timedelta(days=1), zone="UTC")

    assert found == {AT.date(): {"in_app": 5}}
    assert counters.sent_by_channel(since=AT + timedelta(days=1), zone="UTC") == {}


def test_differences_are_reported(message):
    counters.fold_changes()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE delivery_count SET waiting = 7")

    assert list(counters.find_differences()) == [f"Message {message.pk}: 7 waiting stored, 5 counted."]
    counters.recount_all()
    assert list(counters.find_differences()) == []
    assert counters.counts_of([message.pk])[message.pk] == counters.Counts(waiting=5)


@pytest.mark.django_db(transaction=True)
def test_concurrent_writers_and_folds_lose_nothing():
    CustomerFactory.create_batch(40)
    message = MessageFactory(one_off=True, in_app=True)
    launch.launch(message, at=AT)
    records = list(message.records.values_list("pk", flat=True))
    start = Barrier(5)

    def work(mine: list[int]) -> None:
        start.wait()
        for pk in mine:
            sent(DeliveryRecord.objects.filter(pk=pk), opened_at=AT)
        connections.close_all()

    def folding() -> None:
        start.wait()
        for _ in range(30):
            counters.fold_changes()
        connections.close_all()

    threads = [Thread(target=work, args=(records[n::3],)) for n in range(3)]
    threads += [Thread(target=folding) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert counters.counts_of([message.pk])[message.pk] == counters.Counts(sent=40, opened=40)
    assert list(counters.find_differences()) == []


@pytest.mark.django_db(transaction=True)
def test_two_writers_of_one_message_do_not_block_each_other(message):
    first, second, *_ = message.records.order_by("pk")
    done = []

    def other() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '2s'")
        sent(DeliveryRecord.objects.filter(pk=second.pk))
        done.append(counters.counts_of([message.pk])[message.pk].sent)
        connections.close_all()

    with transaction.atomic():
        sent(DeliveryRecord.objects.filter(pk=first.pk))
        thread = Thread(target=other)
        thread.start()
        thread.join()

    assert done == [1]
    assert counters.counts_of([message.pk])[message.pk].sent == 2
