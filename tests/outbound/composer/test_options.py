"""The rule builder's choices: a menu for few names, a search for many."""

import json

import pytest

from audiences.rules import Kind
from messaging.models import Message
from outbound.composer import options
from outbound.console import lookups
from tests.factories import EventSummaryFactory, MessageFactory, SegmentFactory, TagFactory, rule

pytestmark = pytest.mark.django_db
NAMES = "/admin/messaging/message/names/"


@pytest.fixture
def few(monkeypatch) -> None:
    """Limit a menu to two names."""
    monkeypatch.setattr(lookups, "MENU_LIMIT", 2)
    monkeypatch.setattr(lookups, "EVENT_LIMIT", 1)


def found_names(console, kind: str, words: str) -> list[str]:
    return [one["name"] for one in console.get(NAMES, {"kind": kind, "q": words}).json()["names"]]


def test_few_names_are_a_menu_and_many_are_searched(few):
    for name in ("a", "b"):
        TagFactory(name=name)
    assert options.rule_builder()["more"] == []

    TagFactory(name="c")

    assert options.rule_builder()["more"] == [Kind.TAG]


@pytest.mark.parametrize("nested", [False, True])
def test_names_used_by_the_rules_are_always_offered(few, nested):
    tags = [TagFactory(name=name) for name in "abcdef"]
    named = rule("tag", "is", tags[-1].pk)
    stored = {"match": "all", "rules": [{"match": "any", "rules": [named]} if nested else named]}

    assert [tags[-1].pk, "f"] in options.rule_builder(json.dumps(stored))["choices"][Kind.TAG]
    assert [tags[-2].pk, "e"] not in options.rule_builder(stored)["choices"][Kind.TAG]


def test_an_event_the_rules_ask_about_is_in_the_menu_however_rare(few):
    EventSummaryFactory(name="often", count=9)
    EventSummaryFactory(name="often", count=9)
    EventSummaryFactory(name="seldom")

    def menu(stored=None) -> set[str]:
        groups = options.rule_builder(stored)["groups"]
        return {one["name"] for group in groups for one in group["attributes"]}

    assert "event.often" in menu()
    assert "event_count.seldom" not in menu()
    assert "event_count.seldom" in menu({"match": "all", "rules": [rule("event_last.seldom", "more", 1)]})


@pytest.mark.parametrize("stored", ["", "{", "[]", '{"rules": 3}', '{"rules": [3, {"attribute": []}]}', None])
def test_rules_that_cannot_be_read_take_nothing_from_the_menu(few, stored):
    TagFactory(name="a")

    assert [name for _, name in options.rule_builder(stored)["choices"][Kind.TAG]] == ["a"]


def test_the_very_name_is_found_first_then_those_that_begin_so(console):
    for name in ("a pro", "Pro", "Proper", "spro", "else"):
        TagFactory(name=name)

    assert found_names(console, "tag", "pro") == ["Pro", "Proper", "a pro", "spro"]


def test_finds_no_more_than_fit_under_the_field(console):
    for n in range(30):
        TagFactory(name=f"tag {n:02}")

    assert found_names(console, "tag", "tag") == [f"tag {n:02}" for n in range(lookups.SEARCH_LIMIT)]
    assert found_names(console, "tag", "") == [f"tag {n:02}" for n in range(lookups.SEARCH_LIMIT)]


@pytest.mark.parametrize("words", ["%", "_", "\\"])
def test_a_wildcard_is_a_letter_like_any_other(console, words):
    TagFactory(name="plain")

    assert found_names(console, "tag", words) == []


def test_segments_come_with_their_rules_to_start_from(console):
    segment = SegmentFactory(name="On trial", rules={"match": "all", "rules": [rule("name", "is", "Ada")]})

    (one,) = console.get(NAMES, {"kind": "segment", "q": "trial"}).json()["names"]

    assert (one["id"], one["rules"]) == (segment.pk, segment.rules)


def test_messages_of_the_same_name_show_channel_and_state(console):
    MessageFactory(title="News")
    MessageFactory(title="News", live=True)

    answer = console.get(NAMES, {"kind": "message", "q": "news"}).json()["names"]

    assert [one["more"] for one in answer] == ["Email, live", "Email, draft"]
    assert [one["id"] for one in answer] == list(Message.objects.order_by("-pk").values_list("pk", flat=True))


@pytest.mark.parametrize("kind", ["role", "teammate", "text", "", "nonsense"])
def test_nothing_else_is_searched(console, kind):
    assert console.get(NAMES, {"kind": kind}).status_code == 404


@pytest.mark.parametrize("kind", lookups.NAMED_KINDS)
def test_search_of_names_needs_the_view_permission(log_in_with, kind):
    others = set(lookups.VIEW_PERMISSIONS.values()) - {lookups.VIEW_PERMISSIONS[kind]}
    assert log_in_with(*others).get(NAMES, {"kind": kind}).status_code == 403


def test_every_searched_kind_has_a_view_permission(console):
    assert set(lookups.VIEW_PERMISSIONS) == set(lookups.NAMED_KINDS) == lookups.KINDS_BY_ID - {Kind.TEAMMATE, Kind.ROLE}


def test_the_builder_asks_no_more_of_the_database_the_more_names_there_are(few, django_assert_max_num_queries):
    for n in range(40):
        TagFactory(name=f"tag {n}")
        SegmentFactory(name=f"segment {n}")
    with django_assert_max_num_queries(10):
        options.rule_builder({"match": "all", "rules": [rule("tag", "is", n) for n in range(40)]})
