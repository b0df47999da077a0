"""One-off messages are great for announcing, for reaching out now, and for trying a message out."""

import re

import pytest
from django.urls import reverse

from audiences.models import Customer
from messaging.models import Message
from tests.factories import rule

PRO = [rule("custom_attributes.plan", "is", "pro")]


def test_feature_is_announced_by_email_at_once(staff, server, post, client):
    """Announcing a feature or update: these work well for time-sensitive announcements."""
    for user_id in ("ann", "bob", "cid"):
        server.user(user_id, name=f"{user_id.title()} Lee")

    page = staff.composes(
        send_type="one_off",
        subject="Reports you can share, {{ first_name }}",
        body='<p>See <a href="https://acme.example/reports">how it works</a>.</p>',
        act="live",
    )

    assert "is live and goes to 3 people." in page
    assert post.reached == ["ann", "bob", "cid"]
    (mail,) = post.to("ann")
    assert mail["Subject"] == "Reports you can share, Ann"
    assert mail["From"] == "Ada <ada@acme.example>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    link = re.search(r'href="https?://[^/]+([^"]+)"[^>]*>how it works', mail.get_body("html").get_content())
    assert client.get(link[1])["Location"] == "https://acme.example/reports"
    assert "how it works (https://acme.example/reports)" in mail.get_body("plain").get_content()
    assert Message.objects.get().state == "live"


def test_one_off_becomes_sent_after_its_last_copy(staff, server, clock):
    """Announcing a feature or update. (behaviour 4.9: a one-off becomes sent when nothing is left to do.)"""
    server.user("ann")
    message = staff.sets_live(send_type="one_off")

    clock.passes(minutes=1)

    assert Message.objects.get(pk=message).state == "sent"


def test_feature_is_announced_in_the_app_at_each_customers_next_visit(staff, server, visit, clock):
    """Here's the best way to announce your new features. (behaviour 4.5: it waits for the next visit.)"""
    server.user("ann")
    server.user("bob")
    message = staff.sets_live(
        channel="in_app", format="announcement", send_type="one_off", body="<p>Reports you can share</p>"
    )
    server.user("new")

    (shown,) = visit.shown_messages("ann")
    assert (shown["format"], shown["body"]) == ("announcement", "<p>Reports you can share</p>")
    clock.passes(days=5)
    assert visit("bob") == ["Reports you can share"]
    assert visit("new") == []
    # An in-app message stays live until all recipients have visited.
    assert Message.objects.get(pk=message).state == "live"
    clock.passes(minutes=1)
    assert Message.objects.get(pk=message).state == "sent"


def test_team_reaches_out_to_a_high_profile_customer_right_now(staff, server, post):
    """When a high profile user signs up, you might want to reach out and let them know they qualify for VIP support."""
    server.user("ann", plan="free", monthly_spend=0)
    server.user("vip", name="Vera Important", plan="enterprise", monthly_spend=90_000)

    high_profile = [
        rule("custom_attributes.plan", "is", "enterprise"),
        rule("custom_attributes.monthly_spend", "greater_than", 1000),
    ]
    staff.sets_live(
        send_type="one_off", subject="{{ first_name }}, you qualify for our VIP support", rules=high_profile
    )

    assert post.reached == ["vip"]
    assert post.subjects_to("vip") == ["Vera, you qualify for our VIP support"]


@pytest.mark.parametrize("few", [20, 50])
def test_message_is_sent_to_20_or_50_users_first_and_then_to_the_rest(staff, server, post, clock, few):
    """You'll really benefit from trying it out with 20, or 50 users first, and seeing what the reaction is like."""
    for number in range(56):
        server.user(f"user-{number}")
    server.user("no-address", email=None)

    page = staff.composes(send_type="one_off", subject="First try", act="sample", sample=few)
    message = Message.objects.get().pk
    assert f"goes to {few} people first" in page
    clock.passes(hours=2)
    assert len(post.reached) == len(set(post.reached)) == few

    # The reaction was mixed: only the text changes.
    staff.presses("message_edit_content", message, **staff.fields(subject="Better words"))
    staff.does("rest", message)

    assert len(post.reached) == len(set(post.reached)) == 56
    assert sum(mail["Subject"] == "Better words" for _, mail in post.mails) == 56 - few
    assert "Only a sampled message has a rest to send to" in staff.does("rest", message)


