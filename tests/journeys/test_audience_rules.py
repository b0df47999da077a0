"""Audience rules, identity resolution and identity verification (behaviour 4.4, 4.6, 4.14)."""

import pytest
from rest_framework.test import APIClient

from audiences.models import Audience, Customer
from delivery.models import DeliveryRecord
from tests.factories import rule

PLAN = "custom_attributes.plan"


def matching(staff, *rules, match="all") -> str:
    """Return the number of matches that the composer shows."""
    page = staff.presses("message_forecast", **staff.fields(rules={"match": match, "rules": list(rules)}))
    return page[: page.index(" match")]


def test_without_rules_a_message_goes_to_every_user_and_never_to_leads(staff, server, visit, post, clock):
    """behaviour 4.4: without rules it goes to every user and no lead, and Review says "No filters: everyone"."""
    server.user("ann")
    server.post("/api/contacts", {"email": "lead@x.example"})

    forecast = staff.presses("message_forecast", **staff.fields())
    staff.sets_live(subject="To everyone")
    assert "No filters: everyone" in forecast
    assert post.reached == ["ann"]

    staff.sets_live(subject="To leads", rules=[rule("role", "is", "lead")])
    clock.passes(hours=1)
    assert post.reached == ["ann", "lead"]
    assert post.subjects_to("lead") == ["To leads"]


def test_meaning_of_rules(staff, server):
    """behaviour 4.4: negative rules match unknown values; only `is` is case-sensitive; % and _ are literal."""
    server.user("ann", plan="Pro", seats=5, active=True)
    server.user("bob", plan="pro_plus", seats=50, active=False)
    server.user("cid")

    for rules, people in (
        ([rule(PLAN, "is", "Pro")], "1"),
        ([rule(PLAN, "contains", "PRO")], "2"),
        ([rule(PLAN, "contains", "o_p")], "1"),
        ([rule(PLAN, "starts_with", "%")], "No customers"),
        ([rule(PLAN, "is_not", "Pro")], "2"),
        ([rule(PLAN, "does_not_contain", "pro")], "1"),
        ([rule(PLAN, "is_unknown")], "1"),
        ([rule("custom_attributes.active", "is_false")], "1"),
        ([rule("custom_attributes.seats", "less_than", 10)], "1"),
        ([rule("event.never", "has_not_happened")], "3"),
        ([rule(PLAN, "is", "Pro"), rule("custom_attributes.seats", "greater_than", 10)], "No customers"),
        ([{"match": "any", "rules": [rule(PLAN, "is", "Pro"), rule(PLAN, "is_unknown")]}], "2"),
    ):
        assert matching(staff, *rules).endswith(people), rules


def test_invalid_rule_is_refused_with_an_error_that_names_it(staff):
    """An invalid rule is refused when it is saved, with an error that names the rule."""
    for wrong, named in (
        (rule("custom_attributes.colour", "is", "red"), "colour"),
        (rule("email", "greater_than", 5), "Rule 1"),
        (rule("signed_up_at", "after", "yesterday"), "Rule 1"),
    ):
        assert named in staff.composes(rules=[wrong])
    assert not Audience.objects.exists()


def test_segment_is_copied_when_a_message_goes_live(staff, server, post, clock):
    """behaviour 3: nothing edited elsewhere changes a live message."""
    server.user("ann", plan="pro")
    server.user("bob", plan="free")

    def segment(plan: str) -> dict[str, object]:
        rules = staff.fields(rules=[rule(PLAN, "is", plan)])["rules"]
        return {"name": "Paying", "rules": rules}

    staff.presses("audiences_audience_add", **segment("pro"))
    paying = Audience.objects.get(name="Paying").pk
    message = staff.sets_live(rules=[rule("segment", "is", paying)])
    staff.presses("audiences_audience_change", paying, **segment("free"))
    clock.passes(hours=1)

    assert post.reached == ["ann"]
    assert "Paying as of 4 May" in staff.reads("messaging_message_change", message)


