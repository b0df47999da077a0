"""Every page of the console opens: with data, without data, for a guest, and with few permissions."""

import json
import re
from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from unfold.admin import ModelAdmin

from audiences.models import Audience, Integration, SegmentSize, Tag, Workspace
from messaging.models import Sender
from tests.factories import (
    CompanyTagFactory,
    CustomAttributeFactory,
    CustomerFactory,
    CustomerTagFactory,
    EventSummaryFactory,
    MembershipFactory,
    MessageFactory,
    SegmentFactory,
    rule,
)

pytestmark = pytest.mark.django_db
PAGES = sorted((model._meta.app_label, model._meta.model_name) for model in admin.site._registry)


def address(page: tuple[str, str], name: str, *args: object) -> str:
    return reverse(f"admin:{page[0]}_{page[1]}_{name}", args=args)


@pytest.fixture
def data(boss) -> None:
    customer = MembershipFactory(customer__name="A" * 200, company__name="C" * 200).customer
    EventSummaryFactory(customer=customer)
    CustomerTagFactory(customer=customer)
    CompanyTagFactory()
    CustomAttributeFactory()
    SegmentFactory(rules={"match": "all", "rules": [rule("name", "is", "Ada")]})
    MessageFactory(live=True)
    MessageFactory(in_app=True, one_off=True, live=True)
    MessageFactory(to_customer=customer, in_app=True)
    Integration.objects.create(user=boss, name="Shop")


@pytest.mark.parametrize("page", PAGES, ids="/".join)
@pytest.mark.usefixtures("data")
def test_every_list_and_every_row_opens(console, page):
    assert console.get(address(page, "changelist"), follow=True).status_code == 200
    assert console.get(address(page, "changelist") + "?q=a", follow=True).status_code == 200
    model = next(model for model in admin.site._registry if (model._meta.app_label, model._meta.model_name) == page)
    rows = admin.site._registry[model].get_queryset(None)
    for row in rows[:20]:
        if page != ("auth", "group"):  # Roles are read only, and their page redirects to the list.
            assert console.get(address(page, "change", row.pk)).status_code == 200
        assert console.get(address(page, "history", row.pk)).status_code == 200


LISTS_AND_FORMS = [address(page, name) for page in PAGES for name in ("changelist", "add")]


def test_every_list_opens_on_an_empty_database(console):
    lists = {page: console.get(address(page, "changelist"), follow=True).status_code for page in PAGES}
    forms = {page: console.get(address(page, "add")).status_code for page in PAGES}

    assert lists == dict.fromkeys(PAGES, 200)
    assert {page: status for page, status in forms.items() if status not in (200, 403)} == {}


def test_guest_is_sent_to_the_login(client):
    found = {path: client.get(path) for path in LISTS_AND_FORMS}

    assert {path: answer.status_code for path, answer in found.items()} == dict.fromkeys(LISTS_AND_FORMS, 302)
    assert [answer.url for answer in found.values() if not answer.url.startswith("/admin/login/")] == []


def test_teammate_without_permissions_is_refused(log_in_with):
    console = log_in_with()

    found = {path: console.get(path).status_code for path in LISTS_AND_FORMS}

    assert found == dict.fromkeys(LISTS_AND_FORMS, 403)


def test_missing_row_is_not_found(console):
    found = {page: console.get(address(page, "change", "424242")) for page in PAGES}

    # Django redirects to its index with a message.
    wrong = {page: answer for page, answer in found.items() if answer.status_code != 404 and answer.url != "/admin/"}
    assert wrong == {}


def test_every_page_of_a_library_is_drawn_by_the_console():
    assert [model for model, pages in admin.site._registry.items() if not isinstance(pages, ModelAdmin)] == []


def test_sidebar_links_only_to_permitted_pages(log_in_with):
    console = log_in_with("messaging.view_message")
    home = console.get("/admin/").content.decode()

    assert "/admin/messaging/message/?send_type__exact=ongoing" in home
    assert 'href="/admin/audiences/customer/' not in home
    assert 'href="/admin/auth/user/' not in home


def test_the_sidebar_leads_to_pages_that_open(console):
    links = set(re.findall(r'href="(/admin/[^"#]+)"', console.get("/admin/").content.decode()))

    assert len(links) >= 15
    for link in links - {"/admin/logout/"}:
        assert console.get(link.replace("&amp;", "&"), follow=True).status_code == 200, link


