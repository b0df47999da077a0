"""Alarms: one email when a problem begins and one when it ends, with any number of processes and checks."""

import re
import smtplib
import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.db import connection
from django_celery_beat.models import PeriodicTask

from audiences.models import ConfirmationMail, Subscription, Workspace
from config import alarm_thread
from delivery import schedule
from delivery.channels import CHANNELS, ChannelDown
from delivery.conversations import threads as conversation_threads
from delivery.matching import ongoing
from delivery.models import (
    Alarm,
    AlarmKind,
    AnswerMail,
    ChannelOutage,
    DeliveryRecord,
    Heartbeat,
    MachineClock,
    MissedMatch,
    Pace,
    Reason,
    Refusal,
    RefusedVisitors,
)
from delivery.monitoring import alarms, health
from messaging.models import Channel, Message, SendingDomain, State
from messaging.models.sending_domain import Verdict
from outbound import roles
from outbound.templatetags.console import PAGE_PERMISSIONS
from tests.factories import CustomerFactory, MessageFactory, SenderFactory
from tests.support.records import mark_records_sent
from tests.support.sending import send_one_batch

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


@pytest.fixture
def ops(db) -> None:
    Workspace.current()
    Workspace.objects.update(alarm_to="ops@acme.example, boss@acme.example", name="Acme")


@pytest.fixture(autouse=True)
def nothing_was_to_run(db) -> None:
    """Tests about the schedule create it."""
    PeriodicTask.objects.all().delete()


def subjects() -> list[str]:
    return [one.subject for one in mail.outbox]


def late_sweep(at) -> None:
    health.record_sweep(at=at - 4 * MINUTE)


def late_beat(at) -> None:
    schedule.install()
    PeriodicTask.objects.update(last_run_at=at - 16 * MINUTE, date_changed=at)


def copy_due(at):
    CustomerFactory(email="ann@x.example")
    message = MessageFactory(live=True, at=at, title="Welcome")
    ongoing.match(message, at=at)
    DeliveryRecord.objects.update(due_at=at - 11 * MINUTE)
    return message


def channel_rests(at) -> None:
    ChannelOutage.record_refusal("email", why="Connection refused", at=at - 4 * MINUTE)
    ChannelOutage.record_refusal("email", why="Connection refused", at=at - 2 * MINUTE)


def message_in_trouble(at) -> None:
    type(MessageFactory(live=True, at=at)).objects.update(problem="The tag is gone.")


def message_paused_itself(at) -> None:
    type(MessageFactory(live=True, at=at)).objects.update(state="paused", paused_because="Many complaints.")


def copy_uncertain(at) -> None:
    CustomerFactory(email="ann@x.example")
    ongoing.match(MessageFactory(live=True, at=at), at=at)
    DeliveryRecord.objects.all().mark_sending(claim=uuid.uuid4(), until=at)
    DeliveryRecord.objects.all().mark_uncertain(reason=Reason.LOST_TOUCH, detail="")


def answer_not_mailed(at) -> None:
    thread = conversation_threads.open_by_customer(CustomerFactory(email="ann@x.example"), body="Hi", at=at)
    part = thread.parts.create(body="Hello", created_at=at)
    AnswerMail.objects.create(part=part, due_at=at - 11 * MINUTE)


def confirmation_not_mailed(at) -> None:
    lead = CustomerFactory(lead=True, email="bea@x.example")
    ConfirmationMail.objects.request("bea@x.example", customer=lead, at=at - 11 * MINUTE)


def webhook_fails(at) -> None:
    Subscription.objects.create(
        url="https://x.example/hook", topics=["user.created"], created_at=at, updated_at=at,
        failing_since=at - 16 * MINUTE,
    )  # fmt: skip


def visitors_refused(at) -> None:
    for _ in range(20):
        RefusedVisitors.add(at.date(), Refusal.ADDRESS_FORM)


def customer_missed(at) -> None:
    message = MessageFactory(live=True, at=at, title="Welcome")
    MissedMatch.objects.create(message=message, customer_id=42, found_at=at - MINUTE)


def clock_behind(at) -> None:
    MachineClock.record_clock("worker-2", ahead=-10 * MINUTE, at=at)
    MachineClock.record_clock("worker-1", ahead=timedelta(seconds=29), at=at)


def short_key(_at) -> None:
    settings.SECRET_KEY = "abc"


