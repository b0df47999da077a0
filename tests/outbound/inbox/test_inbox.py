"""The inbox: its list, the thread of a conversation, and each action."""

import io
from datetime import timedelta
from uuid import uuid4

import pytest
import time_machine
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from django.utils import timezone

from audiences.models import Workspace
from delivery.conversations import threads as conversation_threads
from delivery.customers import erase
from delivery.models import AnswerMail, Conversation, ConversationPart, PartType, Status
from delivery.visits import visit
from outbound import roles
from outbound.inbox import admin
from outbound.inbox import thread as inbox_thread
from outbound.inbox.listing import PER_PAGE, TABS
from outbound.roles import Role
from tests.factories import CustomerFactory, MessageFactory

pytestmark = pytest.mark.django_db
INBOX = reverse("admin:delivery_conversation_changelist")
NEWS = reverse("admin:conversation_news")
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cf50"
    "0f0003860180b5fd4b8f0000000049454e44ae426082"
)


@pytest.fixture(autouse=True)
def somewhere_to_keep_images(settings, tmp_path) -> None:
    settings.MEDIA_ROOT = tmp_path


def wrote(name: str = "Ann Lee", body: str = "Where is my invoice?", *, at=None, **facts: object) -> Conversation:
    """Start a conversation by a customer."""
    return conversation_threads.open_by_customer(
        CustomerFactory(name=name, **facts), body=body, at=at or timezone.now()
    )


def messaged(at) -> Conversation:
    """Start a conversation with an in-app message of ours."""
    customer = CustomerFactory(name="Bob Ray")
    MessageFactory(in_app=True, live=True, title="First steps", body="<p>Shall I show you around?</p>")
    visit.visit(customer, at=at)
    return Conversation.objects.get(customer=customer)


def page(conversation: Conversation) -> str:
    return reverse("admin:delivery_conversation_change", args=[conversation.pk])


def act(verb: str, conversation: Conversation) -> str:
    return reverse("admin:conversation_act", args=[conversation.pk, verb])


def ticket() -> dict[str, str]:
    return {"ticket": f"{uuid4()}"}


def names(answer) -> list[str]:
    return [str(row["conversation"].customer.name) for row in answer.context["rows"]]


# The list


def test_message_enters_the_inbox_with_the_first_reply(console, at):
    thread = messaged(at)
    assert names(console.get(INBOX)) == []

    conversation_threads.reply_by_customer(thread, body="Yes please", at=at)

    answer = console.get(INBOX)
    assert names(answer) == ["Bob Ray"]
    assert answer.context["rows"][0]["excerpt"] == "Yes please"


def test_tabs_filter_order_and_count(console, boss):
    sam = User.objects.create_user("sam", is_staff=True)
    now = timezone.now()
    threads_of = {
        name: wrote(name, at=now - timedelta(hours=hours))
        for hours, name in enumerate(("Mine", "Sams", "Nobodys", "Asleep", "Done"))
    }
    conversation_threads.assign(threads_of["Mine"], to=boss, teammate=boss, at=now)
    conversation_threads.assign(threads_of["Sams"], to=sam, teammate=boss, at=now)
    conversation_threads.snooze(threads_of["Asleep"], until=now + timedelta(days=1), teammate=boss, at=now)
    conversation_threads.close(threads_of["Done"], teammate=boss, at=now)

    found = {name: names(console.get(INBOX, {"tab": name})) for name in TABS}

    assert found == {
        "open": ["Mine", "Sams", "Nobodys"],
        "mine": ["Mine"],
        "unassigned": ["Nobodys"],
        "snoozed": ["Asleep"],
        "closed": ["Done"],
    }
    counts = {tab["label"]: tab["count"] for tab in console.get(INBOX).context["tabs"]}
    assert counts == {"Open": "3", "Mine": "1", "Unassigned": "1", "Snoozed": "1", "Closed": "1"}


@pytest.mark.parametrize("search", ["ann lee", "ANN@SHOP", "invoi", "parcel lost", "Lost, parcel!"])
def test_search_finds_names_addresses_and_text_in_all_states(console, boss, search):
    thread = wrote("Ann Lee", "About my invoice", email="ann@shop.example")
    conversation_threads.reply_by_customer(thread, body="The parcel is lost & gone", at=timezone.now())
    conversation_threads.close(thread, teammate=boss, at=timezone.now())
    wrote("Bob Ray", "Something else", email="bob@corp.example")

    assert names(console.get(INBOX, {"q": search})) == ["Ann Lee"]


