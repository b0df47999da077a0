"""The messenger's endpoints: sessions, conversations and marks of messages."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import time_machine
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.test import APIClient

from audiences import identity_verification
from audiences.intake import messenger_settings as browser_settings
from audiences.models import Customer, Event, Workspace
from audiences.models.customers import Role
from delivery.api.messenger import access
from delivery.api.messenger import conversations as messenger_conversations
from delivery.conversations import threads
from delivery.matching import direct
from delivery.messenger import script, sessions
from delivery.models import Conversation, DeliveryRecord, Visitor
from tests.factories import CustomerFactory, MessageFactory, SenderFactory, rule
from tests.support.examples import examples

pytestmark = pytest.mark.django_db

SITE = "https://shop.example"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40


@pytest.fixture(autouse=True)
def files(settings, tmp_path) -> None:
    settings.MEDIA_ROOT = tmp_path


@pytest.fixture
def ada(django_user_model):
    return django_user_model.objects.create(username="ada", first_name="Ada", last_name="Byron", is_staff=True)


class Browser(APIClient):
    """A browser on a registered website, with the visitor's cookie and the token of its last ping."""

    visitor = None
    token = ""

    def ping(self, **who: object):
        if "user_id" in who or "email" in who:
            named = str(who.get("user_id") or who["email"])
            who = {"user_hash": identity_verification.user_hash(Workspace.current().identity_secret, named), **who}
        answered = self.post("/messenger/ping", {"user": who, "visitor": self.visitor}, format="json")
        if answered.status_code == 200:
            self.visitor, self.token = answered.json()["visitor"], answered.json()["token"]
            self.credentials(HTTP_AUTHORIZATION=f"Bearer {self.token}")
        return answered

    def ask(self, path: str, **headers: object):
        return self.get(f"/messenger/{path}", headers=headers)

    def say(self, path: str, **sent: object):
        return self.post(f"/messenger/{path}", sent, format="json")

    def list(self) -> list[dict]:
        return self.ask("conversations").json()["conversations"]


@pytest.fixture
def ann() -> Browser:
    """The browser of Ann, after a chat was shown to her."""
    MessageFactory(in_app=True, body="<p>Hi {{ first_name }}</p>", live=True)
    browser = Browser()
    browser.ping(user_id="ann", name="Ann Lee")
    return browser


def refusal(answered) -> str:
    assert answered.json()["type"] == "error.list"
    return answered.json()["errors"][0]["message"]


# Identity of a browser


def test_visitor_gets_a_key_and_nothing_is_stored():
    browser = Browser()

    answered = browser.ping(page="/pricing").json()

    assert (answered["user"], answered["messages"]) == (None, [])
    assert sessions.read_visitor(answered["visitor"]) is not None
    assert not Customer.objects.exists()
    assert browser.list() == []


def test_visitor_keeps_their_key():
    browser = Browser()
    first = browser.ping().json()["visitor"]

    assert browser.ping().json()["visitor"] == first


def test_visitor_who_writes_becomes_a_lead_and_finds_the_conversation_again():
    browser = Browser()
    browser.ping()

    written = browser.say("conversations", body="Do you ship to <b>Norway</b>?").json()

    lead = Customer.objects.get()
    assert (lead.role, lead.user_id, lead.email) == (Role.LEAD, None, None)
    assert lead.last_heard_from_at is not None
    assert written["parts"][0]["body"] == "<p>Do you ship to &lt;b&gt;Norway&lt;/b&gt;?</p>"
    assert [entry["id"] for entry in browser.list()] == [written["id"]]
    assert browser.ping().json()["user"] == {"type": "lead", "id": str(lead.pk)}


@pytest.mark.django_db(transaction=True)
def test_concurrent_first_messages_of_two_tabs_make_one_lead():
    browser = Browser()
    browser.ping()

    def write(number: int) -> int:
        try:
            tab = APIClient()
            tab.credentials(HTTP_AUTHORIZATION=f"Bearer {browser.token}")
            return tab.post("/messenger/conversations", {"body": f"Hello {number}"}, format="json").status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(write, range(4))) == [200] * 4

    assert Customer.objects.count() == 1
    assert Conversation.objects.count() == 4


