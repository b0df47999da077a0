"""Conflicts: a form does not overwrite a version that its author has not seen."""

import json
from datetime import UTC, datetime
from html import unescape

import pytest
from django import forms
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.http import QueryDict
from django.urls import reverse

from audiences.models import Audience, Tag, Workspace
from messaging.models import Message, Sender, State
from outbound.console.rich_text import RichTextWidget
from outbound.edits import conflicts
from tests.factories import CustomerFactory, MessageFactory, SegmentFactory, SenderFactory, TagFactory, rule
from tests.outbound.edits.test_autosave import typed
from tests.support.pages import as_page, field_of
from tests.support.staff import Staff

pytestmark = pytest.mark.django_db
TEN = datetime(2026, 5, 4, 10, tzinfo=UTC)


@pytest.fixture
def staff(boss, django_capture_on_commit_callbacks) -> Staff:
    return Staff(boss, lambda: django_capture_on_commit_callbacks(execute=True))


class EveryKind(forms.Form):
    """One field of each kind that a guarded form has."""

    name = forms.CharField(required=False)
    text = forms.CharField(required=False, widget=RichTextWidget())
    size = forms.IntegerField(required=False)
    due = forms.DateTimeField(required=False)
    active = forms.BooleanField(required=False)
    kind = forms.ChoiceField(choices=[("Group", [("a", "First")]), ("b", "Second")], required=False)
    owner = forms.ModelChoiceField(User.objects.all(), required=False)
    tags = forms.ModelMultipleChoiceField(Tag.objects.all(), required=False)
    rules = forms.CharField(required=False)


def test_value_is_equal_as_stored_and_as_posted_and_shown_in_words(boss):
    one, two = TagFactory(name="One"), TagFactory(name="Two")
    # The field, the stored value, the same and another value as a browser posts them, and the other one in words.
    kinds = [
        ("name", "Ann\nLee", ["Ann\r\nLee "], ["Bob"], "Bob"),
        ("name", None, [""], ["Bob"], "Bob"),
        ("text", "<p>Hi</p>", ["<p>Hi</p>"], ["<p>Ho</p><script>x</script>"], "<p>Ho</p>"),
        ("size", 5, ["5"], ["many"], "many"),
        (
            "due",
            datetime(2026, 5, 4, 10, tzinfo=UTC),
            ["2026-05-04T10:00"],
            ["2026-05-05T09:30"],
            "5 May 2026 at 09:30",
        ),
        ("active", True, ["on"], [], "No"),
        ("active", False, [], ["on"], "Yes"),
        ("kind", "b", ["b"], ["a"], "First"),
        ("owner", boss.pk, [str(boss.pk)], [""], "Nothing"),
        ("owner", None, [""], [str(boss.pk)], "boss"),
        ("tags", [one, two], [str(two.pk), str(one.pk)], [str(two.pk)], "Two"),
        ("rules", '{"a": 1, "b": 2}', ['{"b":2,"a":1}'], ["{"], "{"),
    ]
    for name, stored, same, other, words in kinds:
        current = EveryKind(initial={name: stored})
        before = json.loads(conflicts.version_of(EveryKind())) | {name: "older"}
        for values, is_conflict in ((same, False), (other, True)):
            posted = QueryDict(mutable=True)
            posted.setlist(name, values)
            posted["seen"] = json.dumps(before)
            _, found = conflicts.resolve(posted, current=current)
            assert bool(found) == is_conflict, (name, stored, values)
        assert [(field.name, field.mine, field.chosen) for field in found.fields] == [(name, words, "")]

        # The stored value, taken over the posted one, is the stored value again.
        chosen = posted | {"seen": found.version, "asked": name, f"take-{name}": "theirs"}
        answer = QueryDict(mutable=True)
        for key, value in chosen.lists() if isinstance(chosen, QueryDict) else [(k, [v]) for k, v in chosen.items()]:
            answer.setlist(key, value)
        merged, left = conflicts.resolve(answer, current=current)
        assert left is None
        assert not conflicts.differs(current, name, merged), (name, stored)