@pytest.mark.parametrize("search", ["nothing like it", "' :* | !", "100%", "\\", "<>", "a" * 200])
def test_search_without_results_says_so(console, search):
    wrote("Ann Lee", "About my invoice", email="ann@shop.example")

    answer = console.get(INBOX, {"q": search})

    assert names(answer) == []
    assert "No conversation matches" in answer.content.decode()


def test_paging_neither_misses_nor_repeats_rows(console):
    now = timezone.now()
    for number in range(PER_PAGE * 2 + 5):
        # Some have the same time, as after an import.
        wrote(f"Customer {number}", at=now - timedelta(seconds=number // 10))

    seen, address = [], ""
    for _ in range(4):
        answer = console.get(INBOX + address)
        seen += names(answer)
        if not (address := answer.context["older"]):
            break

    assert len(seen) == len(set(seen)) == PER_PAGE * 2 + 5


@pytest.mark.parametrize("mark", ["x", "-", "1-x", "9" * 17 + "-1", "0-" + "9" * 18])
def test_invalid_page_mark_is_ignored(console, mark):
    assert console.get(INBOX, {"after": mark, "tab": "elsewhere"}).status_code == 200


def test_number_of_queries_does_not_grow(console, boss, django_assert_max_num_queries):
    thread = wrote()
    conversation_threads.reply_by_customer(thread, body="Hello?", at=timezone.now())
    console.get(page(thread))
    with django_assert_max_num_queries(100) as few:
        console.get(page(thread))
    for number in range(40):
        conversation_threads.reply_by_teammate(wrote(f"Customer {number}"), teammate=boss, body="Hi", at=timezone.now())
        conversation_threads.reply_by_teammate(thread, teammate=boss, body=f"Answer {number}", at=timezone.now())

    with django_assert_max_num_queries(len(few.captured_queries)):
        assert len(console.get(page(thread)).context["rows"]) == PER_PAGE


def test_empty_inbox_explains_itself(console):
    assert "appears here when its customer replies" in console.get(INBOX).content.decode()


# Unread


def test_conversation_is_unread_until_a_teammate_who_answers_opens_it(console, log_in_with):
    thread = wrote()
    assert 'data-counted="inbox"><span>1</span>' in console.get(reverse("admin:index")).content.decode()

    viewer = log_in_with("delivery.view_conversation")
    assert viewer.post(reverse("admin:conversation_seen", args=[thread.pk])).status_code == 403
    assert Conversation.objects.unseen().exists()

    console.force_login(User.objects.get(username="boss"))
    console.post(reverse("admin:conversation_seen", args=[thread.pk]))
    assert not Conversation.objects.unseen().exists()
    assert 'data-counted="inbox" hidden>' in console.get(reverse("admin:index")).content.decode()


def test_conversation_leads_to_the_explanation_of_the_customers_messages(console):
    thread = wrote()

    page = console.get(reverse("admin:delivery_conversation_change", args=[thread.pk])).content.decode()

    assert reverse("admin:customer_why", args=[thread.customer_id]) in page


def test_ended_snooze_returns_to_the_top_as_unread(console, boss):
    now = timezone.now()
    thread = wrote("Asleep", at=now - timedelta(days=2))
    wrote("Newer", at=now - timedelta(days=1))
    conversation_threads.snooze(thread, until=now - timedelta(minutes=1), teammate=boss, at=now - timedelta(days=2))
    conversation_threads.mark_seen(thread)

    conversation_threads.wake_snoozed(at=now)

    answer = console.get(INBOX)
    assert names(answer) == ["Asleep", "Newer"]
    assert answer.context["rows"][0]["conversation"].unseen
    assert "Reopened automatically" in console.get(page(thread)).content.decode()


# A conversation


def test_thread_shows_first_message_comments_and_notes(console, boss, at):
    thread = messaged(at)
    conversation_threads.reply_by_customer(thread, body="Yes <please>", at=at)
    conversation_threads.reply_by_teammate(thread, teammate=boss, body="<p>Gladly<script>x()</script></p>", at=at)
    conversation_threads.add_note(thread, teammate=boss, body="A big customer", at=at)

    answer = console.get(page(thread))
    text = answer.content.decode()

    assert [part["kind"] for part in answer.context["parts"]] == ["theirs", "ours", "note"]
    assert "Shall I show you around?" in text
    assert "Yes &lt;please&gt;" in text
    assert "x()" not in text
    assert "Note, seen by staff only" in text
    assert "First steps" in text


def test_own_images_are_shown_and_other_files_are_links(console, settings):
    settings.PUBLIC_URL = "https://outbound.example"
    files = [
        {"name": "shot.png", "url": "https://outbound.example/messenger/images/a.png", "content_type": "image/png"},
        {"name": "spy.png", "url": "https://elsewhere.example/spy.png", "content_type": "image/png"},
        {"name": "bad", "url": "javascript:alert(1)", "content_type": "image/png"},
    ]
    thread = conversation_threads.open_by_customer(CustomerFactory(), body="", attachments=files, at=timezone.now())

    text = console.get(page(thread)).content.decode()

    assert '<img src="/messenger/images/a.png"' in text
    assert '<img src="https://elsewhere' not in text
    assert 'href="https://elsewhere.example/spy.png"' in text
    assert "javascript:" not in text


def test_long_conversation_shows_the_latest_parts_first(console):
    thread = wrote(body="The very first")
    for number in range(inbox_thread.LATEST_PARTS + 40):
        conversation_threads.reply_by_customer(thread, body=f"Line {number}", at=timezone.now())

    latest, whole = console.get(page(thread)), console.get(page(thread), {"all": "1"})

    assert (len(latest.context["parts"]), latest.context["earlier"]) == (inbox_thread.LATEST_PARTS, 40)
    assert "The very first" not in latest.content.decode().partition('id="thread-parts"')[2]
    assert len(whole.context["parts"]) == inbox_thread.LATEST_PARTS + 40
    assert "The very first" in whole.content.decode().partition('id="thread-parts"')[2]


def test_profile_and_conversation_link_to_each_other(console):
    thread = wrote()
    profile = reverse("admin:audiences_customer_change", args=[thread.customer_id])

    assert f'href="{page(thread)}"' in console.get(profile).content.decode()
    assert f'href="{profile}"' in console.get(page(thread)).content.decode()


# Actions


def test_answer_is_sanitised_stored_with_images_and_logged(console, boss):
    thread = wrote()
    image = SimpleUploadedFile("shot.png", PNG, content_type="image/png")

    answer = console.post(
        act("reply", thread), {"body": "<p>Here<script>x()</script> it is</p>", "images": image, **ticket()}
    )

    assert answer.url == page(thread)
    part = thread.parts.get()
    assert (part.part_type, part.teammate, part.body) == ("comment", boss, "<p>Here it is</p>")
    assert part.attachments[0]["name"] == "shot.png"
    thread.refresh_from_db()
    assert (thread.waiting_since, thread.unseen, thread.read) == (None, False, False)
    assert LogEntry.objects.get().change_message == "Answered"


def test_answer_posted_twice_is_stored_once(console):
    thread, form = wrote(), {"body": "Once", **ticket()}

    console.post(act("reply", thread), form)
    console.post(act("reply", thread), form)

    assert thread.parts.count() == AnswerMail.objects.count() == 1


def test_send_and_close_sends_and_closes(console):
    thread = wrote()

    console.post(act("reply", thread), {"body": "Done", "then": "close", **ticket()})

    thread.refresh_from_db()
    assert thread.state == "closed"
    assert [part.part_type for part in thread.parts.order_by("pk")] == ["comment", "close"]


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"body": "<div><br></div>"}, "Write a message first."),
        ({"body": "x" * 100_001}, "at most 100000 characters"),
        ({"body": "Hi", "ticket": "mine"}, "Reload the page and try again."),
        ({"body": "Kept text", "images": "no image"}, "Images must be PNG"),
    ],
)
def test_invalid_answer_shows_an_error_and_keeps_its_text(console, form, says):
    thread = wrote()
    if "images" in form:
        form["images"] = SimpleUploadedFile("a.png", b"<svg onload=x()>", content_type="image/png")

    answer = console.post(act("reply", thread), {**ticket(), **form})

    assert answer.status_code == 422
    assert says in answer.content.decode()
    assert not thread.parts.exists()
    if form["body"] == "Kept text":
        assert 'value="Kept text"' in answer.content.decode()