@pytest.fixture(autouse=True)
def fallbacks(settings) -> None:
    """Keep the old key valid when `short_key` replaces it; both are restored after the test."""
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]


def domain_rejected(at) -> None:
    MessageFactory(live=True, sender=SenderFactory(email="ann@Shop.acme.co"))
    store_rejection("shop.acme.co")


def store_rejection(domain: str, **facts) -> None:
    finding = {"check": "DMARC", "verdict": Verdict.REJECTED, "text": "DMARC is missing.", "records": []}
    SendingDomain.objects.update_or_create(name=domain, defaults={"findings": [finding], **facts})


HAPPENS = {
    AlarmKind.BEAT: (late_beat, "The scheduler (celery beat) has not run since"),
    AlarmKind.SWEEP: (late_sweep, "The minute sweep has not finished since 4 May 2026, 09:56."),
    AlarmKind.CHANNEL: (channel_rests, "Email has been unavailable since 4 May 2026, 09:56: Connection refused"),
    AlarmKind.DUE: (copy_due, "“Welcome” has been due since 4 May 2026, 09:49 but is not being sent."),
    AlarmKind.TROUBLE: (message_in_trouble, "The tag is gone."),
    AlarmKind.PAUSED: (message_paused_itself, "Many complaints."),
    AlarmKind.UNCERTAIN: (copy_uncertain, "1 copy may or may not have been sent"),
    AlarmKind.ANSWERS: (answer_not_mailed, "1 answer has not been emailed on time."),
    AlarmKind.WEBHOOKS: (webhook_fails, "https://x.example/hook has been failing since"),
    AlarmKind.REFUSED: (
        visitors_refused,
        "20 visitors were refused on 4 May 2026 and do not see the messenger: 20 with an email address that is not in"
        " lower case",
    ),
    AlarmKind.MISSED: (customer_missed, f"“Welcome” missed customer 42. {alarms.MISSED_ADVICE}"),
    AlarmKind.SECRET_KEY: (
        short_key,
        "SECRET_KEY has 3 characters; it needs at least 32. Set a new key, and add the old",
    ),
    AlarmKind.DOMAIN: (domain_rejected, "shop.acme.co: DMARC is missing.\n"),
    AlarmKind.CLOCK: (
        clock_behind,
        "The clock of worker-2 is 600 seconds behind the database’s. Is a time service (NTP) running there?\n",
    ),
}


def test_every_kind_of_alarm_has_a_check_a_page_and_a_test():
    assert set(AlarmKind) == set(alarms.CHECKS) == set(alarms.PAGES) == set(HAPPENS) == set(PAGE_PERMISSIONS)


@pytest.mark.parametrize("kind", AlarmKind)
def test_alarm_email_has_the_problem_its_time_and_a_link(at, ops, kind):
    happens, words = HAPPENS[kind]
    happens(at)

    alarms.check_alarms(at=at)

    assert [alarm.kind for alarm in Alarm.objects.all()] == [kind]
    (sent,) = mail.outbox
    assert sent.subject == f"Alarm: {kind.label.lower()} (Acme)"
    assert words in sent.body
    assert sent.to == ["ops@acme.example", "boss@acme.example"]
    assert sent.extra_headers["Auto-Submitted"] == "auto-generated"


@pytest.mark.parametrize("kind", AlarmKind)
def test_page_of_every_alarm_opens(admin_client, kind):
    assert admin_client.get(alarms.PAGES[kind], follow=True).status_code == 200


def test_no_problem_sends_no_email(at, ops):
    health.record_sweep(at=at)

    alarms.check_alarms(at=at)

    assert (mail.outbox, Alarm.objects.count()) == ([], 0)


def test_first_run_is_late_once_the_schedule_is_old_enough(at, ops):
    schedule.install()
    PeriodicTask.objects.update(date_changed=at, last_run_at=None)

    alarms.check_alarms(at=at + 2 * MINUTE)
    assert not mail.outbox
    alarms.check_alarms(at=at + 6 * MINUTE)

    assert [one.body.partition(".")[0] for one in mail.outbox] == [
        "The scheduler (celery beat) has not run since the installation",
        "The minute sweep has not finished since the installation",
    ]