def test_lead_gets_messages_for_leads():
    MessageFactory(in_app=True, rules=[rule("role", "is", "lead")], live=True)
    MessageFactory(in_app=True, live=True)
    browser = Browser()
    browser.ping()
    browser.say("conversations", body="Hello")

    assert len(browser.ping().json()["messages"]) == 1


def test_lead_who_logs_in_becomes_the_user_with_the_thread():
    browser = Browser()
    browser.ping()
    browser.say("conversations", body="Hello")
    before = browser.visitor

    answered = browser.ping(user_id="ann", name="Ann").json()

    assert answered["visitor"] is None
    ann = Customer.objects.get()
    assert (ann.user_id, ann.role, ann.name) == ("ann", Role.USER, "Ann")
    assert len(browser.list()) == 1
    # After a log-out the browser is of a visitor again, and the old key is not accepted.
    browser.visitor = before
    assert browser.ping().json()["user"] is None
    assert browser.list() == []


def test_lead_who_logs_in_is_merged_into_the_existing_user():
    user = CustomerFactory(user_id="ann")
    browser = Browser()
    browser.ping()
    browser.say("conversations", body="Hello")
    lead = Customer.objects.get(role=Role.LEAD)

    assert browser.ping(user_id="ann").json()["user"]["id"] == str(user.pk)

    assert Conversation.objects.get().customer == user
    lead.refresh_from_db()
    assert lead.archived_at is not None
    assert not Visitor.objects.exists()


def test_wrong_hash_merges_nothing_and_reveals_nothing():
    CustomerFactory(user_id="ann")
    browser = Browser()
    browser.ping()
    browser.say("conversations", body="Hello")

    assert browser.ping(user_id="ann", user_hash="0" * 64).status_code == 403
    assert Conversation.objects.get().customer.role == Role.LEAD


@pytest.mark.parametrize("token", ["", "x", "1:2:3", "é", "Bearer", "a" * 5000])
def test_invalid_token_is_refused(token, ann):
    ann.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")

    for path in ("conversations", "conversations/1"):
        assert ann.ask(path).status_code == 401
    assert ann.say("events", event_name="ordered").status_code == 401
    assert refusal(ann.say("conversations", body="Hi")) == "The session has expired. Send a ping to begin a new one."


def test_session_expires_and_ends_with_the_identity_secret(ann, at):
    with time_machine.travel(at, tick=False):
        ann.ping(user_id="ann")
        assert ann.ask("conversations").status_code == 200
    with time_machine.travel(at + sessions.SESSION_LIFETIME + timedelta(seconds=2), tick=False):
        assert ann.ask("conversations").status_code == 401
        ann.ping(user_id="ann")
        assert ann.ask("conversations").status_code == 200
        Workspace.objects.update(identity_secret="another")
        assert ann.ask("conversations").status_code == 401


def test_archived_customer_has_no_session(ann):
    Customer.objects.update(archived_at="2026-05-04T10:00:00Z")

    assert ann.ask("conversations").status_code == 401


# Websites


def test_only_registered_websites_may_use_the_messenger(ann):
    Workspace.objects.update(allowed_origins=[f"{SITE}/"])

    asked = ann.ask("conversations", origin=SITE)
    refused = ann.ask("conversations", origin="https://evil.example")

    assert asked.status_code == 200
    assert asked["access-control-allow-origin"] == SITE
    assert asked["access-control-expose-headers"] == "ETag"
    assert "access-control-allow-credentials" not in asked
    assert refused.status_code == 403
    assert "access-control-allow-origin" not in refused


@pytest.mark.parametrize("origin", ["null", "https://shop.example.evil.example", "http://shop.example", "//", "é"])
def test_similar_origin_is_refused(ann, origin):
    Workspace.objects.update(allowed_origins=[SITE])

    assert ann.ask("conversations", origin=origin).status_code == 403


