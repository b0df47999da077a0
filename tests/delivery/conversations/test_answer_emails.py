"""Answer emails: sent once, to customers who have not returned; over a real SMTP socket."""

import threading
from datetime import timedelta
from email import message_from_bytes, policy

import pytest
from django.contrib.auth.models import User
from django.db import connections

from audiences.models import Customer, Workspace
from delivery import rendering, tasks
from delivery.channels import CHANNELS, Rejected
from delivery.channels.email import Email
from delivery.conversations import answer_emails, threads
from delivery.matching import ongoing
from delivery.models import AnswerMail, Conversation, DeliveryRecord, Pace, Status
from delivery.reply_addresses import reply_address
from delivery.sending import outcome
from delivery.sending.connections import URGENT_CONNECTIONS
from delivery.sending.pool import NoDatabase
from delivery.visits import visit
from messaging.models import Channel
from tests.delivery.channels.conftest import server  # noqa: F401 - a fixture
from tests.factories import CustomerFactory, MessageFactory, SenderFactory
from tests.support.sending import send_one_batch
from tests.support.smtp_server import Act, Server

pytestmark = pytest.mark.django_db
AFTER = timedelta(minutes=6)


@pytest.fixture
def grace() -> User:
    return User.objects.create_user("grace", first_name="Grace", last_name="Hopper", is_staff=True)


@pytest.fixture
def post(server) -> Server:  # noqa: F811
    """A mail server that accepts everything."""
    return server()


def open_question(at, *, email: str | None = "ann@shop.example", **facts: object) -> Conversation:
    """Open a conversation by a customer who is visiting."""
    customer = CustomerFactory(name="Ann Lee", email=email, last_seen_at=at, **facts)
    return threads.open_by_customer(customer, body="Where is my <invoice>?", at=at)


def add_answer(at, grace: User, **facts: object) -> Conversation:
    """Answer a customer's conversation a minute later."""
    thread = open_question(at, **facts)
    threads.reply_by_teammate(
        thread, teammate=grace, body="<p>It is <b>here</b> & now.</p>", at=at + timedelta(minutes=1)
    )
    return thread


def forward(at) -> int:
    return answer_emails.send_due_answer_emails(clock=lambda: at, until=at + timedelta(minutes=1))


def received_email(server: Server, number: int = 0):  # noqa: F811
    return message_from_bytes(server.taken[number].content, policy=policy.default)


def test_answer_is_emailed_once_after_a_few_minutes(post, grace, at):
    SenderFactory(name="Grace from Acme", email="grace@acme.example", teammate=grace)
    thread = add_answer(at, grace)

    assert forward(at + timedelta(minutes=5)) == 0
    assert forward(at + AFTER) == 1
    assert forward(at + AFTER) == forward(at + timedelta(days=9)) == 0

    (taken,) = post.taken
    assert taken.recipients == ["ann@shop.example"]
    mail, part = received_email(post), thread.parts.get()
    assert mail["From"] == "Grace from Acme <grace@acme.example>"
    assert mail["Subject"] == "Your conversation with Outbound"
    assert mail["Message-ID"] == answer_emails.answer_message_id(part)
    text = mail.get_body(("plain",)).get_content()
    assert "It is here & now." in text
    assert "> Where is my <invoice>?" in text
    html = mail.get_body(("html",)).get_content()
    assert "<p>It is <b>here</b> &amp; now.</p>" in html
    assert "Where is my &lt;invoice&gt;?" in html
    assert (part.mail.status, part.mail.sent_at, part.mail.address) == (Status.SENT, at + AFTER, "ann@shop.example")


def test_delay_is_a_workspace_setting(post, grace, at):
    Workspace.current()
    Workspace.objects.update(answer_by_email_after=30)
    add_answer(at, grace)

    assert forward(at + timedelta(minutes=30)) == 0
    assert forward(at + timedelta(minutes=31)) == 1


def came_back(thread: Conversation, at) -> None:
    visit.visit(thread.customer, at=at)