def test_typed_without_slash_or_path_one_gets_there(client):
    assert client.get("/admin").url == client.get("/").url == "/admin/"


@pytest.mark.parametrize(
    ("page", "make"),
    [
        (("audiences", "customer"), lambda: CustomerTagFactory(customer=MembershipFactory().customer)),
        (("audiences", "company"), lambda: CompanyTagFactory(company=MembershipFactory().company)),
        (("audiences", "tag"), CustomerTagFactory),
        (("audiences", "audience"), lambda: SegmentFactory(rules={"match": "all", "rules": [rule("name", "is", "A")]})),
        (("messaging", "sender"), lambda: MessageFactory().sender),
    ],
    ids=lambda value: "/".join(value) if isinstance(value, tuple) else "",
)
def test_queries_of_a_list_do_not_grow_with_its_rows(console, page, make, django_assert_max_num_queries):
    make()
    console.get(address(page, "changelist"))
    with django_assert_max_num_queries(100) as few:
        console.get(address(page, "changelist"))
    for _ in range(10):
        make()
    with django_assert_max_num_queries(len(few.captured_queries)):
        console.get(address(page, "changelist"))


# Segments


def rules(*given: object) -> str:
    return json.dumps({"match": "all", "rules": list(given)})


def test_makes_changes_and_deletes_a_segment(console):
    console.post("/admin/audiences/audience/add/", {"name": " On trial ", "rules": rules(rule("name", "is", "Ada"))})
    segment = Audience.objects.get()
    assert (segment.name, segment.rules["rules"]) == ("On trial", [rule("name", "is", "Ada")])

    page = address(("audiences", "audience"), "change", segment.pk)
    console.post(page, {"name": "Ada", "rules": rules(rule("name", "is", "Ada B"))})
    segment.refresh_from_db()
    assert (segment.name, segment.rules["rules"][0]["value"]) == ("Ada", "Ada B")

    console.post(reverse("admin:audience_discard", args=[segment.pk]))
    assert not Audience.objects.exists()


@pytest.mark.parametrize(
    ("name", "given", "field", "says"),
    [
        ("", rules(), "name", "This field is required."),
        ("Taken", rules(), "name", "A segment with this name already exists."),
        ("New", rules(rule("name", "greater_than", 3)), "rules", "Rule 1"),
        ("New", "{", "rules", "could not be read"),
        ("New", rules(rule("tag", "is", 999)), "rules", "a tag that does not exist"),
    ],
)
def test_a_segment_that_makes_no_sense_is_refused_at_its_field(console, name, given, field, says):
    SegmentFactory(name="Taken")

    answer = console.post("/admin/audiences/audience/add/", {"name": name, "rules": given})

    assert says in " ".join(answer.context["form"].errors[field])
    assert Audience.objects.count() == 1


def test_a_segment_cannot_become_a_part_of_itself(console):
    segment = SegmentFactory(name="Snake")

    answer = console.post(
        address(("audiences", "audience"), "change", segment.pk),
        {"name": "Snake", "rules": rules(rule("segment", "is", segment.pk))},
    )

    assert "a part of itself" in " ".join(answer.context["form"].errors["rules"])


def test_segment_in_use_shows_its_uses_and_cannot_be_deleted(console):
    segment = SegmentFactory(name="On trial")
    MessageFactory(
        title="Nudge", rules={"match": "any", "rules": [{"match": "all", "rules": [rule("segment", "is", segment.pk)]}]}
    )

    assert "Nudge" in console.get(address(("audiences", "audience"), "change", segment.pk)).content.decode()
    answer = console.post(reverse("admin:audience_discard", args=[segment.pk]), follow=True)
    assert "used by “Nudge”" in answer.content.decode()
    assert Audience.objects.segments().get() == segment


def test_segment_page_counts_while_typing(console):
    CustomerFactory(name="Ada")
    CustomerFactory(name="Bob")

    said = console.post(reverse("admin:audience_count_people"), {"rules": rules(rule("name", "is", "Ada"))})

    assert "1 matches now" in said.content.decode()