def test_preflight_is_answered_for_registered_websites_only():
    Workspace.current()
    Workspace.objects.update(allowed_origins=[SITE])
    asking = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}

    registered = Client().options("/messenger/conversations", headers={"origin": SITE, **asking})
    other = Client().options("/messenger/conversations", headers={"origin": "https://evil.example", **asking})

    assert registered["access-control-allow-origin"] == SITE
    assert "authorization" in registered["access-control-allow-headers"]
    assert "access-control-allow-origin" not in other


def test_cors_allows_own_pages_and_no_website_for_the_api(ann):
    assert ann.ask("conversations", origin="http://testserver").status_code == 200
    Workspace.objects.update(allowed_origins=[SITE])
    assert "access-control-allow-origin" not in Client().get("/api/users", headers={"origin": SITE})


def test_rate_limit_applies_to_one_visitor(settings, ann, at):
    settings.MESSENGER_RATE_LIMIT = 60
    other = Browser()
    with time_machine.travel(at, tick=False):
        other.ping()
        ann.ping(user_id="ann")
        answers = [ann.ask("conversations").status_code for _ in range(11)]
        assert answers == [200] * 10 + [429]
        assert int(ann.ask("conversations")["Retry-After"]) <= 10
        assert other.ask("conversations").status_code == 200
    with time_machine.travel(at + timedelta(seconds=10), tick=False):
        assert ann.ask("conversations").status_code == 200


def test_rate_limit_applies_to_an_ip_address_with_any_token(settings):
    settings.MESSENGER_RATE_LIMIT = 6
    answers = []
    for number in range(25):
        made_up = Client().get("/messenger/conversations", headers={"authorization": f"Bearer {number}"})
        answers.append(made_up.status_code)

    assert 429 in answers


# Conversations


def test_list_has_the_message_that_was_shown_and_counts_it_unread(ann):
    answered = ann.ask("conversations").json()

    (entry,) = answered["conversations"]
    assert (entry["from"]["name"], entry["preview"], entry["format"], entry["read"]) == ("Ada", "Hi Ann", "chat", False)
    assert entry["message"] == str(DeliveryRecord.objects.get().pk)
    assert answered["unread_count"] == 1


def test_title_of_an_announcement_reaches_the_customer_filled_in():
    announcement = {"channel": "in_app", "format": "announcement"}
    MessageFactory(**announcement, subject='<b>New</b> for {{ first_name | default: "you" }}', live=True)
    browser = Browser()

    (shown,) = browser.ping(user_id="ann", name="Ann Lee").json()["messages"]
    (entry,) = browser.list()
    thread = browser.ask(f"conversations/{entry['id']}").json()

    # As plain text, which the messenger escapes.
    titles = [shown["subject"], entry["subject"], thread["subject"], thread["parts"][0]["subject"]]
    assert titles == ["<b>New</b> for Ann"] * 4


def test_chat_has_no_title(ann):
    assert DeliveryRecord.objects.get().version.subject
    (shown,) = ann.ping(user_id="ann").json()["messages"]
    (entry,) = ann.list()

    assert (shown["subject"], entry["subject"]) == ("", "")


def test_conversation_opened_by_a_customer_has_no_title(ann):
    ann.say("conversations", body="Hello")

    assert [entry["subject"] for entry in ann.list()] == ["", ""]


def test_list_is_as_long_as_requested(ann, monkeypatch):
    monkeypatch.setattr(messenger_conversations, "DEFAULT_LIMIT", 2)
    for number in range(4):
        ann.say("conversations", body=f"No. {number}")

    first, all_of_them = ann.ask("conversations").json(), ann.ask("conversations?most=6").json()

    assert [entry["preview"] for entry in first["conversations"]] == ["No. 3", "No. 2"]
    assert first["older"] == 3
    assert len(all_of_them["conversations"]) == 5
    assert (all_of_them["older"], all_of_them["conversations"][:2]) == (0, first["conversations"])
    for nonsense in ("", "-1", "x", "9" * 40):
        assert len(ann.ask(f"conversations?most={nonsense}").json()["conversations"]) == 2


