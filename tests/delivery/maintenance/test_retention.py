"""Retention deletes old data; data that rules need and delivery records stay."""

import logging
import uuid
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from audiences.models import ConfirmationMail, Event, EventSummary, Job, JobItem, Workspace
from delivery import rendering, schedule, tasks
from delivery.maintenance import retention
from delivery.matching import direct, ongoing
from delivery.models import DeliveryRecord, MissedMatch, Reason, Status
from delivery.reporting import counters
from delivery.sending import dispatcher
from messaging import content
from messaging.models import Message
from tests.factories import CustomerFactory, EventFactory, EventSummaryFactory, MessageFactory, SenderFactory
from tests.support.records import mark_records_sent

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def kept(**days: int) -> None:
    Workspace.current()
    Workspace.objects.update(**days)


def run_retention(at, **more) -> dict[str, int]:
    return retention.delete_expired(at=at, go_on=lambda: True, **more)


def sent(at, *, channel: str = "email", body: str = "<p>Hi {{ first_name }}</p>") -> DeliveryRecord:
    customer = CustomerFactory(name="Ann", email=f"{uuid.uuid4()}@x.example")
    message = MessageFactory(one_off=True, live=True, at=at, channel=channel, body=body)
    DeliveryRecord.objects.filter(message=message, customer=customer).mark_sending(claim=uuid.uuid4(), until=at)
    mine = DeliveryRecord.objects.get(message=message, customer=customer)
    DeliveryRecord.objects.filter(pk=mine.pk).update(
        variables={"first_name": "Ann"}, version=message.version, taken_at=at
    )
    mark_records_sent(DeliveryRecord.objects.filter(pk=mine.pk), at=at)
    mine.refresh_from_db()
    return mine


def test_without_limits_nothing_is_deleted(at):
    EventFactory(happened_at=at - 5000 * DAY)
    record = sent(at - 5000 * DAY)

    assert run_retention(at) == {}

    record.refresh_from_db()
    assert (Event.objects.count(), record.variables) == (1, {"first_name": "Ann"})


@pytest.mark.parametrize(("age", "left"), [(29, 1), (31, 0)])
def test_old_events_are_deleted_and_their_summaries_stay(at, age, left):
    kept(keep_events_days=30)
    event = EventFactory(happened_at=at - age * DAY)
    EventSummaryFactory(customer=event.customer, name=event.name)

    found = run_retention(at)

    assert (Event.objects.count(), EventSummary.objects.count(), found["events"]) == (left, 1, 1 - left)


def test_event_rule_matches_after_its_events_were_deleted(at):
    kept(keep_events_days=30)
    customer = CustomerFactory(email="ann@x.example")
    EventFactory(customer=customer, name="exported", happened_at=at - 100 * DAY)
    EventSummaryFactory(customer=customer, name="exported", count=1, first_at=at - 100 * DAY, last_at=at - 100 * DAY)
    asks = {"match": "all", "rules": [{"attribute": "event_count.exported", "operator": "is", "value": 1}]}
    run_retention(at)

    message = MessageFactory(live=True, at=at, rules=asks)
    ongoing.match(message, at=at)

    assert message.records.count() == 1


@pytest.mark.parametrize(("age", "is_kept"), [(29, True), (31, False)])
def test_variables_are_deleted_and_the_record_stays(at, age, is_kept):
    kept(keep_copies_days=30)
    record = sent(at - age * DAY)
    DeliveryRecord.objects.filter(pk=record.pk).update(opened_at=at - age * DAY)

    run_retention(at)

    record.refresh_from_db()
    assert bool(record.variables) is is_kept
    assert (record.status, record.sent_at, record.opened_at) == (Status.SENT, at - age * DAY, at - age * DAY)
    if is_kept:
        assert "Hi Ann" in rendering.render_sent_copy(record).text
    else:
        with pytest.raises(content.ContentError, match="deleted under the retention policy"):
            rendering.render_sent_copy(record)