def test_list_of_segments_shows_kept_sizes_and_counts_outdated_ones_after_it_is_shown(console):
    CustomerFactory(name="Ada")
    current = SegmentFactory(name="Current", rules={"match": "all", "rules": [rule("name", "is", "Ada")]})
    now = timezone.now()
    SegmentSize.objects.create(segment=current, people=12_345, is_exact=False, counted_at=now)
    old = SegmentFactory(name="Old", rules={"match": "all", "rules": [rule("name", "is", "Ada")]})
    SegmentSize.objects.create(segment=old, people=7, is_exact=True, counted_at=now - timedelta(hours=1))
    new = SegmentFactory(name="New")
    broken = SegmentFactory(name="Broken")
    Audience.objects.filter(pk=broken.pk).update(rules={"match": "all", "rules": [rule("nothing", "is", "x")]})

    with CaptureQueriesContext(connection) as queries:
        page = console.get("/admin/audiences/audience/").content.decode()

    assert not [query["sql"] for query in queries if "audiences_customer" in query["sql"]]
    assert "About 12,345" in page
    segments = (current, old, new, broken)
    sizes = [reverse("admin:audience_current_size", args=[segment.pk]) for segment in segments]
    assert [f'hx-get="{size}"' in page for size in sizes] == [False, True, True, True]

    assert "About 12,345" in console.get(sizes[0]).content.decode()
    said = console.get(sizes[1]).content.decode()
    assert (">1<" in said, "hx-get" in said) == (True, False)
    assert SegmentSize.objects.get(segment=old).people == 1
    assert ">1<" in console.get(sizes[2]).content.decode()
    assert "A rule is no longer valid" in console.get(sizes[3]).content.decode()


def test_size_is_counted_again_once_the_rules_of_the_segment_change(console):
    CustomerFactory(name="Ada")
    segment = SegmentFactory(name="Ada", rules={"match": "all", "rules": [rule("name", "is", "Bob")]})
    size = reverse("admin:audience_current_size", args=[segment.pk])
    assert ">0<" in console.get(size).content.decode()

    segment.rules = {"match": "all", "rules": [rule("name", "is", "Ada")]}
    segment.save()

    assert ">1<" in console.get(size).content.decode()


def test_audience_of_a_message_is_not_a_segment(console):
    message = MessageFactory()

    assert console.get(address(("audiences", "audience"), "change", message.audience_id)).status_code == 404
    assert "Audience" not in [row.name for row in console.get("/admin/audiences/audience/").context["cl"].result_list]


# Settings


def test_the_workspace_is_one_row_that_opens_straight_away(console):
    answer = console.get("/admin/audiences/workspace/", follow=True)

    assert answer.redirect_chain[-1][0] == address(("audiences", "workspace"), "change", 1)
    assert console.get("/admin/audiences/workspace/add/").status_code == 403
    assert console.get("/admin/audiences/workspace/1/delete/").status_code == 403


def workspace_form(**changes: object) -> dict[str, object]:
    return {
        "name": "Acme",
        "zone": "Europe/Dublin",
        "postal_address": "",
        "confirm_above": 1000,
        "drift_percent": 5,
        "colour": "#1f5fd0",
        "cap_days": 7,
        **changes,
    }


def test_a_zone_that_does_not_exist_is_refused(console):
    page = address(("audiences", "workspace"), "change", Workspace.current().pk)

    answer = console.post(page, workspace_form(zone="Mars/Olympus"))

    assert "is not a valid time zone" in answer.content.decode()


def test_tag_is_created_once(console):
    console.post("/admin/audiences/tag/add/", {"name": "VIP"})
    answer = console.post("/admin/audiences/tag/add/", {"name": "vip"})

    assert Tag.objects.get().name == "VIP"
    assert "A tag with this name already exists." in answer.content.decode()


def test_sender_is_created_and_shared(console, boss):
    form = {"name": "Ada", "email": "ada@acme.example", "reply_to": "", "teammate": "", "users": [boss.pk]}

    console.post("/admin/messaging/sender/add/", form)

    assert list(Sender.objects.get().users.all()) == [boss]


