"""Alarms: told once when it begins and once when it is over, whoever looks, however often."""

import re
import smtplib
import threading
import uuid
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.db import connection
from django_celery_beat.models import PeriodicTask

from audiences.models import Subscription, Workspace
from config import alarm_thread
from delivery import schedule
from delivery.channels import ChannelDown
from delivery.conversations import threads as conversation_threads
from delivery.matching import ongoing
from delivery.models import (
    Alarm,
    AlarmKind,
    AnswerMail,
    ChannelOutage,
    DeliveryRecord,
    Heartbeat,
    Pace,
    Reason,
    Refusal,
    RefusedVisitors,
)
from delivery.monitoring import alarms, health
from delivery.sending import batch
from messaging.models import Channel
from outbound import roles
from outbound.templatetags.console import LOOKS_AFTER
from tests.factories import CustomerFactory, MessageFactory

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


@pytest.fixture
def ops(db) -> None:
    Workspace.current()
    Workspace.objects.update(alarm_to="ops@acme.example, boss@acme.example", name="Acme")


@pytest.fixture(autouse=True)
def nothing_was_to_run(db) -> None:
    """A test that is about the schedule makes it."""
    PeriodicTask.objects.all().delete()


def subjects() -> list[str]:
    return [one.subject for one in mail.outbox]


def late_sweep(at) -> None:
    health.swept(at=at - 4 * MINUTE)


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
    type(MessageFactory(live=True, at=at)).objects.update(trouble="The tag is gone.")


def copy_uncertain(at) -> None:
    CustomerFactory(email="ann@x.example")
    ongoing.match(MessageFactory(live=True, at=at), at=at)
    DeliveryRecord.objects.all().mark_sending(claim=uuid.uuid4(), until=at)
    DeliveryRecord.objects.all().mark_uncertain(reason=Reason.LOST_TOUCH, detail="")


def answer_not_mailed(at) -> None:
    thread = conversation_threads.open_by_customer(CustomerFactory(email="ann@x.example"), body="Hi", at=at)
    part = thread.parts.create(body="Hello", created_at=at)
    AnswerMail.objects.create(part=part, due_at=at - 11 * MINUTE)


def webhook_fails(at) -> None:
    Subscription.objects.create(
        url="https://x.example/hook", topics=["user.created"], created_at=at, updated_at=at,
        failing_since=at - 16 * MINUTE,
    )  # fmt: skip


def visitors_refused(at) -> None:
    for _ in range(20):
        RefusedVisitors.add(at.date(), Refusal.ADDRESS_FORM)


HAPPENS = {
    AlarmKind.BEAT: (late_beat, "Beat asked for nothing since"),
    AlarmKind.SWEEP: (late_sweep, "No sweep has ended since 4 May 2026, 09:56."),
    AlarmKind.CHANNEL: (channel_rests, "Email takes nothing since 4 May 2026, 09:56: Connection refused"),
    AlarmKind.DUE: (copy_due, "“Welcome” is due since 4 May 2026, 09:49 and not handed over."),
    AlarmKind.TROUBLE: (message_in_trouble, "The tag is gone."),
    AlarmKind.UNCERTAIN: (copy_uncertain, "1 copy is uncertain"),
    AlarmKind.ANSWERS: (answer_not_mailed, "1 answer is due and not mailed."),
    AlarmKind.WEBHOOKS: (webhook_fails, "https://x.example/hook was not reached since"),
    AlarmKind.REFUSED: (
        visitors_refused,
        "20 visitors were refused on 4 May 2026, and see no messenger: 20 with an address that is not in lower case",
    ),
}


def test_every_kind_is_watched_leads_somewhere_and_is_tried_here():
    assert set(AlarmKind) == set(alarms.WATCHED) == set(alarms.PAGES) == set(HAPPENS) == set(LOOKS_AFTER)


@pytest.mark.parametrize("kind", AlarmKind)
def test_what_is_stuck_is_mailed_with_what_where_and_since_when(at, ops, kind):
    happens, words = HAPPENS[kind]
    happens(at)

    alarms.watch(at=at)

    assert [alarm.kind for alarm in Alarm.objects.all()] == [kind]
    (sent,) = mail.outbox
    assert sent.subject == f"Alarm: {kind.label.lower()} (Acme)"
    assert words in sent.body
    assert sent.to == ["ops@acme.example", "boss@acme.example"]
    assert sent.extra_headers["Auto-Submitted"] == "auto-generated"


