"""Double opt-in: a visitor leaves an address, confirms it, and gets the emails to an audience (behaviour 4.30)."""

import re
from urllib.parse import urlsplit

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from audiences.models import Customer, Workspace
from tests.factories import rule
from tests.support.pages import as_page, field_of

IS_LEAD = [rule("role", "is", "lead")]


def link_in(mail) -> str:
    text = mail.get_body(("plain",)).get_content()
    return urlsplit(re.search(r"https?://\S+/m/confirm/\S+", text)[0]).path


@pytest.fixture
def switch(staff):
    """Let an Admin switch double opt-in on or off on the page of the settings."""

    def press(**changes: object) -> str:
        key = Workspace.current().pk
        shown = staff.opens("audiences_workspace_change", key)
        names = ("name", "zone", "colour", "confirm_above", "drift_percent", "cap_days", "answer_by_email_after")
        return staff.presses(
            "audiences_workspace_change", key, **{name: field_of(shown, name) for name in names}, **changes
        )

    return press


def lead(server, name: str) -> str:
    answered = server.post("/api/contacts", {"email": f"{name}@x.example"})
    assert answered.status_code == 200
    return answered.json()["id"]


def test_lead_gets_campaigns_only_after_confirming(staff, server, post, clock, switch):
    lead(server, "old")
    assert "1 person has an address that they must confirm." in staff.reads("audiences_workspace_change", 1)
    switch(double_opt_in="on")
    assert "Leads confirm their address: from no to yes" in LogEntry.objects.latest("pk").change_message
    bea = lead(server, "bea")
    server.user("ann")
    clock.passes(minutes=1)
    assert post.subjects_to("bea") == ["Confirm your email address for Outbound"]
    assert post.subjects_to("old") == []

    everyone = {"match": "any", "rules": [*IS_LEAD, rule("role", "is", "user")]}
    draft = staff.fields(subject="News", send_type="one_off", rules=everyone)
    assert "Has not confirmed the address 2" in staff.presses("message_forecast", **draft)
    news = staff.sets_live(subject="News", send_type="one_off", rules=everyone)
    welcome = staff.sets_live(subject="Welcome", rules=IS_LEAD)
    clock.passes(hours=1)
    assert post.subjects_to("ann") == ["News"]
    assert post.subjects_to("bea") == ["Confirm your email address for Outbound"]
    assert "Has not confirmed the address" in staff.reads("messaging_message_change", news)
    assert "Has not confirmed the address" in staff.reads("customer_why", bea, message=welcome)

    page = Client().get(link_in(post.to("bea")[0]))
    assert "Confirm my address" in page.content.decode()
    clock.passes(hours=1)
    assert post.subjects_to("bea") == ["Confirm your email address for Outbound"]
    done = Client(enforce_csrf_checks=True).post(link_in(post.to("bea")[0]))
    assert "Your address is confirmed" in as_page(done.content.decode())
    clock.passes(hours=1)

    # The one-off is over for her, the ongoing message is not.
    assert post.subjects_to("bea")[1:] == ["Welcome"]
    assert "Confirmed on 4 May 2026" in staff.reads("audiences_customer_change", bea)
    assert post.subjects_to("old") == []


def test_answer_reaches_a_lead_who_has_not_confirmed(staff, server, post, clock, switch):
    switch(double_opt_in="on")
    key = lead(server, "bea")
    clock.passes(minutes=1)
    for way in ("email",):
        page = staff.opens("customer_send_message", key)
        assert "has not confirmed their address" in page
        fields = {"way": way, "sender": staff.sender.pk, "subject": "Hi", "body": "<p>x</p>"}
        staff.presses("customer_send_message", key, **fields, ticket=field_of(page, "ticket"))

    assert post.subjects_to("bea") == ["Confirm your email address for Outbound", "Hi"]
    said = {"message_type": "email", "subject": "Buy", "body": "x", "template": "plain"}
    sent = server.post(
        "/api/messages",
        {**said, "from": {"type": "admin", "id": str(staff.user.pk)}, "to": {"type": "contact", "id": key}},
    )
    assert sent.status_code == 403
    assert "has not confirmed their email address" in sent.content.decode()


def test_staff_ask_a_lead_of_before_the_setting(staff, server, post, clock, switch):
    old = lead(server, "old")
    switch(double_opt_in="on")
    assert "is on its way to old@x.example" in staff.presses("customer_confirmation", old)
    clock.passes(minutes=1)
    assert "The next one can be sent on 5 May 2026" in staff.presses("customer_confirmation", old)

    Client().post(link_in(post.to("old")[0]))
    staff.sets_live(subject="Welcome", rules=IS_LEAD)

    assert post.subjects_to("old")[1:] == ["Welcome"]
    # A new address is not confirmed.
    server.http.put(f"/api/contacts/{old}", {"email": "new@x.example"}, format="json")
    assert Customer.objects.get(pk=old).opted_in_at is None
    staff.sets_live(subject="Again", rules=IS_LEAD)
    clock.passes(minutes=1)
    assert post.subjects_to("new") == ["Confirm your email address for Outbound"]
