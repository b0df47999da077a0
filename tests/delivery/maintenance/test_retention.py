"""What was kept long enough goes; what rules ask, and every delivery record, stays."""

import logging
import uuid
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from audiences.models import Event, EventSummary, Job, JobItem, Workspace
from delivery import rendering, schedule, tasks
from delivery.maintenance import retention
from delivery.matching import direct, ongoing
from delivery.models import DeliveryRecord, Reason, Status
from delivery.reporting import counters
from delivery.sending import dispatcher
from messaging import content
from messaging.models import Message
from tests.factories import CustomerFactory, EventFactory, EventSummaryFactory, MessageFactory, SenderFactory

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def kept(**days: int) -> None:
    Workspace.current()
    Workspace.objects.update(**days)


def forget(at, **more) -> dict[str, int]:
    return retention.delete_expired(at=at, go_on=lambda: True, **more)


def sent(at, *, channel: str = "email", body: str = "<p>Hi {{ first_name }}</p>") -> DeliveryRecord:
    customer = CustomerFactory(name="Ann", email=f"{uuid.uuid4()}@x.example")
    message = MessageFactory(one_off=True, live=True, at=at, channel=channel, body=body)
    DeliveryRecord.objects.filter(message=message, customer=customer).mark_sending(claim=uuid.uuid4(), until=at)
    mine = DeliveryRecord.objects.get(message=message, customer=customer)
    DeliveryRecord.objects.filter(pk=mine.pk).update(filled={"first_name": "Ann"}, version=message.version, taken_at=at)
    DeliveryRecord.objects.filter(pk=mine.pk).mark_sent(at=at)
    mine.refresh_from_db()
    return mine


def test_with_nothing_set_everything_is_kept_for_ever(at):
    EventFactory(happened_at=at - 5000 * DAY)
    record = sent(at - 5000 * DAY)

    assert forget(at) == {}

    record.refresh_from_db()
    assert (Event.objects.count(), record.filled) == (1, {"first_name": "Ann"})


@pytest.mark.parametrize(("age", "left"), [(29, 1), (31, 0)])
def test_events_older_than_the_days_go_and_their_summaries_stay(at, age, left):
    kept(keep_events_days=30)
    event = EventFactory(happened_at=at - age * DAY)
    EventSummaryFactory(customer=event.customer, name=event.name)

    found = forget(at)

    assert (Event.objects.count(), EventSummary.objects.count(), found["events"]) == (left, 1, 1 - left)


def test_a_rule_on_what_they_did_matches_as_before(at):
    kept(keep_events_days=30)
    customer = CustomerFactory(email="ann@x.example")
    EventFactory(customer=customer, name="exported", happened_at=at - 100 * DAY)
    EventSummaryFactory(customer=customer, name="exported", count=1, first_at=at - 100 * DAY, last_at=at - 100 * DAY)
    asks = {"match": "all", "rules": [{"attribute": "event_count.exported", "operator": "is", "value": 1}]}
    forget(at)

    message = MessageFactory(live=True, at=at, rules=asks)
    ongoing.match(message, at=at)

    assert message.records.count() == 1


@pytest.mark.parametrize(("age", "is_kept"), [(29, True), (31, False)])
def test_what_was_filled_in_goes_and_the_record_with_its_times_stays(at, age, is_kept):
    kept(keep_copies_days=30)
    record = sent(at - age * DAY)
    DeliveryRecord.objects.filter(pk=record.pk).update(opened_at=at - age * DAY)

    forget(at)

    record.refresh_from_db()
    assert bool(record.filled) is is_kept
    assert (record.status, record.sent_at, record.opened_at) == (Status.SENT, at - age * DAY, at - age * DAY)
    if is_kept:
        assert "Hi Ann" in rendering.as_read(record).text
    else:
        with pytest.raises(content.ContentError, match="no longer kept"):
            rendering.as_read(record)


def test_counts_of_a_message_stay_true(at):
    kept(keep_copies_days=30)
    record = sent(at - 31 * DAY)
    counters.fold_changes()
    before = counters.counts_of([record.message_id])[record.message_id]

    forget(at)

    counters.fold_changes()
    assert counters.counts_of([record.message_id])[record.message_id] == before
    assert before.sent == 1


def test_page_of_the_record_says_that_it_is_no_longer_kept(at, admin_client):
    kept(keep_copies_days=30)
    record = sent(at - 31 * DAY)
    forget(at)

    page = admin_client.get(f"/admin/delivery/deliveryrecord/{record.pk}/change/").content.decode()

    assert "It is no longer kept how this one read." in page