def test_alarm_sends_one_email_when_it_begins_and_one_when_it_ends(at, ops):
    health.record_sweep(at=at - 4 * MINUTE)
    for minute in range(5):
        alarms.check_alarms(at=at + minute * MINUTE)
    assert subjects() == ["Alarm: minute sweep not running (Acme)"]

    for minute in range(5, 20):
        health.record_sweep(at=at + minute * MINUTE)
        alarms.check_alarms(at=at + minute * MINUTE)

    assert subjects() == ["Alarm: minute sweep not running (Acme)", "Resolved: minute sweep not running (Acme)"]
    assert Alarm.objects.get().over_at == at + 10 * MINUTE


def test_problem_that_comes_and_goes_is_one_alarm(at, ops):
    for minute in range(0, 20, 2):
        Heartbeat.record_run(health.SWEEP, at=at + minute * MINUTE - (4 * MINUTE if minute % 4 == 0 else 0 * MINUTE))
        alarms.check_alarms(at=at + minute * MINUTE)

    assert len(mail.outbox) == 1


def test_problem_that_returns_after_the_alarm_ended_is_a_new_alarm(at, ops):
    for hour in (0, 1):
        then = at + timedelta(hours=hour)
        health.record_sweep(at=then - 4 * MINUTE)
        alarms.check_alarms(at=then)
        health.record_sweep(at=then + 10 * MINUTE)
        alarms.check_alarms(at=then + 10 * MINUTE)

    assert [subject.partition(":")[0] for subject in subjects()] == ["Alarm", "Resolved"] * 2


class Refuses(EmailBackend):
    """A mail server that is unreachable."""

    def send_messages(self, messages):
        raise smtplib.SMTPServerDisconnected("Connection refused")


def test_failed_alarm_email_is_retried(at, ops, settings):
    kept, settings.EMAIL_BACKEND = settings.EMAIL_BACKEND, f"{__name__}.Refuses"
    late_sweep(at)
    alarms.check_alarms(at=at)
    assert Alarm.objects.get().notified_at is None
    settings.EMAIL_BACKEND = kept

    alarms.send_notifications(at=at + MINUTE)
    assert mail.outbox == []
    alarms.send_notifications(at=at + 6 * MINUTE)
    alarms.send_notifications(at=at + 12 * MINUTE)

    assert (len(mail.outbox), Alarm.objects.get().notified_at) == (1, at + 6 * MINUTE)


def test_unsent_alarm_sends_one_email_after_it_ended(at, ops):
    Alarm.objects.create(kind=AlarmKind.SWEEP, description="It stood.", began_at=at, seen_at=at, over_at=at + MINUTE)

    alarms.send_notifications(at=at + 2 * MINUTE)
    alarms.send_notifications(at=at + 3 * MINUTE)

    assert subjects() == ["Resolved: minute sweep not running (Acme)"]
    assert "It stood." in mail.outbox[0].body


def test_without_addresses_in_the_settings_all_admins_get_the_email(at):
    User.objects.create_superuser("root", "root@acme.example", "pass")
    User.objects.create_user("viewer", "viewer@acme.example", is_staff=True)
    User.objects.create_superuser("gone", "gone@acme.example", "pass", is_active=False)
    late_sweep(at)

    alarms.check_alarms(at=at)

    assert mail.outbox[0].to == ["root@acme.example"]


def test_moving_or_throttled_queue_raises_no_alarm(at, ops):
    message = copy_due(at)
    CustomerFactory(email="bob@x.example")
    ongoing.match(message, at=at)
    first, second = DeliveryRecord.objects.order_by("pk")
    mark_records_sent(DeliveryRecord.objects.filter(pk=first.pk), at=at - MINUTE)
    DeliveryRecord.objects.filter(pk=second.pk).update(due_at=at - 30 * MINUTE)
    assert alarms.check_due_messages(at) == ""

    DeliveryRecord.objects.filter(pk=first.pk).update(sent_at=at - 12 * MINUTE)
    assert "Welcome" in alarms.check_due_messages(at)
    Pace.objects.create(channel="email", warm_up=[1, 2], warm_up_from=at.date(), day=at.date(), taken_today=1)
    assert alarms.check_due_messages(at) == ""


def test_channel_alarm_needs_repeated_refusals_and_ends_with_success(at):
    ChannelOutage.record_refusal("email", why="Refused", at=at)
    assert alarms.check_channels(at) == ""
    ChannelOutage.record_refusal("email", why="Refused", at=at + 2 * MINUTE)
    ChannelOutage.record_refusal("email", why="Refused", at=at + 4 * MINUTE)
    assert "Refused" in alarms.check_channels(at + 4 * MINUTE)
    assert alarms.check_channels(at + 8 * MINUTE) == ""

    ChannelOutage.record_refusal("email", why="Refused", at=at + 20 * MINUTE)

    assert ChannelOutage.objects.get().since == at + 20 * MINUTE


