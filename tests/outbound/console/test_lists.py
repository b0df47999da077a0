"""Lists and search boxes accept only declared filters and short searches."""

import time

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group
from django.urls import reverse

from audiences.models import Customer, Integration, Subscription, Workspace
from delivery.models import Conversation
from outbound.console.lists import ConsoleChangeList
from outbound.console.search import MAX_CHARACTERS, MAX_WORDS, TOO_LONG
from outbound.inbox import listing
from outbound.roles import Role
from tests.factories import CustomerFactory, MessageFactory, TagFactory
from tests.support.machine import slowdown

pytestmark = pytest.mark.django_db

# These pages have their own lists or none.
WITHOUT_A_LIST = {Conversation, Integration, Subscription, Workspace}
LISTS = {
    model._meta.label_lower: reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    for model in admin.site._registry
    if model not in WITHOUT_A_LIST
}
PEOPLE = "/admin/audiences/customer/"
MANY_WORDS = "word " * (MAX_WORDS + 1)
BOXES = {
    "people": "/admin/messaging/message/people/?q={q}",
    "values": "/admin/messaging/message/values/?attribute=name&q={q}",
    "names": "/admin/messaging/message/names/?kind=tag&q={q}",
}


@pytest.mark.parametrize("label", LISTS)
def test_every_list_refuses_a_filter_that_it_does_not_declare(console, label):
    for query in ("pk__regex=x", "id__gt=0", "pk__in=1,2", "pk__regex=(", "nonsense=1", "id__id__regex=a"):
        page = console.get(f"{LISTS[label]}?{query}")

        assert page.status_code == 400, query
        assert f"This list has no filter “{query.split('=')[0]}”." in page.content.decode()


def test_every_list_of_the_console_is_one_that_refuses(rf, admin_user):
    request = rf.get("/")
    request.user = admin_user

    for model, pages in admin.site._registry.items():
        assert model in WITHOUT_A_LIST or issubclass(pages.get_changelist(request), ConsoleChangeList), model


@pytest.mark.parametrize(
    "address",
    [
        f"{PEOPLE}?segment=7",
        f"{PEOPLE}?tags__id__exact=7",
        "/admin/messaging/message/?sender__id__exact=7",
        "/admin/messaging/message/?tags__id__exact=7",
    ],
)
def test_link_with_a_filter_that_has_no_choices_left_finds_no_rows(console, address):
    CustomerFactory()
    MessageFactory(sender=None)

    page = console.get(address)

    assert (page.status_code, page.context["cl"].result_count) == (200, 0)


def test_a_viewer_cannot_have_the_database_try_a_pattern(client, django_user_model):
    viewer = django_user_model.objects.create(username="vi", is_staff=True)
    viewer.groups.add(Group.objects.get(name=Role.VIEWER))
    client.force_login(viewer)
    CustomerFactory.create_batch(20, email=None)

    for field in ("email", "name", "attributes", "tags__name", "companies__name"):
        for lookup in ("regex", "iregex", "contains", "startswith"):
            page = client.get(PEOPLE, {f"{field}__{lookup}": r"^(.*)(.*)(.*)(.*)\1\2\3\4x"})
            assert page.status_code == 400, (field, lookup)


@pytest.mark.parametrize("verb", ["tag", "message", "export"])
@pytest.mark.parametrize("query", ["email__regex=(", f"q={MANY_WORDS}"])
def test_nothing_is_done_with_people_by_a_filter_or_a_search_that_is_refused(console, verb, query):
    CustomerFactory()

    page = console.post(f"{PEOPLE}picked/{verb}/?{query}", {"tag": "vip", "how": "add"})

    assert page.status_code == 400
    assert not Customer.objects.filter(tags__name="vip").exists()


def test_bulk_action_with_an_invalid_filter_value_is_refused(console):
    page = console.post(f"{PEOPLE}picked/tag/?tags__id__exact=x", {"tag": "vip", "how": "add"}, follow=True)

    assert "A filter of the list has an invalid value. Nothing was changed." in page.content.decode()


@pytest.mark.parametrize("label", LISTS)
def test_list_refuses_a_search_that_is_too_long(console, label):
    if not admin.site._registry[apps.get_model(label)].search_fields:
        pytest.skip("This list has no search box.")
    CustomerFactory(name="w")
    for search in (MANY_WORDS, "w" * (MAX_CHARACTERS + 1), "a " * 2000):
        began = time.monotonic()

        page = console.get(LISTS[label], {"q": search})

        assert page.context["cl"].result_count == 0
        assert TOO_LONG in page.content.decode()
        assert time.monotonic() - began < 5 * slowdown()


def test_ten_words_are_still_searched_for(console):
    CustomerFactory(name="a b c d e f g h i j")

    page = console.get(PEOPLE, {"q": "a b c d e f g h i j"})

    assert page.context["cl"].result_count == 1
    assert TOO_LONG not in page.content.decode()


def test_a_name_is_not_completed_by_a_search_that_is_too_long(console):
    TagFactory(name="word")
    asked = {"app_label": "audiences", "model_name": "customertag", "field_name": "tag"}

    assert [
        one["text"] for one in console.get("/admin/autocomplete/", {**asked, "term": "word"}).json()["results"]
    ] == ["word"]
    assert console.get("/admin/autocomplete/", {**asked, "term": MANY_WORDS}).json()["results"] == []


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("search", [MANY_WORDS, "w" * (MAX_CHARACTERS + 1)])
def test_the_composers_boxes_refuse_a_search_that_is_too_long(console, box, search):
    answer = console.get(BOXES[box].format(q=search))

    assert (answer.status_code, answer.json()) == (400, {"wrong": TOO_LONG})


def test_inbox_refuses_a_search_that_is_too_long(console):
    page = console.get("/admin/delivery/conversation/", {"q": MANY_WORDS}).content.decode()

    assert TOO_LONG in page
    assert listing.MAX_INDEXED_WORDS >= MAX_WORDS


@pytest.mark.parametrize(
    "page", ["/admin/messaging/message/{pk}/change/", "/admin/delivery/deliveryrecord/of/{pk}/export/"]
)
def test_a_report_and_its_file_refuse_a_search_that_is_too_long(console, page):
    message = MessageFactory(live=True)

    answer = console.get(page.format(pk=message.pk), {"q": MANY_WORDS})

    assert answer.status_code == 400
    assert TOO_LONG in answer.content.decode()