@pytest.mark.parametrize("kind", AlarmKind)
def test_each_page_an_alarm_leads_to_opens(admin_client, kind):
    assert admin_client.get(alarms.PAGES[kind], follow=True).status_code == 200


def test_where_all_is_well_nobody_hears_anything(at, ops):
    health.swept(at=at)

    alarms.watch(at=at)

    assert (mail.outbox, Alarm.objects.count()) == ([], 0)


def test_what_never_ran_is_late_once_the_schedule_is_old_enough(at, ops):
    schedule.install()
    PeriodicTask.objects.update(date_changed=at, last_run_at=None)

    alarms.watch(at=at + 2 * MINUTE)
    assert not mail.outbox
    alarms.watch(at=at + 6 * MINUTE)

    assert [one.body.partition(".")[0] for one in mail.outbox] == [
        "Beat asked for nothing since the beginning",
        "No sweep has ended since the beginning",
    ]


def test_one_mail_when_it_begins_and_one_when_it_is_over_however_often_is_looked(at, ops):
    health.swept(at=at - 4 * MINUTE)
    for minute in range(5):
        alarms.watch(at=at + minute * MINUTE)
    assert subjects() == ["Alarm: minute sweep not running (Acme)"]

    for minute in range(5, 20):
        health.swept(at=at + minute * MINUTE)
        alarms.watch(at=at + minute * MINUTE)

    assert subjects() == ["Alarm: minute sweep not running (Acme)", "Over: minute sweep not running (Acme)"]
    assert Alarm.objects.get().over_at == at + 10 * MINUTE


def test_what_comes_and_goes_is_one_alarm(at, ops):
    for minute in range(0, 20, 2):
        Heartbeat.record_run(health.SWEEP, at=at + minute * MINUTE - (4 * MINUTE if minute % 4 == 0 else 0 * MINUTE))
        alarms.watch(at=at + minute * MINUTE)

    assert len(mail.outbox) == 1


def test_what_happens_again_after_it_was_over_is_told_again(at, ops):
    for hour in (0, 1):
        then = at + timedelta(hours=hour)
        health.swept(at=then - 4 * MINUTE)
        alarms.watch(at=then)
        health.swept(at=then + 10 * MINUTE)
        alarms.watch(at=then + 10 * MINUTE)

    assert [subject.partition(":")[0] for subject in subjects()] == ["Alarm", "Over"] * 2


class Refuses(EmailBackend):
    """A mail server that is not there."""

    def send_messages(self, messages):
        raise smtplib.SMTPServerDisconnected("Connection refused")


def test_a_mail_that_cannot_leave_is_tried_again(at, ops, settings):
    kept, settings.EMAIL_BACKEND = settings.EMAIL_BACKEND, f"{__name__}.Refuses"
    late_sweep(at)
    alarms.watch(at=at)
    assert Alarm.objects.get().told_at is None
    settings.EMAIL_BACKEND = kept

    alarms.tell(at=at + MINUTE)
    assert mail.outbox == []
    alarms.tell(at=at + 6 * MINUTE)
    alarms.tell(at=at + 12 * MINUTE)

    assert (len(mail.outbox), Alarm.objects.get().told_at) == (1, at + 6 * MINUTE)


def test_an_alarm_nobody_could_be_told_of_is_told_once_when_it_is_over(at, ops):
    Alarm.objects.create(kind=AlarmKind.SWEEP, description="It stood.", began_at=at, seen_at=at, over_at=at + MINUTE)

    alarms.tell(at=at + 2 * MINUTE)
    alarms.tell(at=at + 3 * MINUTE)

    assert subjects() == ["Over: minute sweep not running (Acme)"]
    assert "It stood." in mail.outbox[0].body


def test_with_no_address_in_the_settings_every_admin_hears_of_it(at):
    User.objects.create_superuser("root", "root@acme.example", "pass")
    User.objects.create_user("viewer", "viewer@acme.example", is_staff=True)
    User.objects.create_superuser("gone", "gone@acme.example", "pass", is_active=False)
    late_sweep(at)

    alarms.watch(at=at)

    assert mail.outbox[0].to == ["root@acme.example"]