def read_it(thread: Conversation, at) -> None:
    threads.mark_read(thread)


def wrote_again(thread: Conversation, at) -> None:
    threads.reply_by_customer(thread, body="Thanks", at=at)


@pytest.mark.parametrize("happened", [came_back, read_it, wrote_again])
def test_customer_who_has_seen_the_answer_gets_no_email(post, grace, at, happened):
    thread = add_answer(at, grace)

    happened(thread, at + timedelta(minutes=3))

    assert forward(at + AFTER) == 0
    assert post.taken == []
    assert AnswerMail.objects.get().status == Status.SKIPPED
    assert AnswerMail.objects.get().detail


def test_visit_before_the_answer_does_not_count(post, grace, at):
    thread = add_answer(at, grace)
    Customer.objects.filter(pk=thread.customer_id).update(last_seen_at=at + timedelta(seconds=59))

    assert forward(at + AFTER) == 1


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"email": None}, "has no email address"),
        ({"email": None, "lead": True}, "has no email address"),
        ({"has_hard_bounced": True}, "bounced"),
        ({"marked_email_as_spam": True}, "spam"),
        ({"archived": True}, "archived"),
    ],
)
def test_unreachable_customer_gets_no_email(post, grace, at, facts, says):
    add_answer(at, grace, **facts)

    assert forward(at + AFTER) == 0
    assert post.taken == []
    assert says in AnswerMail.objects.get().detail


def test_unsubscribed_customer_gets_a_personal_answer(post, grace, at):
    add_answer(at, grace, unsubscribed_from_emails=True)

    assert forward(at + AFTER) == 1
    assert received_email(post)["List-Unsubscribe"] is None


def test_notes_and_state_changes_are_not_emailed(post, grace, at):
    thread = open_question(at)
    threads.add_note(thread, teammate=grace, body="Careful", at=at)
    threads.close(thread, teammate=grace, at=at)

    assert forward(at + AFTER) == 0