def test_sample_contains_customers_with_all_their_companies(staff, server, post):
    """behaviour 4.10: a launch of N customers drawn at random of those reachable, with all their companies."""
    for number in range(3):
        two = [{"company_id": f"{number}{of}", "name": f"Company {number}{of}"} for of in "ab"]
        server.user(f"user-{number}", companies=two)

    staff.composes(send_type="one_off", subject="News for {{ company.name }}", act="sample", sample=1)

    assert len(post.mails) == 2
    assert len(set(post.reached)) == 1


def test_message_tried_out_on_a_few_is_then_automated_for_all_others(staff, server, post, clock):
    """Manual messages are ideal for trying out a message you're thinking about automating."""
    for number in range(5):
        server.user(f"user-{number}", plan="pro")
    staff.composes(send_type="one_off", rules=PRO, act="sample", sample=2)
    tried = Message.objects.get().pk
    assert len(post.reached) == 2

    page = staff.presses("message_duplicate", tried)
    draft = Message.objects.latest("pk").pk
    assert "a new draft with the same content" in page
    not_yet = rule("received_message", "is_not", tried)
    staff.edits(draft, send_type="ongoing", rules=[*PRO, not_yet], act="live")
    server.user("later", plan="pro")
    clock.passes(hours=1)

    assert post.reached == sorted({f"user-{number}" for number in range(5)} | {"later"})


def test_composer_previews_recipients_before_sending(staff, server, post):
    """Manual messages are ideal for trying out a message. (behaviour 4.13: previews change no record or count.)"""
    server.user("ann")
    server.user("bob", unsubscribed_from_emails=True)
    server.user("cid", email=None)

    page = staff.presses("message_forecast", **staff.fields(send_type="one_off"))

    assert "3 match now, 1 will receive it" in page
    assert re.search(r"Has no email address 1 Unsubscribed from emails 1", page)
    assert post.reached == []
    assert not Message.objects.exists()


def test_email_arrives_as_its_preview_showed_it(staff, server, post):
    server.user("ann", name="Ann Lee", plan="pro")
    ann = Customer.objects.get()
    body = (
        '<p style="text-align:center">Hello {{ first_name }}, H<sub>2</sub>O</p><table role="presentation"><tbody><tr>'
        '<td bgcolor="#ffcc00" style="padding:12px 24px"><a href="https://shop.example/{{ user_id }}" '
        'style="color:#1f2933">See {{ custom_attributes.plan }}</a></td></tr></tbody></table>'
        '<div><div style="display:inline-block;max-width:264px"><p style="background:#eee">Left</p></div></div>'
    )
    fields = staff.fields(send_type="one_off", style="branded", subject="Hi {{ first_name }}", body=body)
    shown = staff.browser.post(reverse("admin:message_preview"), {**fields, "as_customer": ann.pk})
    staff.sets_live(send_type="one_off", style="branded", subject="Hi {{ first_name }}", body=body)

    (mail,) = post.to("ann")
    sent = mail.get_body(("html",)).get_content().replace("\r\n", "\n")
    # Addresses that belong to one copy, the pixel that reports its opening, and the style of marks in the preview.
    own = r'href="[^"]*"|<img [^>]*width="1"[^>]*>|<style>mark.*?</style>|\s+$'
    assert re.sub(own, "", shown.context["preview"].page) == re.sub(own, "", sent)
    assert shown.context["preview"].subject == mail["subject"] == "Hi Ann"
    assert "max-width:264px" in sent.replace(": ", ":")