def test_nobody_is_alarmed_by_a_queue_that_moves_or_may_not(at, ops):
    message = copy_due(at)
    CustomerFactory(email="bob@x.example")
    ongoing.match(message, at=at)
    first, second = DeliveryRecord.objects.order_by("pk")
    DeliveryRecord.objects.filter(pk=first.pk).mark_sending(claim=uuid.uuid4(), until=at)
    DeliveryRecord.objects.filter(pk=first.pk).mark_sent(at=at - MINUTE)
    DeliveryRecord.objects.filter(pk=second.pk).update(due_at=at - 30 * MINUTE)
    assert alarms.due(at) == ""

    DeliveryRecord.objects.filter(pk=first.pk).update(sent_at=at - 12 * MINUTE)
    assert "Welcome" in alarms.due(at)
    Pace.objects.create(channel="email", warm_up=[1, 2], warm_up_from=at.date(), day=at.date(), taken_today=1)
    assert alarms.due(at) == ""


def test_a_channel_that_refused_once_does_not_rest_yet_and_one_that_works_again_no_more(at):
    ChannelOutage.record_refusal("email", why="Refused", at=at)
    assert alarms.channel(at) == ""
    ChannelOutage.record_refusal("email", why="Refused", at=at + 2 * MINUTE)
    ChannelOutage.record_refusal("email", why="Refused", at=at + 4 * MINUTE)
    assert "Refused" in alarms.channel(at + 4 * MINUTE)
    assert alarms.channel(at + 8 * MINUTE) == ""

    ChannelOutage.record_refusal("email", why="Refused", at=at + 20 * MINUTE)

    assert ChannelOutage.objects.get().since == at + 20 * MINUTE


def test_a_batch_that_finds_the_channel_down_notes_it(at, monkeypatch, settings, tmp_path):
    settings.FLIGHTS_DIR = str(tmp_path)

    class Down:
        def send(self, _envelope):
            raise ChannelDown("Connection refused")

        def close(self):
            """Nothing is open."""

    monkeypatch.setitem(batch.CHANNELS, Channel.EMAIL, Down)
    CustomerFactory(email="ann@x.example")
    message = MessageFactory(live=True, at=at)
    ongoing.match(message, at=at)

    assert batch.send_batch(message, clock=lambda: at) is None

    assert ChannelOutage.objects.values_list("channel", "since", "why").get() == ("email", at, "Connection refused")


@pytest.mark.django_db(transaction=True)
def test_watchers_at_once_send_one_mail(at):
    Workspace.current()
    Workspace.objects.update(alarm_to="ops@acme.example")
    late_sweep(at)
    together = threading.Barrier(4)

    def look():
        together.wait()
        try:
            alarms.watch(at=at)
        finally:
            connection.close()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert (len(mail.outbox), Alarm.objects.count()) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_a_process_goes_on_watching_whatever_goes_wrong_and_ends_when_told(at, monkeypatch):
    ended, looked = threading.Event(), []

    def look(*, at):
        looked.append(at)
        if len(looked) == 1:
            raise RuntimeError("The database is away.")
        ended.set()

    monkeypatch.setattr(alarms, "watch", look)
    thread = threading.Thread(target=alarm_thread.watch, kwargs={"every": 0.01, "until": ended})
    thread.start()
    thread.join(timeout=20)

    assert (thread.is_alive(), len(looked)) == (False, 2)


def test_console_shows_what_is_stuck_on_every_page(at, admin_client):
    assert "ob-alarms" not in admin_client.get("/admin/").content.decode()
    Alarm.objects.create(kind=AlarmKind.UNCERTAIN, description="3 copies are uncertain.", began_at=at, seen_at=at)

    for page in ("/admin/", "/admin/audiences/customer/"):
        assert "3 copies are uncertain." in admin_client.get(page).content.decode()


@pytest.mark.parametrize("role", roles.Role)
def test_an_alarm_leads_nobody_to_a_page_they_may_not_see(at, client, role):
    roles.install()
    teammate = User.objects.create_user("eve", is_staff=True)
    roles.give(teammate, role)
    client.force_login(teammate)
    for kind in AlarmKind:
        Alarm.objects.create(kind=kind, description="It stands.", began_at=at, seen_at=at)

    page = client.get("/admin/").content.decode()
    banner = page[page.index("ob-alarms") : page.index("</section>", page.index("ob-alarms"))]

    assert banner.count("It stands.") == len(AlarmKind)
    links = re.findall(r'href="([^"]+)"', banner)
    assert links
    assert [client.get(link, follow=True).status_code for link in links] == [200] * len(links)


def test_console_shows_a_silent_sweep_though_nobody_watches(at, admin_client):
    health.swept(at=at)

    assert "No sweep has ended since" in admin_client.get("/admin/").content.decode()
    assert Alarm.objects.count() == 0
