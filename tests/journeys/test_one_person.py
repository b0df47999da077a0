"""Send a one-off message to a single person: from their profile, or from a phone (behaviour 4.12)."""

import re

import pytest

from audiences.models import Customer
from delivery.models import DeliveryRecord
from messaging.models import Message
from tests.support.pages import field_of


def test_profile_has_a_send_a_message_button_in_the_top_right_corner(staff, server):
    """To send a one-off message to a particular customer, head to their profile and click 'Send a message'."""
    server.user("ann", name="Ann Lee")

    profile = staff.opens_profile("ann")

    above_the_content, _, _ = profile.partition('<div id="content"')
    assert 'aria-label="Send a message"' in above_the_content
    assert "Ann Lee" in staff.opens_send_a_message("ann")


def test_message_from_the_profile_is_an_in_app_chat_by_default(staff, server, visit, post):
    """Note: The message is sent as an in-app chat by default."""
    server.user("ann")
    server.user("bob")

    said = staff.writes_to("ann", body="<p>Hi Ann, can I help?</p>")

    assert "will see the message as soon as they are in your app" in said
    (shown,) = visit.shown_messages("ann")
    assert (shown["format"], shown["body"]) == ("chat", "<p>Hi Ann, can I help?</p>")
    assert shown["from"]["name"] == "Ada"
    assert visit("bob") == []
    assert post.reached == []


def test_message_from_the_profile_can_be_an_in_app_announcement(staff, server, visit):
    """You can send it as an in-app announcement too."""
    server.user("ann")

    staff.writes_to("ann", way="announcement", body="<p>You are in our beta</p>")

    (shown,) = visit.shown_messages("ann")
    assert (shown["format"], shown["body"]) == ("announcement", "<p>You are in our beta</p>")


def test_message_from_the_profile_can_be_sent_by_email(staff, server, visit, post):
    """You can send it … by email too."""
    server.user("ann", name="Ann Lee")

    said = staff.writes_to("ann", way="email", subject="Hi {{ first_name }}", body="<p>Can I help?</p>")

    assert "The message is on its way to Ann Lee" in said
    assert post.reached == ["ann"]
    assert post.subjects_to("ann") == ["Hi Ann"]
    assert visit("ann") == []


def test_form_posted_twice_sends_one_message(staff, server, post):
    """Compose and send your message: one click or two."""
    server.user("ann")
    ticket = field_of(staff.opens_send_a_message("ann"), "ticket")

    for _ in range(2):
        staff.writes_to("ann", way="email", subject="Hi", ticket=ticket)

    assert post.subjects_to("ann") == ["Hi"]


def from_a_phone(staff, server, user_id: str, kind: str):
    """Open a customer's profile, compose and send, as an app does by the API."""
    profile = server.get("/api/users", user_id=user_id).json()
    return server.post(
        "/api/messages",
        {
            "message_type": kind,
            "subject": "Hi",
            "body": "Are you there?",
            "from": {"type": "admin", "id": str(staff.user.pk)},
            "to": {"type": "user", "id": profile["id"]},
        },
    )


def test_teammate_writes_to_a_customer_from_a_phone(staff, server, visit):
    """Open a customer's profile, click the message icon in the top right corner, compose and send your message."""
    server.user("ann")

    sent = from_a_phone(staff, server, "ann", "inapp").json()

    (shown,) = visit.shown_messages("ann")
    assert (shown["format"], shown["body"]) == ("chat", "<p>Are you there?</p>")
    (conversation,) = server.conversations("ann").json()["conversations"]
    assert conversation["conversation_message"]["id"] == sent["id"]
    assert conversation["conversation_message"]["delivered_as"] == "admin_initiated"


def test_teammate_sends_an_email_to_a_customer_from_a_phone(staff, server, visit, post):
    """From a phone: you can send it … by email too."""
    server.user("ann")

    from_a_phone(staff, server, "ann", "email")

    assert post.subjects_to("ann") == ["Hi"]
    assert visit("ann") == []


def test_message_to_one_person_is_on_the_profile_and_under_a_separate_filter(staff, server):
    """behaviour 4.12: listed on the profile and under a filter of their own, not in the Outbound tabs."""
    server.user("ann", name="Ann Lee")
    staff.writes_to("ann", way="email", subject="Just for Ann")

    assert "Just for Ann" in staff.opens_profile("ann")
    assert "Just for Ann" not in staff.reads("messaging_message_changelist")
    assert "Just for Ann" not in staff.reads("messaging_message_changelist", send_type__exact="one_off")
    assert "Just for Ann" in staff.reads("messaging_message_changelist", to="one_person")


def test_unsubscribed_customer_is_written_to_from_the_console_with_a_warning_and_not_by_api(staff, server, post):
    """behaviour 4.12: staff can write to an unsubscribed customer (with a warning), the API cannot (403)."""
    server.user("ann", unsubscribed_from_emails=True)

    assert from_a_phone(staff, server, "ann", "email").status_code == 403
    assert post.reached == []

    assert "unsubscribed from emails" in staff.opens_send_a_message("ann")
    staff.writes_to("ann", way="email", subject="Your invoice")
    assert post.subjects_to("ann") == ["Your invoice"]
    assert post.to("ann")[0]["List-Unsubscribe"] is None


@pytest.mark.parametrize(
    ("flag", "says"), [("has_hard_bounced", "bounced"), ("marked_email_as_spam", "marked an email as spam")]
)
def test_bounced_and_complaining_customers_are_not_written_to_until_staff_clear_the_flag(
    staff, server, post, flag, says
):
    """behaviour 4.12: customers who bounced or complained cannot be written to until staff clear the flag.

    The flag is set directly, as a provider's report would set it.
    """
    server.user("ann")
    Customer.objects.filter(user_id="ann").update(**{flag: True})

    assert says in staff.writes_to("ann", way="email", subject="Hi")
    assert not Message.objects.exists()

    staff.presses("customer_clear", Customer.objects.get(user_id="ann").pk, flag)
    staff.writes_to("ann", way="email", subject="Hi")
    assert post.subjects_to("ann") == ["Hi"]


def test_message_with_a_company_variable_asks_which_company_and_is_one_copy(staff, server, post):
    """behaviour 4.12: one copy (with a company variable the composer asks which company)."""
    server.user("ann", companies=[{"company_id": "1", "name": "Acme"}, {"company_id": "2", "name": "Globex"}])
    about = {"way": "email", "subject": "About {{ company.name }}"}

    assert "choose which company it is about" in staff.writes_to("ann", **about)
    assert post.reached == []

    page = staff.opens_send_a_message("ann")
    globex = re.search(r'<option value="(\d+)"[^>]*>\s*Globex', page)
    staff.writes_to("ann", **about, company=globex[1])
    assert post.subjects_to("ann") == ["About Globex"]


def test_message_to_one_person_is_live_at_once_and_then_sent(staff, server, clock):
    """behaviour 4.12: a one-off with to_customer, live at once, no audience or window, one copy."""
    server.user("ann")
    staff.writes_to("ann", way="email", subject="Hi")

    clock.passes(minutes=1)

    message = Message.objects.get()
    assert (message.send_type, message.state, message.audience, message.window) == ("one_off", "sent", None, [])
    assert DeliveryRecord.objects.get().sent_at == message.went_live_at