def test_received_rule_sends_a_follow_up_message(staff, server, post, clock):
    """behaviour 4.4: received = sent."""
    server.user("ann")
    first = staff.sets_live(subject="First")
    staff.sets_live(subject="Second", rules=[rule("received_message", "is", first)])
    server.user("bob")

    clock.passes(hours=1)
    assert post.subjects_to("ann") == ["First", "Second"]
    # Received the first message, and matches the second only now.
    assert post.subjects_to("bob") == ["First"]
    clock.passes(hours=1)
    assert post.subjects_to("bob") == ["First", "Second"]


def test_company_last_seen_rule_uses_the_value_from_before_the_visit(staff, visit, clock):
    """behaviour 4.6: a visit is matched with the last-seen values from before it."""
    acme = {"company_id": "1", "name": "Acme"}
    visit("ann", company=acme)
    clock.passes(days=31)
    away = [rule("company.last_seen_at", "more_than_days_ago", 30)]
    staff.sets_live(channel="in_app", body="<p>Welcome back, Acme</p>", rules=away)

    assert visit("ann", company=acme) == ["Welcome back, Acme"]
    assert visit("bob", company=acme) == []


# Identity


def test_customer_who_gives_an_email_first_and_a_user_id_later_is_one_person(staff, server, post, clock):
    """behaviour 4.14: by id, user_id, then email."""
    staff.sets_live()
    server.post("/api/users", {"email": "Ann@X.example"})
    clock.passes(hours=1)
    assert post.reached == ["ann"]

    server.user("ann")
    clock.passes(hours=1)
    assert post.reached == ["ann"]
    assert Customer.objects.get().user_id == "ann"


def test_number_given_as_user_id_becomes_text(server, visit):
    """behaviour 4.14: numbers given as user_id become text."""
    server.post("/api/users", {"user_id": 25, "email": "ann@x.example"})
    visit("25")
    server.event("25", "ordered")

    assert Customer.objects.get().user_id == "25"


def test_ambiguous_write_is_a_conflict(server):
    """behaviour 4.14: a write that could mean two customers is refused with 409."""
    ann, _ = server.user("ann"), server.user("bob")

    answered = server.post("/api/users", {"id": ann["id"], "user_id": "bob"})

    assert answered.status_code == 409
    assert answered.json()["errors"]
    assert sorted(Customer.objects.values_list("user_id", flat=True)) == ["ann", "bob"]


@pytest.mark.parametrize("who", [{"user_id": "ann"}, {"email": "ann@x.example"}])
def test_browser_that_names_a_customer_without_the_right_user_hash_is_refused(staff, server, who):
    """behaviour 4.14: user_hash is required by default wherever a browser names a user_id or email."""
    server.user("ann")
    staff.sets_live(channel="in_app")

    for claimed in ({}, {"user_hash": "0" * 64}):
        answered = APIClient().post("/messenger/ping", {"user": {**who, **claimed, "plan": "free"}}, format="json")
        assert answered.status_code == 403
        assert "messages" not in answered.json()

    assert not DeliveryRecord.objects.exists()
    assert Customer.objects.get().attributes == {}


def test_switching_identity_verification_off_is_a_setting_the_console_warns_about(staff, server):
    """behaviour 4.14: the console warns about the setting that switches this off."""
    server.user("ann")
    staff.sets_live(channel="in_app")
    assert "Identity verification is off" not in staff.opens("audiences_integration_changelist")

    assert "Identity verification is off" in staff.presses("integration_require_hash", on=0)
    answered = APIClient().post("/messenger/ping", {"user": {"user_id": "ann"}}, format="json")
    assert len(answered.json()["messages"]) == 1


def test_api_refuses_requests_without_a_token(staff, server):
    """behaviour 2: API tokens."""
    for address in ("/api/users", "/api/events", "/api/conversations", "/api/messages"):
        assert APIClient().post(address, {"user_id": "ann"}, format="json").status_code == 401
