"""Reachability of customers, and emails that are sent once whatever the mail server does (behaviour 4.11, 4.13)."""

import re
from urllib.parse import urlsplit

import pytest
from django.test import Client

from audiences.models import Customer
from delivery.models import DeliveryRecord
from messaging.models import Message


def looks_at(link: str) -> str:
    """Open a link of an email, as a person or a scanner does; return the path of its page."""
    path = urlsplit(link.strip(" <>")).path
    assert b"<form" in Client().get(path).content
    return path


def test_unsubscribed_customer_gets_no_more_email_by_audience_and_in_app_is_unaffected(
    staff, server, visit, post, clock
):
    """behaviour 4.11: unsubscribed customers get no email to an audience; in-app messages are not affected."""
    server.user("ann")
    server.user("bob")
    staff.sets_live(subject="First", body='<p>Hi</p><p><a href="{{ unsubscribe_url }}">No more</a></p>')
    (mail,) = post.to("ann")

    link = re.search(r'href="([^"]+)"', mail.get_body("html").get_content())[1]
    Client().post(looks_at(link))
    staff.sets_live(subject="Ongoing")
    one_off = staff.sets_live(subject="One-off", send_type="one_off")
    staff.sets_live(channel="in_app", body="<p>In-app</p>")
    clock.passes(hours=1)

    assert post.subjects_to("ann") == ["First"]
    assert post.subjects_to("bob") == ["First", "Ongoing", "One-off"]
    assert visit("ann") == ["In-app"]
    assert "Unsubscribed from emails 1" in staff.reads("messaging_message_change", one_off)


def test_opening_the_unsubscribe_page_does_not_unsubscribe(staff, server, post):
    """behaviour 4.11: only a click on the page opts out; link scanners only open it."""
    server.user("ann")
    staff.sets_live(subject="First")

    looks_at(post.to("ann")[0]["List-Unsubscribe"])
    staff.sets_live(subject="Second")

    assert post.subjects_to("ann") == ["First", "Second"]


def test_sync_and_browser_cannot_undo_a_customers_opt_out(staff, server, visit, post, clock):
    """behaviour 4.11: a sync or a browser never undoes a customer's own opt-out."""
    server.user("ann")
    staff.sets_live(subject="First")
    # One-click unsubscribe in the mail program (RFC 8058).
    Client().post(looks_at(post.to("ann")[0]["List-Unsubscribe"]), {"List-Unsubscribe": "One-Click"})

    server.user("ann", unsubscribed_from_emails=False)
    visit("ann", unsubscribed_from_emails=False)
    staff.sets_live(subject="Second")
    clock.passes(hours=1)

    assert post.subjects_to("ann") == ["First"]


def test_ongoing_email_matches_an_unsubscribed_customer_once_they_can_be_reached(staff, server, post, clock):
    """behaviour 4.11: an ongoing message matches them once they can be reached."""
    server.user("ann", unsubscribed_from_emails=True)
    server.user("bob", email=None)
    staff.sets_live()
    assert not DeliveryRecord.objects.exists()

    # A sync may undo an opt-out that came from a sync.
    server.user("ann", unsubscribed_from_emails=False)
    server.user("bob")
    clock.passes(hours=1)

    assert post.reached == ["ann", "bob"]


@pytest.mark.parametrize(
    ("flag", "says"), [("has_hard_bounced", "Their email bounced"), ("marked_email_as_spam", "Marked an email as spam")]
)
def test_bounced_and_complaining_customers_get_no_email_until_staff_clear_the_flag(
    staff, server, post, clock, flag, says
):
    """behaviour 4.11: customers who bounced hard or complained get no email that is sent to an audience.

    The flag is set directly, as a provider's report would set it.
    """
    server.user("ann")
    # A one-off that reaches no one is refused.
    server.user("bob")
    Customer.objects.filter(user_id="ann").update(**{flag: True})
    one_off = staff.sets_live(subject="One-off", send_type="one_off")
    staff.sets_live(subject="Ongoing")
    assert post.reached == ["bob", "bob"]
    assert f"{says} 1" in staff.reads("messaging_message_change", one_off)

    staff.presses("customer_clear", Customer.objects.get(user_id="ann").pk, flag)
    clock.passes(hours=1)

    assert post.subjects_to("ann") == ["Ongoing"]


def test_archived_customer_is_in_no_audience(staff, server, post, clock):
    """behaviour 3: customers are archived, out of every audience at once."""
    server.user("ann")
    staff.sets_live(subject="First")
    server.http.delete("/api/users?user_id=ann")

    staff.sets_live(subject="Second")
    clock.passes(hours=1)
    assert post.subjects_to("ann") == ["First"]

    server.user("ann")
    clock.passes(hours=1)
    assert post.subjects_to("ann") == ["First", "Second"]


# The mail server


def test_uncertain_email_is_never_sent_again_automatically(staff, server, post, clock):
    """behaviour 4.13: Outbound never repeats an uncertain delivery by itself."""
    server.user("ann")
    post.hangs_up = True

    message = staff.sets_live(send_type="one_off")
    post.hangs_up = False
    clock.passes(days=3)

    assert post.reached == ["ann"]
    assert DeliveryRecord.objects.get().status == "uncertain"
    assert "Uncertain" in staff.reads("messaging_message_change", message)
    # behaviour 4.9: a one-off is sent once nothing is uncertain.
    assert Message.objects.get().state == "live"


def test_temporarily_refused_email_is_retried_later(staff, server, post, clock):
    """A temporarily refused email is retried with back-off and arrives once."""
    server.user("ann")
    post.answer = "451 Try again later"
    staff.sets_live()
    assert (DeliveryRecord.objects.get().status, DeliveryRecord.objects.get().reason) == ("waiting", "retry")

    post.answer = "250 Taken"
    clock.passes(minutes=2)
    clock.passes(hours=1)

    assert post.reached == ["ann"]


def test_refused_email_fails_with_the_servers_reason(staff, server, post, clock):
    """A permanently refused email fails, with the reason."""
    server.user("ann")
    post.answer = "554 No such person here"
    message = staff.sets_live()

    post.answer = "250 Taken"
    clock.passes(days=1)

    assert post.reached == []
    record = DeliveryRecord.objects.get(message=message)
    assert record.status == "failed"
    assert "No such person here" in staff.reads("delivery_deliveryrecord_change", record.pk)


def test_email_has_the_same_message_id_at_every_attempt(staff, server, post, clock):
    """The Message-ID is deterministic, so that mail servers can recognise a second attempt."""
    server.user("ann")
    ids = []
    take = type(post).handle_DATA

    async def noting(self, server, session, envelope):
        ids.append(re.search(rb"Message-ID: (\S+)", envelope.content)[1])
        return await take(self, server, session, envelope)

    post.handle_DATA = noting.__get__(post)
    try:
        post.answer = "451 Try again later"
        staff.sets_live()
        post.answer = "250 Taken"
        clock.passes(minutes=2)
    finally:
        del post.handle_DATA

    assert len(ids) == 2
    assert len(set(ids)) == 1
