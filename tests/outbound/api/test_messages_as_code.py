"""Messages as code: the API creates, edits, reviews and launches messages with the console's checks and log."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.utils import timezone
from rest_framework.test import APIClient

from audiences.models import Integration, Workspace
from delivery.matching import launch_job
from delivery.models import DeliveryRecord
from messaging.models import Message
from outbound.roles import Role
from tests.factories import CustomerFactory, MembershipFactory, MessageFactory, SenderFactory, TopicFactory, rule

pytestmark = pytest.mark.django_db


def nested_groups(depth: int) -> dict:
    found: dict = {"match": "all", "rules": []}
    for _ in range(depth):
        found = {"match": "all", "rules": [found]}
    return found


def nested_lists(depth: int) -> list:
    found: list = []
    for _ in range(depth):
        found = [found]
    return found


PRO = {"match": "all", "rules": [{"attribute": "name", "operator": "is", "value": "Ann"}]}


@pytest.fixture
def ada(django_user_model):
    ada = django_user_model.objects.create(username="ada", first_name="Ada", email="ada@acme.example", is_staff=True)
    ada.groups.add(Group.objects.get(name=Role.AUTHOR))
    return ada


@pytest.fixture
def api(ada, settings) -> APIClient:
    settings.API_RATE_LIMIT = 0
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {Integration.issue(name='Deploy', teammate=ada)[1]}")
    return client


@pytest.fixture
def sender():
    return SenderFactory()


def call(api, method: str, place: str = "", **sent: object):
    return getattr(api, method)(f"/api/outbound{place}", sent, format="json")


def error_of(answered) -> tuple[int, str]:
    error = answered.json()["errors"][0]
    return answered.status_code, error.get("field", "")


def draft(api, **sent: object) -> str:
    answered = call(api, "post", subject="Hi", body="<p>Hello {{ first_name }}</p>", **sent)
    assert answered.status_code == 200, answered.json()
    return f"/{answered.json()['id']}"


def logged() -> list[tuple[str, str]]:
    return [(entry.user.first_name, entry.change_message) for entry in LogEntry.objects.order_by("pk")]


def test_draft_is_created_edited_and_set_live_and_the_log_names_the_token(api, ada, sender):
    CustomerFactory(name="Ann", email="ann@x.example")
    CustomerFactory(name="Bob", email="bob@x.example")

    here = draft(api, title="Welcome", send_type="one_off", rules=PRO, window=[], sender={"id": str(sender.pk)})
    call(api, "patch", here, subject="Hello", checking="at_once")
    live = call(api, "post", f"{here}/live").json()

    assert (live["state"], live["subject"], live["counts"]["waiting"]) == ("live", "Hello", 1)
    assert DeliveryRecord.objects.get().customer.name == "Ann"
    assert Message.objects.get().created_by == ada
    assert [user for user, _ in logged()] == ["Deploy"] * 3
    assert [words for _, words in logged()] == [
        "Saved a draft",
        "Edited the draft. Subject: from “Hi” to “Hello”",
        "Set live: from Draft to Live",
    ]


def test_new_message_is_by_default_an_ongoing_email_from_the_teammates_sender(api, ada, sender):
    own = SenderFactory(teammate=ada)

    made = call(api, "post", body="Hello\n\nthere").json()

    assert (made["channel"], made["send_type"], made["state"]) == ("email", "ongoing", "draft")
    assert made["rules"] == {"match": "all", "rules": []}
    assert (made["sender"]["id"], made["body"]) == (str(own.pk), "<p>Hello</p><p>there</p>")
    listed = api.get("/api/senders").json()["senders"]
    assert {row["id"] for row in listed} == {str(own.pk), str(sender.pk)}


@pytest.mark.parametrize("change", ["left", "has no role"])
def test_token_itself_is_the_author_once_its_teammate_may_not_write_messages(
    api, ada, sender, change, django_user_model
):
    admin = django_user_model.objects.create(username="boss", is_staff=True, is_superuser=True)
    SenderFactory(teammate=admin)
    SenderFactory(teammate=ada)
    ada.is_active = change != "left"
    ada.save()
    ada.groups.clear()

    here = draft(api)

    made = Message.objects.get()
    assert made.created_by == Integration.objects.get().user
    assert call(api, "get", here).json()["sender"]["id"] == str(sender.pk)
    assert [row["id"] for row in api.get("/api/senders").json()["senders"]] == [str(sender.pk)]


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"body": "<p>{{ nickname }}</p>"}, "body"),
        ({"subject": "two\nlines"}, "subject"),
        ({"channel": "fax"}, "channel"),
        ({"channel": "push", "body": "{{ nickname }}"}, "body"),
        ({"channel": "push", "link": "javascript:alert(1)"}, "link"),
        ({"sender": "999999"}, "sender"),
        ({"sender": []}, "sender"),
        ({"send_type": "twice"}, "send_type"),
        ({"rules": {"match": "all", "rules": [{"attribute": "nothing", "operator": "is", "value": 1}]}}, "rules"),
        ({"rules": "everyone"}, "rules"),
        ({"rules": nested_groups(300)}, "rules"),
        (
            {"rules": {"match": "all", "rules": [{"attribute": "name", "operator": "is", "value": nested_lists(300)}]}},
            "rules",
        ),
        ({"window": nested_lists(300)}, "window"),
        ({"rules": {"match": "all", "rules": [rule("last_seen_at", "more_than_days_ago", -3)]}}, "rules"),
        ({"only_new_matches": "perhaps"}, "only_new_matches"),
        ({"shown_until": 1_900_000_000}, "shown_until"),
        ({"channel": "in_app", "shown_until": "tomorrow"}, "shown_until"),
        ({"channel": "in_app", "shown_until": 10**30}, "shown_until"),
        ({"channel": "in_app", "shown_until": {"at": 1}}, "shown_until"),
        ({"window": [{"weekday": 8, "from": "09:00", "to": "10:00"}]}, "window"),
        ({"window": "always"}, "window"),
        ({"same_inbox_once": "perhaps"}, "same_inbox_once"),
        ({"topic": "Unheard of"}, "topic"),
        ({"topic": ["Tips"]}, "topic"),
        ({"title": "x" * 201}, "title"),
        ({"body": "x" * 100_001}, "body"),
        ({"to_customer": "1"}, "to_customer"),
        ({"scheduled_for": 1}, "scheduled_for"),
    ],
)
def test_refusals_of_the_composer_name_the_key_and_nothing_is_stored(api, sender, sent, field):
    assert error_of(call(api, "post", **{"subject": "Hi", "body": "Hello", **sent})) == (400, field)
    assert not Message.objects.exists()
    message = MessageFactory(sender=sender)

    assert error_of(call(api, "patch", f"/msg_{message.pk}", **sent)) == (400, field)
    assert not LogEntry.objects.exists()


def test_rules_may_name_messages_by_their_ids(api, sender):
    earlier = MessageFactory(live=True)
    named = {"attribute": "got_message", "operator": "is_not", "value": f"msg_{earlier.pk}"}

    made = call(api, "post", body="x", rules={"match": "all", "rules": [{"match": "any", "rules": [named]}]}).json()

    assert made["rules"]["rules"][0]["rules"][0]["value"] == earlier.pk


def test_launch_problems_name_the_key_to_change(api, sender):
    CustomerFactory(email="ann@x.example")
    here = draft(api, sender=str(sender.pk))
    for changed, field in (({"subject": ""}, "subject"), ({"body": ""}, "body"), ({"sender": ""}, "sender")):
        kept = call(api, "get", here).json()
        call(api, "patch", here, **changed)
        assert error_of(call(api, "post", f"{here}/live")) == (400, field)
        call(api, "patch", here, **{field: kept[field]})
    assert Message.objects.get().state == "draft"
    empty = draft(api, sender=str(sender.pk), send_type="one_off", rules=PRO)
    assert error_of(call(api, "post", f"{empty}/live")) == (400, "rules")
    CustomerFactory(email="gone@x.example", unsubscribed_from_emails=True)
    unreached = draft(
        api,
        sender=str(sender.pk),
        send_type="one_off",
        rules={"match": "all", "rules": [rule("email", "contains", "gone")]},
    )
    for verb, asked in (("live", {}), ("sample", {"sample": 1}), ("schedule", {"scheduled_for": 32_500_000_000})):
        assert error_of(call(api, "post", f"{unreached}/{verb}", **asked)) == (400, "rules")


def test_draft_that_the_console_saved_with_a_template_error_is_shown_and_cannot_go_live(api, sender):
    here = f"/{MessageFactory(sender=sender, body='<p>{{ name | }</p>').pk}"

    assert call(api, "get", here).json()["body"] == "<p>{{ name | }</p>"
    assert "Line 1" in call(api, "get", f"{here}/review").json()["problems"][0]["message"]
    assert error_of(call(api, "post", f"{here}/live")) == (400, "body")
    assert error_of(call(api, "patch", here, subject="Other")) == (400, "body")
    assert error_of(api.get(f"/api/outbound{here}/preview")) == (400, "body")
    assert call(api, "patch", here, body="<p>{{ name }}</p>").status_code == 200


def test_large_launch_needs_the_number_of_people_and_refuses_a_drifted_audience(api, sender):
    Workspace.current()
    Workspace.objects.update(confirm_above=2)
    for number in range(4):
        CustomerFactory(email=f"{number}@x.example", unsubscribed_from_emails=number == 0)
    here = draft(api, send_type="one_off", sender=str(sender.pk))

    seen = call(api, "get", f"{here}/review").json()
    assert (seen["reviewed"], seen["receiving"], seen["confirm"], seen["problems"]) == (4, 3, 3, [])
    assert seen["left_out"] == [{"reason": "Unsubscribed from emails", "people": 1}]
    assert "No filters: everyone." in seen["warnings"]

    refused = call(api, "post", f"{here}/live")
    assert (error_of(refused), refused.json()["errors"][0]["message"]) == (
        (400, "confirm"),
        "Type 3 to confirm: the number of people it goes to.",
    )
    assert error_of(call(api, "post", f"{here}/live", confirm=4)) == (400, "confirm")
    assert error_of(call(api, "post", f"{here}/live", confirm=3, reviewed=2)) == (400, "reviewed")
    assert call(api, "post", f"{here}/live", confirm="3", reviewed=4).json()["state"] == "live"


def test_one_off_is_sampled_then_sent_to_the_rest(api, sender):
    for number in range(5):
        CustomerFactory(email=f"{number}@x.example")
    here = draft(api, send_type="one_off", sender=str(sender.pk))
    assert error_of(call(api, "post", f"{here}/sample")) == (422, "sample")
    assert error_of(call(api, "post", f"{here}/sample", sample=0)) == (400, "sample")
    assert error_of(call(api, "post", f"{here}/rest")) == (409, "state")

    sampled = call(api, "post", f"{here}/sample", sample=2).json()
    assert (sampled["state"], sampled["sample_size"], sampled["counts"]["waiting"]) == ("sampled", 2, 2)
    assert error_of(call(api, "post", f"{here}/live")) == (409, "state")
    rest = call(api, "post", f"{here}/rest").json()

    assert (rest["state"], rest["counts"]["waiting"]) == ("live", 5)
    assert [words for _, words in logged()][1:] == [
        "Tried it on a few first: from Draft to Sampled",
        "Sent to the rest: from Sampled to Live",
    ]
    ongoing = draft(api, sender=str(sender.pk))
    assert error_of(call(api, "post", f"{ongoing}/sample", sample=2)) == (400, "send_type")


def test_large_launch_of_the_wrong_kind_is_refused_too(api, sender, monkeypatch):
    monkeypatch.setattr(launch_job, "LAUNCH_IN_REQUEST_LIMIT", 0)
    CustomerFactory(email="ann@x.example")
    here = draft(api, send_type="one_off", sender=str(sender.pk))

    assert error_of(call(api, "post", f"{here}/rest")) == (409, "state")
    launching = call(api, "post", f"{here}/live").json()

    assert (launching["state"], launching["launching_at"] is not None) == ("draft", True)
    assert error_of(call(api, "patch", here, subject="New")) == (409, "subject")
    assert call(api, "post", f"{here}/cancel").json()["launching_at"] is None


def test_one_off_is_scheduled_and_made_a_draft_again(api, sender):
    CustomerFactory(email="ann@x.example")
    here, tomorrow = draft(api, send_type="one_off", sender=str(sender.pk)), timezone.now() + timedelta(days=1)
    assert error_of(call(api, "post", f"{here}/schedule")) == (422, "scheduled_for")
    assert error_of(call(api, "post", f"{here}/schedule", scheduled_for=1_500_000_000)) == (400, "scheduled_for")

    scheduled = call(api, "post", f"{here}/schedule", scheduled_for=int(tomorrow.timestamp())).json()
    assert (scheduled["state"], scheduled["scheduled_for"]) == ("scheduled", int(tomorrow.timestamp()))
    assert call(api, "post", f"{here}/unschedule").json()["state"] == "draft"
    assert error_of(call(api, "post", f"{here}/unschedule")) == (409, "state")


def test_end_of_an_announcement_is_set_checked_at_launch_and_changed_while_live(api, sender):
    def seconds(days: int) -> int:
        return int((timezone.now() + timedelta(days=days)).timestamp())

    facts = {"channel": "in_app", "format": "announcement", "sender": str(sender.pk), "send_type": "ongoing"}
    here = draft(api, **facts, shown_until=seconds(-1))
    assert error_of(call(api, "post", f"{here}/live")) == (400, "shown_until")
    end = seconds(3)
    assert call(api, "patch", here, shown_until=end).json()["shown_until"] == end
    assert call(api, "patch", here, title="Sale").json()["shown_until"] == end
    assert call(api, "post", f"{here}/live").json()["state"] == "live"

    assert error_of(call(api, "patch", here, shown_until=seconds(-1))) == (400, "shown_until")
    assert call(api, "patch", here, shown_until=None).json()["shown_until"] is None
    assert call(api, "patch", here, shown_until=end).json()["version"] == 1


def test_topic_is_named_kept_when_sent_back_filtered_and_locked_once_live(api, sender):
    TopicFactory(name="Tips")
    TopicFactory(name="Old", is_archived=True)
    here = draft(api, sender=str(sender.pk), topic="tips")
    assert error_of(call(api, "patch", here, topic="Old")) == (400, "topic")
    draft(api, sender=str(sender.pk))

    read = call(api, "get", here).json()
    assert read["topic"] == "Tips"
    assert draft(api, **{key: read[key] for key in ("title", "topic", "rules")})
    found = [call(api, "get", f"?topic={name}").json()["total_count"] for name in ("TIPS", "Old")]
    assert found == [2, 0]
    assert call(api, "patch", here, topic=None).json()["topic"] is None
    assert call(api, "patch", here, topic="Tips").json()["topic"] == "Tips"

    call(api, "post", f"{here}/live")
    assert call(api, "patch", here, topic="Tips", subject="Hello").json()["version"] == 2
    assert error_of(call(api, "patch", here, topic=None)) == (409, "topic")


def test_live_message_is_paused_edited_resumed_and_stopped(api, sender):
    here = draft(api, sender=str(sender.pk), rules=PRO, only_new_matches=False)
    call(api, "post", f"{here}/live")
    assert error_of(call(api, "patch", here, rules={})) == (409, "rules")
    assert error_of(call(api, "patch", here, send_type="one_off")) == (409, "send_type")
    assert error_of(call(api, "patch", here, same_inbox_once=False)) == (409, "same_inbox_once")
    assert error_of(call(api, "patch", here, only_new_matches=True)) == (409, "only_new_matches")
    assert call(api, "patch", here, subject="Hello").json()["version"] == 2

    assert call(api, "post", f"{here}/pause").json()["state"] == "paused"
    assert error_of(call(api, "post", f"{here}/pause")) == (409, "state")
    assert call(api, "patch", here, rules={"match": "all", "rules": []}).json()["version"] == 3
    assert error_of(call(api, "patch", here, body="<p>{{ company.name }}</p>")) == (400, "body")
    assert call(api, "post", f"{here}/resume").json()["state"] == "live"
    assert call(api, "post", f"{here}/stop").json()["state"] == "stopped"
    assert error_of(call(api, "patch", here, body="More")) == (409, "body")

    words = [words for _, words in logged()]
    assert words[2].startswith("Edited the content: version 2. Subject: from “Hi” to “Hello”")
    assert words[4].startswith("Edited the audience. Filters: from ")
    assert words[-1] == "Stopped: from Live to Stopped"


def test_preview_is_rendered_for_a_customer_and_names_missing_variables(api, sender):
    ann = CustomerFactory(user_id="ann", name="Ann Lee", email="ann@x.example")
    MembershipFactory(customer=ann, company__company_id="6", company__name="Acme")
    MembershipFactory(customer__user_id="bob", company__company_id="7")
    text = "<p>Hi {{ first_name }} of {{ company.name }}, {{ phone }}</p>"
    here = f"/{call(api, 'post', subject='Hi', body=text).json()['id']}"

    seen = api.get(f"/api/outbound{here}/preview", {"user_id": "ann", "company_id": "6"}).json()

    assert "Hi Ann of Acme" in seen["html"]
    assert (seen["missing"], seen["company_id"], seen["user"]["id"]) == (["phone"], "6", str(ann.pk))
    wrong = api.get(f"/api/outbound{here}/preview", {"user_id": "ann", "company_id": "7"})
    assert error_of(wrong) == (400, "company_id")
    nobody = api.get(f"/api/outbound{here}/preview").json()
    assert (nobody["user"], "first_name" in nobody["missing"]) == (None, True)


def test_why_explains_each_rule_for_a_customer(api, sender):
    CustomerFactory(user_id="ann", name="Bob", email="ann@x.example")
    message = MessageFactory(live=True, rules=[rule("name", "is", "Ann")])

    seen = api.get(f"/api/outbound/msg_{message.pk}/why", {"user_id": "ann"}).json()

    [copy] = seen["copies"]
    assert (copy["verdict"], copy["status"]) == ("no_match", None)
    assert copy["text"] == "This customer does not match the filters now: the only rule is not met."
    [line] = copy["evaluations"][0]["rules"]
    assert (line["text"], line["holds"], line["value"]) == ("Name is Ann", False, "“Bob”")
    assert {row["label"]: row["holds"] for row in seen["conditions"]}["Reachable"] is True
    assert error_of(api.get(f"/api/outbound/msg_{message.pk}/why")) == (400, "user_id")


def test_direct_message_can_be_stopped_but_not_launched_or_edited(api, sender):
    message = MessageFactory(to_customer=CustomerFactory(email="ann@x.example"), sender=sender, live=True)
    here = f"/msg_{message.pk}"

    for verb in ("live", "rest"):
        assert error_of(call(api, "post", f"{here}/{verb}")) == (409, "state")
    assert error_of(call(api, "patch", here, subject="New")) == (409, "subject")
    assert error_of(api.get(f"/api/outbound{here}/review")) == (400, "id")
    assert call(api, "post", f"{here}/stop").json()["state"] == "stopped"


def test_message_is_created_once_for_each_idempotency_key(api, sender):
    made = [
        api.post("/api/outbound", {"body": "x"}, format="json", HTTP_IDEMPOTENCY_KEY="deploy-7").json()["id"]
        for _ in range(2)
    ]

    assert made == [f"msg_{Message.objects.get().pk}"] * 2