def test_counts_of_a_message_stay_correct(at):
    kept(keep_copies_days=30)
    record = sent(at - 31 * DAY)
    counters.fold_changes()
    before = counters.counts_of([record.message_id])[record.message_id]

    run_retention(at)

    counters.fold_changes()
    assert counters.counts_of([record.message_id])[record.message_id] == before
    assert before.sent == 1


def test_page_of_a_record_reports_that_its_content_was_deleted(at, admin_client):
    kept(keep_copies_days=30)
    record = sent(at - 31 * DAY)
    run_retention(at)

    page = admin_client.get(f"/admin/delivery/deliveryrecord/{record.pk}/change/").content.decode()

    assert "has been deleted under the retention policy." in page


def test_copies_without_variables_stay_readable(at):
    kept(keep_copies_days=30)
    record = sent(at - 31 * DAY, body="<p>Hello everyone</p>")
    DeliveryRecord.objects.update(variables={}, judged_values={"country": "France"})

    run_retention(at)

    record.refresh_from_db()
    assert record.judged_values is None
    assert "Hello everyone" in rendering.render_sent_copy(record).text


def to_one(at) -> Message:
    customer = CustomerFactory(email="ann@x.example", name="Ann")
    boss = User.objects.create_superuser("boss")
    direct.send_to_one(
        customer, channel="email", format="", sender=SenderFactory(), subject="About you", body="<p>Dear Ann</p>",
        by=boss, at=at,
    )  # fmt: skip
    dispatcher.dispatch(clock=lambda: at, until=at + timedelta(minutes=1))
    return Message.objects.to_one_person().get()


def test_content_of_direct_messages_is_deleted(at):
    kept(keep_copies_days=30)
    message = to_one(at - 31 * DAY)
    assert message.records.get().status == Status.SENT

    assert run_retention(at) == {"direct messages": 1, "copies": 0}

    message.refresh_from_db()
    assert (message.version.subject, message.version.body) == ("", "")
    with pytest.raises(content.ContentError, match="content has been deleted under the retention policy"):
        rendering.render_sent_copy(message.records.get())
    assert run_retention(at + DAY) == {"direct messages": 0, "copies": 0}


def test_in_app_messages_in_conversations_are_kept(at):
    kept(keep_copies_days=30)
    CustomerFactory(name="Ann")
    message = MessageFactory(in_app=True, one_off=True, live=True, at=at - 31 * DAY)
    message.records.update(status=Status.SENT, sent_at=at - 31 * DAY, variables={"first_name": "Ann"}, due_at=None)

    run_retention(at)

    assert message.records.get().variables == {"first_name": "Ann"}


def test_uncertain_records_are_kept_because_they_may_be_sent_again(at):
    kept(keep_copies_days=30)
    CustomerFactory(email="ann@x.example")
    record = MessageFactory(one_off=True, live=True, at=at - 31 * DAY).records.get()
    rows = DeliveryRecord.objects.filter(pk=record.pk)
    rows.mark_sending(claim=uuid.uuid4(), until=at)
    rows.update(variables={"first_name": "Ann"}, taken_at=at - 31 * DAY)
    rows.mark_uncertain(reason=Reason.LOST_TOUCH, detail="")

    run_retention(at)

    assert rows.get().variables == {"first_name": "Ann"}


def test_address_of_a_confirmation_email_is_blanked_once_nobody_has_it_and_the_link_has_expired(at):
    owners = CustomerFactory(lead=True, email="bea@xn--mnchen-3ya.example"), CustomerFactory(email="ann@x.example")
    for address in ("bea@münchen.example", "ann@x.example", "gone@x.example", "gone@münchen.example"):
        ConfirmationMail.objects.request(address, customer=owners[0], at=at)
    ConfirmationMail.objects.request("late@x.example", customer=owners[0], at=at + DAY)
    ConfirmationMail.objects.update(detail="550", provider_id="p1")

    run_retention(at + 30 * DAY + timedelta(seconds=1))

    kept_rows = {"bea@münchen.example", "ann@x.example", "late@x.example"}
    rows = ConfirmationMail.objects.values_list("address", "detail", "provider_id")
    assert set(rows) == {(None, "", "")} | {(address, "550", "p1") for address in kept_rows}
    assert ConfirmationMail.objects.of_address("gone@x.example").exists()