def test_concurrent_workers_send_each_answer_once(post, grace, at, transactional_db):
    for number in range(6):
        add_answer(at, grace, email=f"ann{number}@shop.example")
    begin = threading.Barrier(3)
    mailed: list[int] = []

    def sweep() -> None:
        begin.wait()
        mailed.extend(forward(at + AFTER) for _ in range(6))
        connections.close_all()

    workers = [threading.Thread(target=sweep) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert sorted(taken.recipients[0] for taken in post.taken) == [f"ann{n}@shop.example" for n in range(6)]
    assert sum(mailed) == 6


def test_answer_claimed_by_another_worker_is_skipped(post, grace, at):
    add_answer(at, grace)

    assert answer_emails.ANSWER_EMAILS.claim(at=at + AFTER) is not None
    assert answer_emails.ANSWER_EMAILS.claim(at=at + AFTER) is None
    assert forward(at + AFTER) == 0


def test_expired_lease_makes_the_email_uncertain(post, grace, at):
    add_answer(at, grace)
    answer_emails.ANSWER_EMAILS.claim(at=at + AFTER)

    forward(at + timedelta(hours=1))

    assert post.taken == []
    assert AnswerMail.objects.get().status == Status.UNCERTAIN


def test_temporary_refusal_is_retried_and_finally_fails(server, grace, at):  # noqa: F811
    server(RCPT="451 try later")
    add_answer(at, grace)
    now = at + AFTER

    for wait in (timedelta(0), *outcome.BACK_OFF):
        now += wait
        assert AnswerMail.objects.get().status == Status.WAITING
        forward(now)

    mail = AnswerMail.objects.get()
    assert (mail.status, mail.attempts) == (Status.FAILED, len(outcome.BACK_OFF) + 1)
    assert "451 try later" in mail.detail


def test_refused_answer_email_fails_with_the_servers_reason(server, grace, at):  # noqa: F811
    server(RCPT="550 no such mailbox")
    add_answer(at, grace)

    forward(at + AFTER)

    assert (AnswerMail.objects.get().status, "550" in AnswerMail.objects.get().detail) == (Status.FAILED, True)


def test_lost_connection_makes_the_email_uncertain_without_a_retry(server, grace, at):  # noqa: F811
    lost = server(TEXT=Act.DROP)
    add_answer(at, grace)

    forward(at + AFTER)
    forward(at + timedelta(days=1))

    assert AnswerMail.objects.get().status == Status.UNCERTAIN
    assert sum(line.startswith("DATA") for line in lost.heard) == 1


def test_mail_server_outage_uses_up_no_attempt(settings, server, grace, at):  # noqa: F811
    server()
    settings.EMAIL_PORT = 1
    add_answer(at, grace)

    for hours in range(12):
        forward(at + timedelta(hours=1 + hours))
    assert (AnswerMail.objects.get().status, AnswerMail.objects.get().attempts) == (Status.WAITING, 0)

    up = server()
    assert forward(at + timedelta(days=1)) == 1
    assert len(up.taken) == 1


def test_throttle_applies_to_answer_emails(post, grace, at):
    Pace.objects.create(channel="email", warm_up=[1, 5], warm_up_from=at.date())
    for number in range(3):
        add_answer(at, grace, email=f"ann{number}@shop.example")

    assert forward(at + AFTER) == 1
    assert forward(at + timedelta(hours=1)) == 0
    assert set(AnswerMail.objects.values_list("status", "attempts")) == {("sent", 1), ("waiting", 0)}
    assert forward(at + timedelta(days=1)) == 2


def test_mail_server_outage_releases_the_throttle_slot(settings, server, grace, at, monkeypatch):  # noqa: F811
    Pace.objects.create(channel="email", warm_up=[2], warm_up_from=at.date())
    server()
    settings.EMAIL_PORT = 1
    for number in range(3):
        add_answer(at, grace, email=f"ann{number}@shop.example")
    tried, send = [], Email.send
    monkeypatch.setattr(Email, "send", lambda channel, mail: tried.append(mail) or send(channel, mail))

    for second in range(5):
        forward(at + AFTER + timedelta(seconds=second))

    assert len(tried) == 1
    assert Pace.objects.get().taken_today == 0
    server()
    assert forward(at + timedelta(hours=1)) == 2


@pytest.mark.parametrize("wrong", [Rejected("no \0 \ud800"), OSError("gone \0 \ud800")])
def test_reason_that_cannot_be_stored_does_not_prevent_settling(grace, at, monkeypatch, wrong):
    class Wrong:
        def send(self, _envelope) -> str:
            raise wrong

        def close(self) -> None:
            pass

    monkeypatch.setitem(CHANNELS, Channel.EMAIL, Wrong)
    add_answer(at, grace)

    forward(at + AFTER)

    assert AnswerMail.objects.get().detail.endswith("? ?")


def test_answers_of_one_conversation_form_one_email_thread(post, grace, at, settings):
    settings.INBOUND_DOMAIN = "reply.acme.example"
    thread = add_answer(at, grace)
    threads.reply_by_teammate(thread, teammate=grace, body="And one more", at=at + timedelta(minutes=2))

    assert forward(at + timedelta(minutes=8)) == 2

    first, second = received_email(post, 0), received_email(post, 1)
    assert first["Reply-To"] == second["Reply-To"] == reply_address(thread)
    assert first["References"] == second["References"] == answer_emails.thread_message_id(thread)
    assert first["Message-ID"] != second["Message-ID"]


def test_answer_without_a_message_uses_no_sender_of_another_teammate(post, grace, at, settings):
    settings.DEFAULT_FROM_EMAIL = "Acme <support@acme.example>"
    SenderFactory(email="ada@acme.example", teammate=User.objects.create_user("ada"))

    def sent_from(number: int) -> tuple[str, str]:
        thread = threads.open_by_customer(CustomerFactory(email="ann@shop.example"), body="Hello", at=at)
        threads.reply_by_teammate(thread, teammate=grace, body="Hi", at=at)
        assert forward(at + AFTER) == 1
        mail = received_email(post, number)
        return mail["From"], mail["Reply-To"]

    assert sent_from(0) == ("Grace Hopper <support@acme.example>", "support@acme.example")
    SenderFactory(email="all@acme.example", teammate=None)
    Customer.objects.update(email=None)
    assert sent_from(1) == ("Grace Hopper <all@acme.example>", "all@acme.example")


def test_answer_to_a_message_uses_its_sender_and_subject(post, grace, at):
    customer = CustomerFactory(email="ann@shop.example")
    message = MessageFactory(subject="Welcome", live=True, at=at)
    ongoing.match(message, at=at)
    record = DeliveryRecord.objects.get(customer=customer)
    send_one_batch(message, clock=lambda: at)
    record.refresh_from_db()
    (thread,) = threads.open_conversations([record], at=at)
    threads.reply_by_teammate(thread, teammate=grace, body="Hi", at=at)

    assert forward(at + AFTER) == 1

    mail = received_email(post, 1)
    assert (mail["Subject"], mail["From"]) == ("Re: Welcome", "Grace Hopper <ada@acme.example>")
    assert mail["In-Reply-To"] == rendering.message_id(record.pk)


def test_images_are_in_the_email_as_images_and_links(post, grace, at):
    thread = open_question(at)
    image = {"name": "shot.png", "url": "https://acme.example/messenger/images/a.png", "content_type": "image/png"}
    later = at + timedelta(minutes=1)
    threads.reply_by_teammate(thread, teammate=grace, body="", attachments=[image], at=later)

    forward(at + AFTER)

    assert (
        '<img src="https://acme.example/messenger/images/a.png"'
        in received_email(post).get_body(("html",)).get_content()
    )
    assert "shot.png: https://acme.example" in received_email(post).get_body(("plain",)).get_content()


class Slow:
    """A channel that waits a moment for a second email, and notes the order and whether a thread has the database."""

    sent: list[str]
    used_database: list[bool]
    now = most_at_once = 0
    changed = threading.Condition()

    def send(self, envelope) -> str:
        with Slow.changed:
            Slow.now += 1
            Slow.most_at_once = max(Slow.now, Slow.most_at_once)
            Slow.sent.append(envelope.text)
            Slow.used_database.append(not isinstance(connections["default"], NoDatabase))
            Slow.changed.notify_all()
            Slow.changed.wait_for(lambda: Slow.most_at_once >= 2, timeout=0.2)
            Slow.now -= 1
        return ""

    def close(self) -> None:
        pass


@pytest.fixture
def slow(monkeypatch) -> type[Slow]:
    Slow.sent, Slow.used_database, Slow.now, Slow.most_at_once = [], [], 0, 0
    monkeypatch.setitem(CHANNELS, Channel.EMAIL, Slow)
    return Slow


def test_several_answers_are_sent_at_the_same_time_without_the_database_in_a_thread(slow, grace, at):
    for number in range(5):
        add_answer(at, grace, email=f"ann{number}@shop.example")

    assert forward(at + AFTER) == 5

    assert 2 <= slow.most_at_once <= URGENT_CONNECTIONS
    assert set(slow.used_database) == {False}
    assert set(AnswerMail.objects.values_list("status", flat=True)) == {Status.SENT}


def test_answers_of_one_conversation_are_sent_one_after_the_other(slow, grace, at):
    thread = add_answer(at, grace)
    for number in range(3):
        threads.reply_by_teammate(thread, teammate=grace, body=f"And {number}", at=at + timedelta(minutes=2 + number))

    assert forward(at + timedelta(minutes=12)) == 4

    assert slow.most_at_once == 1
    assert [next((n for n in range(3) if f"And {n}" in text), -1) for text in slow.sent] == [-1, 0, 1, 2]


def test_sweep_sends_answer_emails(monkeypatch, grace, at):
    queued: list[object] = []
    monkeypatch.setattr(tasks, "enqueue_task", lambda task, *_args: queued.append(task))

    tasks.sweep()

    assert tasks.forward_answers in queued
