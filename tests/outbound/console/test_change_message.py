"""The log shows old and new values of texts, filters, times and names, shortened."""

import json

import pytest
from django.contrib.admin.models import LogEntry

from audiences.models import Audience
from outbound.console import change_message, wording
from tests.factories import MessageFactory, SegmentFactory, SenderFactory, TagFactory, rule
from tests.outbound.composer.test_composer import message_page, typed

pytestmark = pytest.mark.django_db
BUSINESS = [{"weekday": day, "from": "09:00", "to": "17:00"} for day in range(5)]


def group(*rules, match: str = "all") -> dict[str, object]:
    return {"match": match, "rules": list(rules)}


def log() -> list[str]:
    return list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))


def test_edited_draft_logs_old_and_new_values(console):
    draft = MessageFactory(title="Welcome", subject="Hello", body="<p>Hi</p>", rules=group(rule("name", "is", "Ada")))

    console.post(
        message_page(draft),
        typed(draft.sender, subject="Good day", body="<p>Hi</p>", rules=[rule("name", "is_not", "Ada")]),
    )

    assert log() == [
        "Edited the draft. Subject: from “Hello” to “Good day”. Filters: from “Name is Ada” to “Name is not Ada”"
    ]


def test_a_draft_saved_without_changes_adds_no_log_entry(console):
    draft = MessageFactory(title="Welcome", subject="Hello", body="<p>Hi</p>")
    same = typed(draft.sender, title="Welcome", subject="Hello", body="<p>Hi</p>")
    console.post(message_page(draft), same)
    before = len(log())

    console.post(message_page(draft), same)

    assert len(log()) == before


def test_edited_live_content_logs_version_text_and_sender(console):
    message = MessageFactory(live=True, title="News", subject="First", body="<p>Old</p>", sender__name="Ada")
    other = SenderFactory(name="Bob", email="bob@acme.example")

    form = {"title": "News", "sender": other.pk, "subject": "Second", "body": "<p>New</p>", "style": message.style}
    console.post(f"/admin/messaging/message/{message.pk}/content/", form)

    assert log() == [
        f"Edited the content: version 2. From: from “{message.sender}” to “{other}”. Subject: from “First” to “Second”."
        " Text: from “Old” to “New”"
    ]


def test_editing_only_the_name_makes_no_version(console):
    message = MessageFactory(live=True, title="News", subject="First", body="<p>Old</p>")

    form = {"title": "Letter", "sender": message.sender_id, "subject": "First", "body": "<p>Old</p>"}
    console.post(f"/admin/messaging/message/{message.pk}/content/", form | {"style": message.style})

    assert log() == ["Name: from “News” to “Letter”"]


def test_an_edited_audience_logs_filters_and_hours_as_text(console):
    message = MessageFactory(live=True, rules=group(rule("name", "is", "Ada")))
    console.post(f"/admin/messaging/message/{message.pk}/act/pause/")

    rules = group(
        rule("name", "is", "Ada"), group(rule("email", "contains", "@a"), rule("email", "is_unknown"), match="any")
    )
    form = {"rules": json.dumps(rules), "window": json.dumps(BUSINESS), "window_zone": "customer"}
    console.post(f"/admin/messaging/message/{message.pk}/audience/", form)

    assert log()[-1] == (
        "Edited the audience. Filters: from “Name is Ada” to “Name is Ada and (Email contains @a or Email is unknown)”."
        " Delivery times: from “At any time” to “Monday to Friday 09:00 to 17:00, in each customer’s own time zone”"
    )


def test_a_changed_segment_logs_its_name_and_filters(console):
    tag = TagFactory(name="VIP")
    segment = SegmentFactory(name="Best", rules=group(rule("name", "is", "Ada")))
    address = f"/admin/audiences/audience/{segment.pk}/change/"

    console.post(address, {"name": "VIPs", "rules": json.dumps(group(rule("tag", "is", tag.pk)))})
    console.post(address, {"name": "VIPs", "rules": json.dumps(group(rule("tag", "is", tag.pk)))})

    assert Audience.objects.get().name == "VIPs"
    assert log() == ["Changed the segment. Name: from “Best” to “VIPs”. Filters: from “Name is Ada” to “Tag is VIP”"]


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (group(), "No filters: everyone"),
        (group(rule("name", "is", "A"), rule("name", "is", "B"), match="any"), "Name is A or Name is B"),
        ({"match": "all", "rules": "nonsense"}, "Invalid rules"),
    ],
)
def test_rules_on_one_line(rules, words):
    assert wording.rules_in_one_line(rules) == words


def test_long_texts_start_shortly_before_their_difference():
    same = "word " * 100

    before, after = change_message.shorten_equal_start(f"{same}one {same}", f"{same}two {same}")

    assert before.startswith("“…")
    assert "one" in before
    assert "two" in after
    assert max(len(before), len(after)) <= change_message.MAX_VALUE_LENGTH + 4


def test_missing_value_reads_nothing():
    assert change_message.differences({"Subject": ""}, {"Subject": "Hi"}) == "Subject: from nothing to “Hi”"
    assert change_message.differences({"Subject": "Hi"}, {"Subject": ""}) == "Subject: from “Hi” to nothing"