def test_list_is_answered_with_304_until_something_changes(ann, ada, at):
    tag = ann.ask("conversations")["ETag"]

    assert ann.ask("conversations", if_none_match=tag).status_code == 304
    threads.reply_by_teammate(Conversation.objects.get(), teammate=ada, body="Hello", at=at)
    answered = ann.ask("conversations", if_none_match=tag)
    assert answered.status_code == 200
    assert answered.json()["conversations"][0]["preview"] == "Hello"
    tag = answered["ETag"]
    ann.say(f"conversations/{answered.json()['conversations'][0]['id']}/read")
    assert ann.ask("conversations", if_none_match=tag).json()["unread_count"] == 0


def test_poll_is_not_a_visit(ann):
    before = Customer.objects.get().last_seen_at
    MessageFactory(in_app=True, live=True)

    ann.list()

    assert Customer.objects.get().last_seen_at == before
    assert DeliveryRecord.objects.count() == 1


def test_poll_reports_a_message_that_waits_for_a_visit(ann, at):
    assert ann.ask("conversations").json()["expected"] is False
    direct.send_to_one(
        Customer.objects.get(), channel="in_app", format="chat", sender=SenderFactory(), subject="", body="<p>You</p>",
        by=None, at=at,
    )  # fmt: skip

    assert ann.ask("conversations").json()["expected"] is True
    ann.ping(user_id="ann")
    answered = ann.ask("conversations").json()
    assert (answered["expected"], len(answered["conversations"])) == (False, 2)


def test_reply_reaches_the_conversation_and_the_record(ann):
    (entry,) = ann.list()

    thread = ann.say(f"conversations/{entry['id']}/reply", body="Yes please").json()

    assert [part["by_customer"] for part in thread["parts"]] == [False, True]
    record = DeliveryRecord.objects.get()
    assert None not in (record.replied_at, record.opened_at)
    assert Customer.objects.get().last_heard_from_at is not None
    assert Conversation.objects.in_inbox().get().waiting_since is not None


def test_customer_sees_answers_but_no_notes(ann, ada, at):
    conversation = Conversation.objects.get()
    threads.reply_by_teammate(conversation, teammate=ada, body="<p>Sure<script>x</script></p>", at=at)
    threads.add_note(conversation, teammate=ada, body="Careful with this one", at=at)

    answered = ann.ask(f"conversations/{conversation.pk}")

    assert "Careful" not in answered.content.decode()
    assert [(part["from"]["name"], part["body"]) for part in answered.json()["parts"]] == [
        ("Ada", "<p>Hi Ann</p>"),
        ("Ada Byron", "<p>Sure</p>"),
    ]
    assert ann.list()[0]["preview"] == "Sure"


def test_conversation_of_another_customer_is_not_found(ann):
    pk = Conversation.objects.get().pk
    record = DeliveryRecord.objects.get().pk
    bob = Browser()
    bob.ping(user_id="bob")
    DeliveryRecord.objects.exclude(pk=record).update(opened_at=None)

    assert bob.ask(f"conversations/{pk}").status_code == 404
    assert bob.say(f"conversations/{pk}/reply", body="Hi").status_code == 404
    assert bob.say(f"conversations/{pk}/read").status_code == 404
    assert bob.say(f"messages/{record}/opened").status_code == 404
    assert DeliveryRecord.objects.get(pk=record).opened_at is None


def test_reading_a_chat_opens_its_message_once(ann):
    (entry,) = ann.list()
    ann.say(f"conversations/{entry['id']}/read")
    opened_at = DeliveryRecord.objects.get().opened_at

    ann.say(f"conversations/{entry['id']}/read")

    assert opened_at is not None
    assert DeliveryRecord.objects.get().opened_at == opened_at
    assert ann.ping(user_id="ann").json()["messages"] == []


@pytest.mark.django_db(transaction=True)
def test_concurrent_reads_and_replies_succeed(ann):
    (entry,) = ann.list()

    def ask(number: int) -> int:
        tab = APIClient()
        tab.credentials(HTTP_AUTHORIZATION=f"Bearer {ann.token}")
        try:
            path = (f"conversations/{entry['id']}/reply", f"messages/{entry['message']}/opened")[number % 2]
            return tab.post(f"/messenger/{path}", {"body": "Hi"}, format="json").status_code
        finally:
            connection.close()

    for _ in range(3):
        DeliveryRecord.objects.update(opened_at=None, replied_at=None)
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(ask, range(4))) == [200] * 4