def test_copies_without_variables_still_read_as_they_did(at):
    kept(keep_copies_days=30)
    record = sent(at - 31 * DAY, body="<p>Hello everyone</p>")
    DeliveryRecord.objects.update(filled={})

    forget(at)

    record.refresh_from_db()
    assert "Hello everyone" in rendering.as_read(record).text


def to_one(at) -> Message:
    customer = CustomerFactory(email="ann@x.example", name="Ann")
    boss = User.objects.create_superuser("boss")
    direct.send_to_one(
        customer, channel="email", format="", sender=SenderFactory(), subject="About you", body="<p>Dear Ann</p>",
        by=boss, at=at,
    )  # fmt: skip
    dispatcher.dispatch(clock=lambda: at, until=at + timedelta(minutes=1))
    return Message.objects.to_one_person().get()


def test_what_was_written_to_one_person_goes(at):
    kept(keep_copies_days=30)
    message = to_one(at - 31 * DAY)
    assert message.records.get().status == Status.SENT

    assert forget(at) == {"letters": 1, "copies": 0}

    message.refresh_from_db()
    assert (message.version.subject, message.version.body) == ("", "")
    with pytest.raises(content.ContentError, match="no longer kept"):
        rendering.as_read(message.records.get())
    assert forget(at + DAY) == {"letters": 0, "copies": 0}


def test_in_app_messages_are_kept_as_they_stand_in_conversations(at):
    kept(keep_copies_days=30)
    CustomerFactory(name="Ann")
    message = MessageFactory(in_app=True, one_off=True, live=True, at=at - 31 * DAY)
    message.records.update(status=Status.SENT, sent_at=at - 31 * DAY, filled={"first_name": "Ann"}, due_at=None)

    forget(at)

    assert message.records.get().filled == {"first_name": "Ann"}


def test_what_is_uncertain_is_left_alone_as_it_may_be_sent_again(at):
    kept(keep_copies_days=30)
    CustomerFactory(email="ann@x.example")
    record = MessageFactory(one_off=True, live=True, at=at - 31 * DAY).records.get()
    rows = DeliveryRecord.objects.filter(pk=record.pk)
    rows.mark_sending(claim=uuid.uuid4(), until=at)
    rows.update(filled={"first_name": "Ann"}, taken_at=at - 31 * DAY)
    rows.mark_uncertain(reason=Reason.LOST_TOUCH, detail="")

    forget(at)

    assert rows.get().filled == {"first_name": "Ann"}


def test_what_integrations_sent_and_could_not_be_written_goes_with_the_events(at):
    kept(keep_events_days=30)
    job = Job.objects.create(created_at=at, updated_at=at)
    for age in (29, 31):
        done = job.tasks.create(item_count=1, created_at=at, completed_at=at - age * DAY)
        done.items.create(method="post", data_type="user", data={"email": "x"}, error="No.", error_code="x")
    job.tasks.create(item_count=1, created_at=at - 60 * DAY).items.create(method="post", data_type="user")

    assert forget(at)["job items"] == 1
    assert JobItem.objects.count() == 2


def test_it_goes_in_slices_stops_when_asked_and_goes_on_the_next_day(at):
    kept(keep_events_days=30)
    EventFactory.create_batch(10, happened_at=at - 40 * DAY)
    turns = iter([True, True, False, False])

    found = retention.delete_expired(at=at, go_on=lambda: next(turns), size=3)

    assert found["events"] == 6
    assert forget(at, size=3)["events"] == 4
    assert Event.objects.count() == 0


def test_the_log_tells_how_many_of_each_went(at, caplog):
    kept(keep_events_days=30, keep_copies_days=30)
    EventFactory(happened_at=at - 40 * DAY)
    sent(at - 31 * DAY)

    with caplog.at_level(logging.INFO, logger="delivery.maintenance.retention"):
        forget(at)

    assert caplog.messages == ["kept long enough: 1 events, 0 job items, 0 letters, 1 copies"]


def test_the_schedule_asks_for_it_once_a_day_and_the_task_does_it():
    schedule.install()
    task = PeriodicTask.objects.get(task="delivery.tasks.forget_old")
    assert (task.interval.schedule.run_every, task.enabled) == (DAY, True)
    kept(keep_events_days=30)
    EventFactory(happened_at=timezone.now() - 31 * DAY)

    tasks.forget_old()

    assert Event.objects.count() == 0


@pytest.mark.parametrize("days", [0, 6])
def test_a_few_days_are_refused_as_what_is_under_way_needs_them(admin_client, days):
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


def test_alarm_addresses_are_addresses(admin_client):
    workspace = Workspace.current()
    workspace.alarm_to = "ops@acme.example, nobody"

    with pytest.raises(Exception, match="“nobody” is no email address"):
        workspace.full_clean()