def test_more_than_five_images_are_refused(console):
    thread = wrote()
    images = [io.BytesIO(PNG) for _ in range(6)]
    for number, image in enumerate(images):
        image.name = f"{number}.png"

    answer = console.post(act("reply", thread), {"body": "", "images": images, **ticket()})

    assert "A message can have at most 5 images" in answer.content.decode()


@pytest.mark.parametrize(
    ("verb", "form", "state", "does"),
    [
        ("close", {}, "closed", False),
        ("snooze", {"until": "tomorrow"}, "snoozed", False),
        ("reply", {"body": "Here it is.", "then": "close"}, "closed", True),
    ],
)
def test_new_message_prevents_closing_and_snoozing(console, verb, form, state, does):
    thread = wrote()
    shown = console.get(page(thread)).context["upto"]
    newest = conversation_threads.reply_by_customer(thread, body="No, wait", at=timezone.now())

    answer = console.post(act(verb, thread), {**ticket(), **form, "upto": shown}, follow=True)

    thread.refresh_from_db()
    assert thread.state == "open"
    assert "the customer wrote again in the meantime" in answer.content.decode().lower()
    assert thread.parts.exclude(teammate=None).exists() is does
    console.post(act(verb, thread), {**ticket(), **form, "upto": newest.pk + 1})
    thread.refresh_from_db()
    assert thread.state == state