def test_text_that_the_author_did_not_touch_is_chosen_from_the_newer_version():
    old, new = EveryKind(initial={"name": "Old"}), EveryKind(initial={"name": "New"})
    posted = QueryDict(mutable=True)
    posted.update({"name": "Old", "size": "3", "seen": conflicts.version_of(old)})

    _, found = conflicts.resolve(posted, current=new)

    assert [(field.label, field.mine, field.theirs, field.chosen) for field in found.fields] == [
        ("Name", "Old", "New", "theirs")
    ]
    assert ("size", "3") in found.posted


@pytest.mark.parametrize("seen", ["", "[", "3", "[" * 100_000, '{"name": 1}'])
def test_version_that_no_page_wrote_is_not_an_error(seen):
    posted = QueryDict(mutable=True)
    posted.update({"name": "Mine", "seen": seen})

    _, found = conflicts.resolve(posted, current=EveryKind(initial={"name": "Theirs"}))

    assert bool(found) == (seen == '{"name": 1}')


def repeated(answer) -> dict[str, list[str]]:
    """Return the form of the comparison, without its choices."""
    fields = {"seen": [answer.context["conflict"].version]}
    for name, value in answer.context["conflict"].posted:
        fields.setdefault(name, []).append(value)
    return fields | {"asked": [field.name for field in answer.context["conflict"].fields], "act": ["save"]}


def test_second_editor_of_a_draft_takes_either_text_of_each_field(staff):
    draft = staff.saves(title="Welcome", subject="Hello", body="<p>Old</p>")
    seen = field_of(staff.opens("messaging_message_change", draft), "seen")
    staff.edits(draft, title="Welcome", subject="Theirs", body="<p>Their text</p>", window=[], seen=seen)
    page = reverse("admin:messaging_message_change", args=[draft])
    mine = staff.fields(title="My name", subject="Mine", body="<p>My text</p>", seen=seen)

    answer = staff.browser.post(page, mine)

    assert answer.status_code == 409
    shown = unescape(answer.content.decode())
    assert all(text in shown for text in ("Mine", "Theirs", "<p>My text</p>", "<p>Their text</p>"))
    assert "boss saved a newer version" in as_page(shown)
    assert Message.objects.get(pk=draft).version.subject == "Theirs"

    asked = staff.browser.post(page, repeated(answer) | {"take-subject": ["mine"]})
    assert "Take one text of each field." in asked.content.decode()
    assert [field.chosen for field in asked.context["conflict"].fields] == ["mine", ""]

    saved = staff.browser.post(page, repeated(asked) | {"take-subject": ["mine"], "take-body": ["theirs"]})
    assert saved.status_code == 302
    stored = Message.objects.get(pk=draft)
    assert (stored.title, stored.version.subject, stored.version.body) == ("My name", "Mine", "<p>Their text</p>")


def test_newer_version_saved_during_the_comparison_is_compared_again(staff):
    draft = staff.saves(subject="Hello")
    seen = field_of(staff.opens("messaging_message_change", draft), "seen")
    page = reverse("admin:messaging_message_change", args=[draft])
    staff.edits(draft, subject="Second")
    answer = staff.browser.post(page, staff.fields(subject="Mine", seen=seen))
    staff.edits(draft, subject="Third")

    again = staff.browser.post(page, repeated(answer) | {"take-subject": ["mine"]})

    assert (again.status_code, again.context["conflict"].fields[0].theirs) == (409, "Third")
    assert Message.objects.get(pk=draft).version.subject == "Third"


def test_launch_of_an_unseen_version_is_refused_in_the_sheet_and_as_a_page(staff):
    CustomerFactory()
    draft = staff.saves(subject="Hello")
    seen = field_of(staff.opens("messaging_message_change", draft), "seen")
    staff.edits(draft, subject="Theirs")
    page = reverse("admin:messaging_message_change", args=[draft])
    mine = staff.fields(subject="Mine", seen=seen, act="live")

    sheet = staff.browser.post(page, mine, HTTP_HX_TARGET="sheet")
    whole = staff.browser.post(page, mine)

    assert "A teammate has saved a newer version, so nothing was sent." in as_page(sheet.content.decode())
    assert 'href="#id_subject"' in sheet.content.decode()
    assert "so nothing was saved or sent" in as_page(whole.content.decode())
    assert (Message.objects.get(pk=draft).state, Message.objects.get(pk=draft).version.subject) == (
        State.DRAFT,
        "Theirs",
    )