@pytest.mark.parametrize(
    ("mark", "noted", "unread"),
    [("opened", {"opened_at"}, 0), ("dismissed", {"dismissed_at"}, 1), ("clicked", {"clicked_at", "opened_at"}, 0)],
)
def test_marks_of_a_message_are_recorded_once(ann, mark, noted, unread):
    record = DeliveryRecord.objects.get()
    assert ann.say(f"messages/{record.pk}/{mark}").status_code == 200
    first = DeliveryRecord.objects.values().get()
    ann.say(f"messages/{record.pk}/{mark}")

    assert DeliveryRecord.objects.values().get() == first
    assert {name for name in ("opened_at", "dismissed_at", "clicked_at") if first[name]} == noted
    assert ann.ask("conversations").json()["unread_count"] == unread


def test_event_is_recorded_now_for_customers_but_not_for_visitors():
    browser = Browser()
    browser.ping()
    assert browser.say("events", event_name="ordered").json()["recorded"] is False
    browser.ping(user_id="ann")

    assert browser.say("events", event_name="Ordered", metadata={"total": 5}, created_at=5).json()["recorded"] is True

    event = Event.objects.get()
    assert (event.name, event.metadata, event.customer.user_id) == ("ordered", {"total": 5}, "ann")
    assert event.happened_at.year >= 2025


# Images


def image(content: bytes = PNG, name: str = "photo.png") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content, content_type="image/png")


def test_image_of_a_reply_is_stored_and_served(ann, client, settings):
    (entry,) = ann.list()
    sent = {"body": "Like this", "images": [image(name="../../etc/Photo été.png")]}

    thread = ann.post(f"/messenger/conversations/{entry['id']}/reply", sent, format="multipart").json()

    (attachment,) = thread["parts"][1]["attachments"]
    assert (attachment["name"], attachment["content_type"]) == ("Photo été.png", "image/png")
    shown = client.get(attachment["url"].removeprefix(settings.PUBLIC_URL))
    assert b"".join(shown.streaming_content) == PNG
    assert (shown["Content-Type"], shown["X-Content-Type-Options"]) == ("image/png", "nosniff")
    assert "sandbox" in shown["Content-Security-Policy"]


def test_image_alone_is_a_message(ann):
    (entry,) = ann.list()

    sent = {"images": [image(), image()]}
    thread = ann.post(f"/messenger/conversations/{entry['id']}/reply", sent, format="multipart").json()

    assert len(thread["parts"][1]["attachments"]) == 2
    assert ann.list()[0]["preview"] == "Image"


@pytest.mark.parametrize(
    ("images", "word"),
    [
        ([image(b"<svg onload=alert(1)>", "x.svg")], "PNG"),
        ([image(b"<html>", "x.png")], "PNG"),
        ([image(b"", "x.png")], "between 1 byte and 5 MB"),
        ([image(PNG + b"\0" * 5 * 2**20)], "5 MB"),
        ([image() for _ in range(6)], "at most 5 images"),
        ([image(), image(b"MZ")], "PNG"),
    ],
)
def test_invalid_image_is_refused_and_not_stored(ann, images, word, tmp_path):
    (entry,) = ann.list()

    for upload in images:
        upload.seek(0)
    answered = ann.post(f"/messenger/conversations/{entry['id']}/reply", {"images": images}, format="multipart")

    assert answered.status_code == 400
    assert word in refusal(answered)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["..%2f..%2fsettings.py", "x.png", "0" * 32 + ".svg", "0" * 32 + ".png"])
def test_missing_image_is_not_found(client, name):
    assert client.get(f"/messenger/images/{name}").status_code == 404


# Bad input