def test_note_is_not_visible_to_the_customer(console):
    thread = wrote()

    console.post(act("note", thread), {"body": "Careful", **ticket()})

    assert thread.parts.get().part_type == "note"
    assert not AnswerMail.objects.exists()


def test_assignment_is_changed_removed_and_logged_once(console, boss):
    sam = User.objects.create_user("sam", first_name="Sam", last_name="Quinn", is_staff=True)
    thread = wrote()

    for to in (sam.pk, sam.pk, ""):
        console.post(act("assign", thread), {"to": to})

    assert [part.assigned_to for part in thread.parts.order_by("pk")] == [sam, None]
    assert [entry.change_message for entry in LogEntry.objects.order_by("pk")] == [
        "Assigned to Sam Quinn",
        "Assigned to Nobody",
    ]


@pytest.mark.parametrize("to", ["0", "x", "9" * 30])
def test_only_active_teammates_can_be_assigned(console, to):
    thread = wrote()
    customer_login = User.objects.create_user("integration", is_staff=False)

    for named in (to, customer_login.pk):
        answer = console.post(act("assign", thread), {"to": named}, follow=True)
        assert "This teammate is no longer active" in answer.content.decode()
    assert not thread.parts.exists()


def test_closing_and_reopening_are_idempotent(console):
    thread = wrote()

    for verb in ("close", "close", "reopen", "reopen"):
        console.post(act(verb, thread))

    assert [part.part_type for part in thread.parts.order_by("pk")] == ["close", "open"]


@pytest.mark.parametrize(
    ("form", "local"),
    [
        ({"until": "later"}, "2026-05-04 13:00"),
        ({"until": "tomorrow"}, "2026-05-05 09:00"),
        ({"until": "week"}, "2026-05-11 09:00"),
        ({"until": "date", "date": "2026-07-01"}, "2026-07-01 09:00"),
    ],
)
def test_snooze_uses_the_time_zone_of_the_workspace(console, at, form, local):
    Workspace.current()
    Workspace.objects.update(zone="Europe/Dublin")
    thread = wrote(at=at)

    with time_machine.travel(at - timedelta(minutes=20), tick=False):  # 10:40 in Dublin
        console.force_login(User.objects.get(username="boss"))
        console.post(act("snooze", thread), form)

    thread.refresh_from_db()
    until = thread.snoozed_until.astimezone(Workspace.current().tz)
    assert (thread.state, f"{until:%Y-%m-%d %H:%M}") == ("snoozed", local)


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({}, "Choose how long to snooze the conversation."),
        ({"until": "date"}, "Choose how long to snooze the conversation."),
        ({"until": "date", "date": "2020-01-01"}, "Choose a date in the future, within 10 years."),
        ({"until": "date", "date": "9999-12-31"}, "Choose a date in the future, within 10 years."),
    ],
)
def test_missing_past_or_distant_snooze_date_is_refused(console, form, says):
    thread = wrote()

    answer = console.post(act("snooze", thread), form, follow=True)

    assert says in answer.content.decode()
    thread.refresh_from_db()
    assert thread.state == "open"