def test_batch_records_the_outage_of_its_channel(at, monkeypatch, settings, tmp_path):
    settings.FLIGHTS_DIR = str(tmp_path)

    class Down:
        def send(self, _envelope):
            raise ChannelDown("Connection refused")

        def close(self):
            """Nothing is open."""

    monkeypatch.setitem(CHANNELS, Channel.EMAIL, Down)
    CustomerFactory(email="ann@x.example")
    message = MessageFactory(live=True, at=at)
    ongoing.match(message, at=at)

    send_one_batch(message, clock=lambda: at)

    assert ChannelOutage.objects.values_list("channel", "since", "why").get() == ("email", at, "Connection refused")


@pytest.mark.django_db(transaction=True)
def test_concurrent_checks_send_one_email(at):
    Workspace.current()
    Workspace.objects.update(alarm_to="ops@acme.example")
    late_sweep(at)
    together = threading.Barrier(4)

    def look():
        together.wait()
        try:
            alarms.check_alarms(at=at)
        finally:
            connection.close()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert (len(mail.outbox), Alarm.objects.count()) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_alarm_thread_survives_errors_and_stops_on_request(at, monkeypatch):
    ended, looked = threading.Event(), []

    def look(*, at):
        looked.append(at)
        if len(looked) == 1:
            raise RuntimeError("The database is away.")
        ended.set()

    monkeypatch.setattr(alarms, "check_alarms", look)
    thread = threading.Thread(target=alarm_thread.watch, kwargs={"every": 0.01, "until": ended})
    thread.start()
    thread.join(timeout=20)

    assert (thread.is_alive(), len(looked)) == (False, 2)


def test_every_page_of_the_console_shows_active_alarms(at, admin_client):
    assert "ob-alarms" not in admin_client.get("/admin/").content.decode()
    Alarm.objects.create(kind=AlarmKind.UNCERTAIN, description="3 copies are uncertain.", began_at=at, seen_at=at)

    for page in ("/admin/", "/admin/audiences/customer/"):
        assert "3 copies are uncertain." in admin_client.get(page).content.decode()


@pytest.mark.parametrize("role", roles.Role)
def test_alarm_has_no_link_to_a_page_without_permission(at, client, role):
    teammate = User.objects.create_user("eve", is_staff=True)
    roles.give_role(teammate, role)
    client.force_login(teammate)
    for kind in AlarmKind:
        Alarm.objects.create(kind=kind, description="It stands.", began_at=at, seen_at=at)

    page = client.get("/admin/").content.decode()
    banner = page[page.index("ob-alarms") : page.index("</section>", page.index("ob-alarms"))]

    assert banner.count("It stands.") == len(AlarmKind)
    links = re.findall(r'href="([^"]+)"', banner)
    assert links
    assert [client.get(link, follow=True).status_code for link in links] == [200] * len(links)


def test_console_shows_a_late_sweep_although_no_check_runs(at, admin_client):
    health.record_sweep(at=at)

    assert "The minute sweep has not finished since" in admin_client.get("/admin/").content.decode()
    assert Alarm.objects.count() == 0


@pytest.mark.parametrize(
    ("message", "domain", "facts"),
    [
        ({"state": State.PAUSED}, "shop.acme.co", {}),
        ({}, "acme.co", {}),
        ({}, "shop.acme.co", {"allowed_at": datetime(2026, 5, 1, tzinfo=UTC)}),
        ({}, "shop.acme.co", {"findings": []}),
    ],
    ids=["paused", "another domain", "allowed by an Admin", "nothing to reject"],
)
def test_domain_that_no_live_email_needs_raises_no_alarm(at, message, domain, facts):
    live = MessageFactory(live=True, sender=SenderFactory(email="ann@shop.acme.co"))
    Message.objects.filter(pk=live.pk).update(**message)
    store_rejection(domain, **facts)

    assert alarms.check_sender_domains(at) == ""


def test_confirmation_emails_that_are_overdue_raise_the_alarm_of_answers(at):
    confirmation_not_mailed(at)
    assert alarms.check_answer_emails(at) == "1 confirmation email has not been sent on time."

    answer_not_mailed(at)

    assert alarms.check_answer_emails(at) == (
        "1 answer has not been emailed on time. 1 confirmation email has not been sent on time."
    )
