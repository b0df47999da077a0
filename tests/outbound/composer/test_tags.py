"""Tags of messages: on their page, in the Outbound list and by the API, in every state and without an edit."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.urls import reverse
from rest_framework.test import APIClient

from audiences.models import Integration, Tag
from messaging.models import Message
from outbound.composer import tags
from outbound.roles import Role
from tests.factories import CustomerFactory, MessageFactory, TagFactory

pytestmark = pytest.mark.django_db
LIST = reverse("admin:messaging_message_changelist")


def tag(console, message: Message, **posted: object):
    return console.post(reverse("admin:message_tag", args=[message.pk]), posted, headers={"HX-Request": "true"})


def names(message: Message) -> list[str]:
    return list(message.tags.order_by("name").values_list("name", flat=True))


def logged(message: Message) -> list[str]:
    rows = LogEntry.objects.filter(object_id=str(message.pk), content_type__model="message")
    return list(rows.order_by("pk").values_list("change_message", flat=True))


@pytest.mark.parametrize("traits", [{}, {"live": True}, {"one_off": True, "live": True}])
def test_message_is_tagged_in_every_state_without_an_edit(console, traits):
    CustomerFactory()
    message = MessageFactory(**traits)
    before = Message.objects.filter(pk=message.pk).values().get()

    answer = tag(console, message, tag="Launch")
    tag(console, message, tag="launch")

    assert "Launch" in answer.content.decode()
    assert names(message) == ["Launch"]
    assert Message.objects.filter(pk=message.pk).values().get() == before
    assert message.versions.count() == 1
    assert "Remove the tag Launch" in console.get(reverse("admin:messaging_message_change", args=[message.pk])).text

    tag(console, message, off=Tag.objects.get().pk)
    tag(console, message, off="99999")
    assert names(message) == []
    assert logged(message) == ["Added the tag “Launch”", "Removed the tag “Launch”"]


def test_tag_without_a_name_is_refused_beside_the_field(console):
    message = MessageFactory()

    assert "A tag name is required." in tag(console, message, tag=" ").content.decode()
    assert "longer than 200 characters" in tag(console, message, tag="x" * 201).content.decode()
    assert names(message) == []


def test_ticked_messages_are_tagged_and_untagged_from_the_list(console):
    first, second, other = MessageFactory(live=True), MessageFactory(), MessageFactory()
    first.tags.add(TagFactory(name="VIP"))
    ticked = [first.pk, second.pk]
    page = console.post(LIST, {"action": "tag_chosen", "_selected_action": ticked})
    assert page.context["ticked"] == ticked
    assert "For 2 messages." in page.content.decode()
    act = page.context["address"]

    said = console.post(act, {"pk": ticked, "tag": "vip", "how": "add"}, follow=True)

    assert "Added the tag “VIP” to 1 message." in said.content.decode()
    assert [names(message) for message in (first, second, other)] == [["VIP"], ["VIP"], []]
    assert (logged(first), logged(second)) == ([], ["Added the tag “VIP”"])

    console.post(act, {"pk": ticked, "tag": "VIP", "how": "remove"})
    assert [names(message) for message in (first, second)] == [[], []]
    said = console.post(act, {"pk": ticked, "tag": "Nope", "how": "remove"})
    assert "The tag “Nope” does not exist." in said.content.decode()
    assert console.post(act, {"pk": ticked, "tag": "x", "how": "burn"}).status_code == 404


def test_api_sets_the_tags_of_a_message(django_user_model, settings):
    settings.API_RATE_LIMIT = 0
    ada = django_user_model.objects.create(username="ada", is_staff=True)
    ada.groups.add(Group.objects.get(name=Role.AUTHOR))
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {Integration.issue(name='Deploy', teammate=ada)[1]}")
    made = api.post("/api/outbound", {"title": "News", "tags": ["Launch", "VIP"]}, format="json").json()
    assert [one["name"] for one in made["tags"]["tags"]] == ["Launch", "VIP"]
    live = MessageFactory(live=True)

    # As the API returned them, and as names.
    for sent in (made["tags"], ["VIP", "Launch"], []):
        answer = api.patch(f"/api/outbound/{live.pk}", {"tags": sent}, format="json")
        assert answer.status_code == 200
        assert len(answer.json()["tags"]["tags"]) == (2 if sent else 0)
    assert live.versions.count() == 1
    assert sorted(logged(live)) == [
        "Added the tag “Launch”",
        "Added the tag “VIP”",
        "Removed the tag “Launch”",
        "Removed the tag “VIP”",
    ]

    for wrong in ("VIP", [[1]], [""], [{"name": None}], ["x"] * 51, {"tags": 3}):
        answer = api.patch(f"/api/outbound/{live.pk}", {"tags": wrong}, format="json")
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "tags")


def test_too_many_ticked_messages_are_refused_as_a_whole(console, monkeypatch):
    monkeypatch.setattr(tags, "MESSAGES_TICKED_MAX", 2)
    ticked = [message.pk for message in MessageFactory.create_batch(3)]

    answer = console.post(
        reverse("admin:message_tag_ticked"), {"pk": ticked, "tag": "Launch", "how": "add"}, follow=True
    )

    assert "Nothing was changed: choose at most 2 messages at once." in answer.content.decode()
    assert not Tag.objects.exists()


def test_tagging_many_messages_needs_as_many_statements_as_one(console, django_assert_max_num_queries):
    label, author = TagFactory(), User.objects.first()
    many = MessageFactory.create_batch(5)

    with django_assert_max_num_queries(8):
        assert tags.add_tag(many, label, logged_as=author) == 5
        assert tags.remove_tag(many, label, logged_as=author) == 5