def test_failed_bulk_items_are_deleted_with_the_events(at):
    kept(keep_events_days=30)
    job = Job.objects.create(created_at=at, updated_at=at)
    for age in (29, 31):
        done = job.tasks.create(item_count=1, created_at=at, completed_at=at - age * DAY)
        done.items.create(method="post", data_type="user", data={"email": "x"}, error="No.", error_code="x")
    job.tasks.create(item_count=1, created_at=at - 60 * DAY).items.create(method="post", data_type="user")

    assert run_retention(at)["job items"] == 1
    assert JobItem.objects.count() == 2


def test_retention_works_in_slices_and_continues_the_next_day(at):
    kept(keep_events_days=30)
    EventFactory.create_batch(10, happened_at=at - 40 * DAY)
    turns = iter([True, True, False, False])

    found = retention.delete_expired(at=at, go_on=lambda: next(turns), size=3)

    assert found["events"] == 6
    assert run_retention(at, size=3)["events"] == 4
    assert Event.objects.count() == 0


def test_log_has_the_number_of_deleted_rows(at, caplog):
    kept(keep_events_days=30, keep_copies_days=30)
    EventFactory(happened_at=at - 40 * DAY)
    sent(at - 31 * DAY)

    with caplog.at_level(logging.INFO, logger="delivery.maintenance.retention"):
        run_retention(at)

    assert caplog.messages == ["retention deleted: 1 events, 0 job items, 0 direct messages, 1 copies"]


def test_schedule_runs_retention_daily():
    schedule.install()
    task = PeriodicTask.objects.get(task="delivery.tasks.forget_old")
    assert (task.interval.schedule.run_every, task.enabled) == (DAY, True)
    kept(keep_events_days=30)
    EventFactory(happened_at=timezone.now() - 31 * DAY)

    tasks.forget_old()

    assert Event.objects.count() == 0


@pytest.mark.parametrize("days", [0, 6])
def test_too_short_retention_is_refused(admin_client, days):
    workspace = Workspace.current()
    page = f"/admin/audiences/workspace/{workspace.pk}/change/"
    form = admin_client.get(page).context["adminform"].form
    typed = {name: form.get_initial_for_field(field, name) for name, field in form.fields.items()}
    typed = {name: value for name, value in typed.items() if value not in (None, False)}

    refused = admin_client.post(page, {**typed, "keep_events_days": days})
    assert "keep_events_days" in refused.context["adminform"].form.errors
    assert admin_client.post(page, {**typed, "keep_events_days": 90}).status_code == 302

    workspace.refresh_from_db()
    assert workspace.keep_events_days == 90


def test_invalid_alarm_address_is_refused(admin_client):
    workspace = Workspace.current()
    workspace.alarm_to = "ops@acme.example, nobody"

    with pytest.raises(Exception, match="“nobody” is not a valid email address"):
        workspace.full_clean()


def test_expired_sessions_are_deleted(at):
    for key, ends in (("expired", at - DAY), ("valid", at + DAY)):
        Session.objects.create(session_key=key, session_data="", expire_date=ends)

    retention.delete_expired(at=at, go_on=lambda: True)

    assert Session.objects.get().session_key == "valid"


def test_missed_matches_are_deleted_after_90_days(at):
    message = MessageFactory()
    for days in (89, 91):
        MissedMatch.objects.create(message=message, customer_id=days, found_at=at - timedelta(days=days))

    retention.delete_expired(at=at, go_on=lambda: True)

    assert MissedMatch.objects.get().customer_id == 89