def test_staff_pause_a_task_of_the_schedule(console):
    task = PeriodicTask.objects.get(name="Match ongoing messages")
    page = address(("django_celery_beat", "periodictask"), "change", task.pk)
    form = {
        "name": task.name,
        "task": task.task,
        "interval": task.interval_id,
        "args": "[]",
        "kwargs": "{}",
        "headers": "{}",
    }

    answer = console.post(page, form)

    task.refresh_from_db()
    assert answer.status_code == 302
    assert not task.enabled


@pytest.mark.parametrize("page", PAGES, ids="/".join)
def test_empty_list_explains_its_content_and_empty_search_offers_all(console, page):
    model = next(model for model in admin.site._registry if (model._meta.app_label, model._meta.model_name) == page)
    pages = admin.site._registry[model]
    for asked, says in (("", pages.nothing_yet), ("?q=zzzz", "Nothing matches")):
        answer = console.get(address(page, "changelist") + asked)
        text = answer.content.decode()
        if answer.status_code == 200 and 'class="ob-nothing"' in text:
            assert says
            assert says in text
        assert "yielded" not in text


def test_save_message_leaves_out_successfully(console):
    added = console.post("/admin/audiences/tag/add/", {"name": "V<b>IP"}, follow=True).content.decode()
    assert "was added." in added
    assert "V&lt;b&gt;IP" in added
    tag = Tag.objects.get()
    deleted = console.post(address(("audiences", "tag"), "delete", tag.pk), {"post": "yes"}, follow=True)
    task = PeriodicTask.objects.get(name="Match ongoing messages")
    ticked = {"action": "switch_off", "_selected_action": [task.pk]}
    switched = console.post(address(("django_celery_beat", "periodictask"), "changelist"), ticked, follow=True)
    gone = console.post("/admin/logout/")

    for page in (added, deleted.content.decode(), switched.content.decode(), gone.content.decode()):
        assert "successfully" not in page.lower()
    assert "1 task is switched off." in switched.content.decode()
    assert "You are logged out" in gone.content.decode()


def test_bulk_disabling_of_tasks_is_logged_for_each(console):
    tasks = PeriodicTask.objects.order_by("pk")
    ticked = {"_selected_action": [task.pk for task in tasks]}
    here = address(("django_celery_beat", "periodictask"), "changelist")

    console.post(here, {"action": "switch_off", **ticked})
    assert not tasks.filter(enabled=True).exists()
    console.post(here, {"action": "switch_on", **ticked})

    assert not tasks.filter(enabled=False).exists()
    told = LogEntry.objects.filter(object_id=str(tasks[0].pk)).order_by("pk").values_list("change_message", flat=True)
    assert list(told) == ["Enabled: from yes to no", "Enabled: from no to yes"]


def test_error_pages_explain_and_link_to_home(log_in_with, client):
    console = log_in_with("messaging.view_message")
    refused = console.get(address(("audiences", "workspace"), "change", 1))
    missing = console.get(address(("messaging", "message"), "change", 424242))
    nowhere = console.get("/admin/nowhere/at/all/")

    assert (refused.status_code, missing.status_code, nowhere.status_code) == (403, 404, 404)
    assert "An Admin can give you another role." in refused.content.decode()
    assert "There is no message 424242." in missing.content.decode()
    assert "Check the address" in nowhere.content.decode()
    for page in (refused, missing, nowhere):
        assert 'href="/admin/"' in page.content.decode()
    client.logout()
    assert 'href="/admin/"' not in client.get("/pictures/none.png").content.decode()


def test_an_invalid_address_gets_a_page_with_the_reason_and_a_link_home(console):
    page = console.get("/admin/audiences/customer/?role__exact=%00")

    assert page.status_code == 400
    assert "This request is not valid" in page.content.decode()
    assert "role__exact" not in page.content.decode()
    assert 'href="/admin/"' in page.content.decode()


def test_server_error_and_expired_form_have_clear_pages(console, monkeypatch, client):
    def fail(*_args, **_more):
        raise RuntimeError("no")

    monkeypatch.setattr("outbound.home.dashboard", fail)
    monkeypatch.setattr("django.contrib.admin.site.each_context", fail)
    console.raise_request_exception = False
    broken = console.get("/admin/")
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = console.cookies

    assert broken.status_code == 500
    assert "Something went wrong" in broken.content.decode()
    assert (
        "Go back: your text is still there. Copy it before you reload the page."
        in strict.post("/admin/password_change/", {}).content.decode()
    )