PATHS = [
    "ping", "conversations", "conversations/1/reply", "conversations/1/read", "conversations/0x/reply", "events",
    "messages/1/opened", "messages/x/clicked", "messages/99999999999999999999/dismissed",
]  # fmt: skip
KEYS = ["user", "visitor", "user_id", "email", "user_hash", "body", "images", "event_name", "metadata", "company", "id"]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner),
    max_leaves=8,
)


@examples(60)
@given(path=st.sampled_from(PATHS), sent=st.dictionaries(st.sampled_from(KEYS), values, max_size=5))
def test_no_request_body_causes_a_server_error(ann, path, sent):
    Workspace.objects.update(require_user_hash=False)

    answered = ann.post(f"/messenger/{path}", json.dumps(sent), content_type="application/json")

    assert answered.status_code < 500
    if answered.status_code >= 400:
        assert refusal(answered)


@pytest.mark.parametrize(
    ("content_type", "sent"),
    [
        ("application/json", b"[1]"), ("application/json", b"{"), ("application/json", b"\xff"), ("text/plain", b"hi"),
        ("multipart/form-data", b"x"), ("multipart/form-data; boundary=x", b"--x\r\n\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=body\r\n\r\n\0\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b"".join(
            b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\na\r\n' for _ in range(200)
        ) + b"--x--\r\n"),
    ],
)  # fmt: skip
def test_body_of_another_content_type_gets_the_error_list(ann, content_type, sent):
    answered = ann.post("/messenger/conversations", sent, content_type=content_type)

    assert 400 <= answered.status_code < 500
    assert refusal(answered)


def test_too_large_form_is_refused_unread(ann):
    answered = ann.post("/messenger/conversations", b"x", content_type="multipart/form-data; boundary=x",
                        CONTENT_LENGTH="99999999")  # fmt: skip

    assert answered.status_code == 413


@pytest.mark.parametrize("sent", [{"companies": "acme"}, {"companies": {"id": "6"}}, {"company": "acme"}])
def test_invalid_companies_are_reported_and_the_visit_succeeds(ann, sent):
    answered = ann.ping(user_id="ann", name="Ann Byron", **sent).json()

    assert [wrong["field"] for wrong in answered["errors"]] == ["companies"]
    assert Customer.objects.get().name == "Ann Byron"


# The script


def test_script_is_under_20_kb_gzipped_and_revalidated_by_its_etag(client):
    first = client.get("/messenger/messenger.js", headers={"accept-encoding": "gzip"})

    assert (first["Content-Encoding"], first["Content-Type"]) == ("gzip", "text/javascript; charset=utf-8")
    assert len(first.content) < 20_000
    assert "max-age" in first["Cache-Control"]
    assert client.get("/messenger/messenger.js", headers={"if-none-match": first["ETag"]}).status_code == 304
    plain = client.get("/messenger/messenger.js")
    assert "Content-Encoding" not in plain
    for forbidden in (b"eval(", b"innerHTML", b"Function("):
        assert forbidden not in plain.content


def test_every_setting_and_command_is_documented():
    written = (Path(script.__file__).parents[2] / "docs" / "messenger.md").read_text()
    commands = re.findall(
        r"^    (\w+)[(:]", script.read_asset("commands.js").partition("const COMMANDS = {")[2], re.MULTILINE
    )
    # Not settings of a page, or documented under another name.
    others = {"id", "role", "custom_attributes", "user", "visitor", "signed_up_at", "remote_created_at", "new_session"}
    said = {
        name
        for name in browser_settings.FIELDS | browser_settings.NOT_ATTRIBUTES
        if not name.startswith(("last_", "update_last_"))
    }

    assert {"boot", "getVisitorId", "onHide"} <= {*commands}
    assert sorted(name for name in {*commands} | said - others if name not in written) == []


def test_snippet_names_the_script_and_boots():
    snippet = script.snippet(address="https://outbound.example/")

    assert '<script async src="https://outbound.example/messenger/messenger.js"></script>' in snippet
    assert 'Outbound("boot", {' in snippet


def key() -> str:
    return uuid4().hex