def test_restored_text_keeps_the_version_that_it_was_typed_for(staff):
    draft = staff.saves(subject="Hello")
    seen = field_of(staff.opens("messaging_message_change", draft), "seen")
    typed(staff.browser, staff.user, f"message/{draft}", subject="Mine", title="Hello", seen=seen)
    staff.edits(draft, subject="Theirs")

    page = staff.opens("messaging_message_change", draft)

    assert 'value="Mine"' in page
    assert field_of(page, "seen") == seen
    mine = staff.fields(subject="Mine", seen=seen)
    assert staff.browser.post(reverse("admin:messaging_message_change", args=[draft]), mine).status_code == 409


def test_edits_of_a_message_that_was_live_are_compared(staff):
    message = MessageFactory(live=True, subject="Hello", sender=staff.sender)
    content = reverse("admin:message_edit_content", args=[message.pk])
    seen = field_of(staff.browser.get(content).content.decode(), "seen")
    text = {"title": "Hello", "sender": staff.sender.pk, "body": "<p>Hello there</p>", "style": "plain"}
    assert staff.browser.post(content, {**text, "subject": "Theirs", "seen": seen}).status_code == 302

    answer = staff.browser.post(content, {**text, "subject": "Mine", "seen": seen})

    assert (answer.status_code, [field.name for field in answer.context["conflict"].fields]) == (409, ["subject"])
    staff.does("pause", message.pk)
    audience = reverse("admin:message_edit_audience", args=[message.pk])
    seen = field_of(staff.browser.get(audience).content.decode(), "seen")

    def filters(operator: str) -> dict[str, str]:
        rules = {"match": "all", "rules": [rule("name", operator, "x")]}
        return {"rules": json.dumps(rules), "window": "[]", "window_zone": "workspace", "seen": seen}

    assert staff.browser.post(audience, filters("is")).status_code == 302
    answer = staff.browser.post(audience, filters("contains"))
    assert (answer.status_code, [field.label for field in answer.context["conflict"].fields]) == (409, ["Filters"])
    assert "Name is x" in as_page(answer.content.decode())


def test_segments_settings_and_senders_are_not_overwritten(staff):
    segment, sender = SegmentFactory(name="Old"), SenderFactory(name="Old", email="old@x.example")
    workspace = Workspace.current()
    Workspace.objects.update(name="Old")
    settings = {"zone": "UTC", "colour": "#2563eb", "confirm_above": 1000, "drift_percent": 5, "cap_days": 7}
    for page, row, more in [
        ("audiences_audience_change", segment, {"rules": json.dumps(segment.rules)}),
        ("messaging_sender_change", sender, {"email": "old@x.example"}),
        ("audiences_workspace_change", workspace, {**settings, "answer_by_email_after": 5}),
    ]:
        url = reverse(f"admin:{page}", args=[row.pk])
        shown = staff.browser.get(url).content.decode()
        assert "data-open-form" in shown, page
        seen = field_of(shown, "seen")
        assert staff.browser.post(url, {"name": "Theirs", "seen": seen, **more}).status_code == 302, page

        answer = staff.browser.post(url, {"name": "Mine", "seen": seen, **more})

        assert answer.status_code == 409, page
        assert [(one.mine, one.theirs) for one in answer.context["conflict"].fields] == [("Mine", "Theirs")], page
        row.refresh_from_db()
        assert row.name == "Theirs", page
        log = LogEntry.objects.count()
        for choice in ("theirs", "mine"):
            assert staff.browser.post(url, repeated(answer) | {"take-name": [choice]}).status_code == 302, page
            row.refresh_from_db()
            assert row.name == choice.title(), page
        assert LogEntry.objects.count() > log
    assert (Audience.objects.get(pk=segment.pk).name, Sender.objects.get(pk=sender.pk).name) == ("Mine", "Mine")