def test_later_today_is_not_offered_late_at_night(at):
    late = at.replace(hour=22)

    assert [offer["name"] for offer in inbox_thread.snooze_options(at=late, zone=Workspace.current().tz)] == [
        "tomorrow",
        "week",
    ]


@pytest.mark.parametrize("verb", admin.ACTIONS)
def test_viewer_cannot_act(client, verb):
    viewer = User.objects.create_user("viewer", is_staff=True)
    roles.give_role(viewer, Role.VIEWER)
    client.force_login(viewer)
    thread = wrote()

    answer = client.post(act(verb, thread), {"body": "Hi", "until": "tomorrow", **ticket()})

    assert answer.status_code == 403
    assert not thread.parts.exists()
    text = client.get(page(thread)).content.decode()
    assert "Where is my invoice?" in text
    assert "/act/" not in text
    assert "data-seen" not in text


def test_unknown_actions_and_get_requests_are_refused(console):
    thread = wrote()

    assert console.post(act("explode", thread)).status_code == 404
    assert console.get(act("close", thread)).status_code == 303
    assert Conversation.objects.get().state == "open"
    assert console.post(act("close", thread).replace(f"/{thread.pk}/", "/999999/")).status_code == 404


# Updates of an open page


def test_update_is_sent_once_then_not_modified(console):
    thread = wrote()
    first = console.get(page(thread))
    asked = {"of": thread.pk}

    assert console.get(NEWS, asked, headers={"If-None-Match": first.context["tag"]}).status_code == 304
    conversation_threads.reply_by_customer(thread, body="Hello again?", at=timezone.now())
    news = console.get(NEWS, asked, headers={"If-None-Match": first.context["tag"]})
    assert news.status_code == 200
    assert news.content.decode().count("Hello again?") == 2
    assert console.get(NEWS, asked, headers={"If-None-Match": news.headers["ETag"]}).status_code == 304


def test_unmodified_update_takes_few_queries(console, django_assert_max_num_queries):
    wrote()
    tag = console.get(INBOX).context["tag"]

    # The user, the workspace, and two short queries on the inbox.
    with django_assert_max_num_queries(6):
        assert console.get(NEWS, headers={"If-None-Match": tag}).status_code == 304


def test_update_of_another_conversation_changes_the_list(console):
    here, there = wrote("Here"), wrote("There")
    tag = console.get(page(here)).context["tag"]

    conversation_threads.reply_by_customer(there, body="And me?", at=timezone.now())

    news = console.get(NEWS, {"of": here.pk}, headers={"If-None-Match": tag})
    assert news.status_code == 200
    assert "And me?" in news.content.decode()


def test_update_requires_view_permission(log_in_with):
    client = log_in_with("messaging.view_message")

    assert client.get(NEWS).status_code == client.get(INBOX).status_code == 403


def test_erasure_removes_the_customer_from_the_log(console):
    thread = wrote("Ann Lee")
    console.post(act("reply", thread), {"body": "Hi Ann", **ticket()})
    assert "Ann Lee" in LogEntry.objects.get().object_repr

    erase.erase(thread.customer, at=timezone.now())

    assert "Ann" not in LogEntry.objects.get().object_repr
    assert ConversationPart.objects.get().body == ""
    assert AnswerMail.objects.get().status == "skipped"


def test_every_part_type_and_email_status_has_a_text():
    assert set(inbox_thread.EMAIL_STATUS_TEXTS) == set(Status)
    assert set(inbox_thread.ACTION_TEXTS) | {PartType.COMMENT, PartType.NOTE} == set(PartType)