def test_message_sent_twice_with_one_key_is_stored_once(ann):
    (thread,) = ann.list()
    same = key()

    first = ann.say(f"conversations/{thread['id']}/reply", body="Yes please", key=same).json()
    again = ann.say(f"conversations/{thread['id']}/reply", body="Yes please", key=same).json()

    assert [part["id"] for part in again["parts"]] == [part["id"] for part in first["parts"]]
    assert len(again["parts"]) == 2
    ann.say(f"conversations/{thread['id']}/reply", body="Yes please", key=key())
    assert Conversation.objects.get().parts.count() == 2


def test_key_is_valid_for_one_conversation(ann):
    (thread,) = ann.list()
    same = key()
    other = ann.say("conversations", body="A question", key=same).json()

    ann.say(f"conversations/{thread['id']}/reply", body="One", key=same)
    ann.say(f"conversations/{other['id']}/reply", body="Two", key=same)

    assert [conversation.parts.count() for conversation in Conversation.objects.all()] == [1, 1]


def test_conversation_opened_twice_with_one_key_is_one(db):
    browser = Browser()
    browser.ping()
    same = key()

    first = browser.say("conversations", body="Hello", key=same).json()
    again = browser.say("conversations", body="Hello", key=same).json()

    assert again["id"] == first["id"]
    assert Customer.objects.count() == Conversation.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_concurrent_replies_with_one_key_are_stored_once(ann):
    (thread,) = ann.list()
    same = key()

    def say(_: int) -> int:
        browser = Browser()
        browser.credentials(HTTP_AUTHORIZATION=f"Bearer {ann.token}")
        answered = browser.say(f"conversations/{thread['id']}/reply", body="Yes", key=same)
        connection.close()
        return answered.status_code

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(say, range(6))) == {200}
    assert Conversation.objects.get().parts.count() == 1


def test_invalid_key_is_refused(ann):
    (thread,) = ann.list()

    answered = ann.say(f"conversations/{thread['id']}/reply", body="Yes", key="one")

    assert answered.status_code == 400
    assert answered.json()["errors"][0]["field"] == "key"


def test_lead_saves_an_email_address(db):
    browser = Browser()
    browser.ping()
    begun = browser.say("conversations", body="Hello").json()
    browser.ping()
    assert begun["asks_email"]

    assert browser.say("email", email=" Bea@X.example ").json() == {"type": "lead", "email": "bea@x.example"}

    assert Customer.objects.get().email == "bea@x.example"
    assert not browser.ask(f"conversations/{begun['id']}").json()["asks_email"]


@pytest.mark.parametrize("is_on", [False, True])
def test_ip_address_gives_a_limited_number_of_addresses_a_day_while_each_gets_an_email(is_on, db, at, monkeypatch):
    monkeypatch.setattr(access, "ADDRESSES_PER_DAY", 2)
    Workspace.current()
    Workspace.objects.update(double_opt_in=is_on)
    status = []
    for hours in (0, 1, 2, 24):
        with time_machine.travel(at.replace(hour=0) + timedelta(hours=hours), tick=False):
            browser = Browser()
            browser.ping()
            browser.say("conversations", body="Hello")
            browser.ping()
            status.append(browser.say("email", email=f"{hours}@x.example").status_code)

    assert status == [200, 200, 429 if is_on else 200, 200]


@pytest.mark.parametrize(("given", "status"), [("", 422), ("bea", 400)])
def test_invalid_email_address_is_refused(db, given, status):
    browser = Browser()
    browser.ping()
    browser.say("conversations", body="Hello")
    browser.ping()

    answered = browser.say("email", email=given)

    assert answered.status_code == status
    assert Customer.objects.get(role=Role.LEAD).email is None


def test_email_address_of_a_user_is_not_changed(ann):
    (thread,) = ann.list()
    assert not ann.say(f"conversations/{thread['id']}/reply", body="Yes").json()["asks_email"]

    ann.say("email", email="somebody@else.example")

    assert Customer.objects.get(user_id="ann").email is None


def test_visitor_who_has_not_written_cannot_save_an_address(db):
    browser = Browser()
    browser.ping()

    assert browser.say("email", email="bea@x.example").status_code == 401
    assert not Customer.objects.exists()
