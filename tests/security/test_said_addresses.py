"""Unverified addresses: a lead's address never connects the lead to another customer (hash, REST, bulk, import)."""

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from audiences import intake
from audiences.intake import Source, csv_import
from audiences.models import Customer, ImportState, Integration, Suppression, SuppressionReason, Tag
from audiences.models.customers import Role
from delivery import reply_addresses
from delivery.conversations import threads
from delivery.inbound import feedback, router
from delivery.inbound.feedback import Feedback, FeedbackType
from delivery.models import AnswerMail, Conversation, DeliveryRecord, Status
from delivery.monitoring import invariants
from delivery.reply_addresses import Referent, ReferentKind
from delivery.tracking import links
from tests.delivery.api.messenger.test_ping import Browser
from tests.factories import AT, CustomerFactory, MessageFactory
from tests.support.imports import run_import, stored_import
from tests.support.inbound_emails import parse_email

pytestmark = pytest.mark.django_db

ANN = "ann@x.example"


@pytest.fixture
def api() -> APIClient:
    _, token = Integration.issue(name="tests")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


@pytest.fixture
def ada(django_user_model) -> User:
    return django_user_model.objects.create(username="ada", email="ada@acme.example", is_staff=True)


@pytest.fixture(params=["the first visit to a process", "a later one"])
def _visits(request):
    """The full path of a visit, and the fast path."""
    for _ in range(2 if request.param == "a later one" else 0):
        Browser().ping(user_id="warm")


@pytest.fixture
def stranger() -> Browser:
    """A lead with Ann's address."""
    browser = Browser()
    browser.ping()
    browser.say("conversations", body="I am Ann, what is my password?")
    assert browser.say("email", email=ANN).status_code == 200
    return browser


@pytest.fixture
def lead(stranger) -> Customer:
    return Customer.objects.get(role=Role.LEAD)


def assert_apart(lead: Customer, browser: Browser | None = None) -> Customer:
    """Check that the lead is unchanged and that Ann is another customer without its conversation; return Ann."""
    lead.refresh_from_db()
    assert (lead.role, lead.user_id, lead.email, lead.email_is_said) == (Role.LEAD, None, ANN, True)
    assert (lead.name, lead.archived_at, lead.attributes) == ("", None, {})
    assert (lead.tags.count(), lead.events.count(), lead.records.count()) == (0, 0, 0)
    assert Conversation.objects.get(body__contains="password").customer == lead
    if browser is not None:
        assert [thread["preview"] for thread in browser.list()] == ["I am Ann, what is my password?"]
    ann = Customer.objects.exclude(pk=lead.pk).get(email=ANN)
    assert (ann.role, ann.email_is_said) == (Role.USER, False)
    assert not ann.conversations.exists()
    return ann


@pytest.mark.usefixtures("_visits")
def test_by_hash_of_the_address(stranger, lead):
    ann = Browser()

    ann.ping(email=ANN)

    assert ann.list() == []
    assert_apart(lead, stranger)


@pytest.mark.usefixtures("_visits")
def test_by_hash_of_a_user_id_beside_the_address(stranger, lead):
    ann = Browser()

    ann.ping(user_id="ann", email=ANN)

    assert ann.list() == []
    assert Conversation.objects.get().customer == lead
    assert stranger.list() != []


@pytest.mark.usefixtures("_visits")
def test_by_hash_in_a_browser_where_ann_wrote_before_she_logged_in(stranger, lead):
    browser = Browser()
    browser.ping()
    browser.say("conversations", body="Hello")
    browser.say("email", email=ANN)

    browser.ping(email=ANN)

    assert [thread["preview"] for thread in browser.list()] == ["Hello"]
    assert [thread["preview"] for thread in stranger.list()] == ["I am Ann, what is my password?"]
    known = Customer.objects.get(email=ANN, email_is_said=False)
    assert known.role == Role.USER
    lead.refresh_from_db()
    assert lead.role == Role.LEAD


@pytest.mark.parametrize("named", [{}, {"user_id": "ann"}])
def test_by_rest(api, stranger, lead, named):
    answered = api.post("/api/users", {**named, "email": ANN, "name": "Ann"}, format="json")

    assert answered.status_code == 200
    ann = assert_apart(lead, stranger)
    assert (answered.json()["id"], ann.name) == (str(ann.pk), "Ann")
    assert api.get("/api/users", {"email": ANN}).json()["id"] == str(ann.pk)


def test_by_rest_as_a_contact(api, stranger, lead):
    answered = api.post("/api/contacts", {"email": ANN, "name": "Ann"}, format="json")

    lead.refresh_from_db()
    assert (lead.name, lead.email_is_said) == ("", True)
    assert answered.json()["id"] != str(lead.pk)
    assert api.post("/api/contacts", {"email": ANN}, format="json").json()["id"] == answered.json()["id"]


def test_by_bulk_job(api, stranger, lead):
    item = {"method": "post", "data_type": "user", "data": {"email": ANN, "name": "Ann"}}

    assert api.post("/api/bulk/users", {"items": [item]}, format="json").status_code in (200, 202)
    intake.process_jobs(clock=timezone.now, go_on=lambda: True)

    assert assert_apart(lead, stranger).name == "Ann"


def load(text: str, *, made: int = 1) -> None:
    """Check and import a file with one row."""
    at = timezone.now()
    by = User.objects.create_user("importer")
    job = stored_import(text, at=at, by=by)
    for state in (ImportState.CHECKING, ImportState.WRITING):
        csv_import.start_import(job, state, targets=job.targets, tag=None, at=at)
        run_import(job, at=at)
        assert (job.made, job.changed, job.wrong) == (made, 1 - made, 0)


@pytest.mark.parametrize(
    "text",
    [
        f"email,name\n{ANN},Ann\n",
        f"user_id,email,name\nann,{ANN},Ann\n",
        f"email,name,tags,company\n{ANN},Ann,vip,Acme\n",
    ],
)
def test_by_import(stranger, lead, text):
    load(text)

    ann = assert_apart(lead, stranger)
    assert ann.name == "Ann"
    assert lead.companies.count() == 0
    assert (ann.tags.count(), ann.companies.count()) == ((1, 1) if "tags" in text else (0, 0))


NAMED_BY_ADDRESS = {
    "a user": lambda api, ada: api.get("/api/users", {"email": ANN}),
    "archiving": lambda api, ada: api.delete(f"/api/users?email={ANN}"),
    "events": lambda api, ada: api.post(
        "/api/events", {"event_name": "paid", "email": ANN, "created_at": 1}, format="json"
    ),
    "reading events": lambda api, ada: api.get("/api/events", {"type": "user", "email": ANN}),
    "tags": lambda api, ada: api.post("/api/tags", {"name": "vip", "users": [{"email": ANN}]}, format="json"),
    "notes": lambda api, ada: api.post("/api/notes", {"user": {"email": ANN}, "body": "Owes 5"}, format="json"),
    "devices": lambda api, ada: api.post(
        "/api/devices", {"email": ANN, "token": "t", "platform": "ios"}, format="json"
    ),
    "conversations": lambda api, ada: api.get("/api/conversations", {"type": "user", "email": ANN}),
    "a message to a user": lambda api, ada: written_to(api, ada, "user"),
    "a message to a contact": lambda api, ada: written_to(api, ada, "contact"),
    "a message from a user": lambda api, ada: api.post(
        "/api/messages", {"from": {"type": "user", "email": ANN}, "body": "Hi"}, format="json"
    ),
    "a reply of a user": lambda api, ada: api.post(
        "/api/conversations/last/reply", {"type": "user", "email": ANN, "body": "Hi"}, format="json"
    ),
    "a reply of a contact": lambda api, ada: api.post(
        "/api/conversations/last/reply", {"type": "contact", "email": ANN, "body": "Hi"}, format="json"
    ),
    "converting a contact": lambda api, ada: api.post(
        "/api/contacts/convert", {"contact": {"email": ANN}, "user": {"user_id": "ann"}}, format="json"
    ),
}


def written_to(api: APIClient, ada: User, kind: str):
    told = {"message_type": "inapp", "body": "Your code is 1234", "from": {"type": "admin", "id": str(ada.pk)}}
    return api.post("/api/messages", {**told, "to": {"type": kind, "email": ANN}}, format="json")


@pytest.mark.parametrize("what", NAMED_BY_ADDRESS)
def test_unverified_address_identifies_no_customer(api, ada, lead, what):
    answered = NAMED_BY_ADDRESS[what](api, ada)

    assert answered.status_code == 404
    assert answered.json()["errors"][0]["field"] == "email"
    lead.refresh_from_db()
    assert (lead.role, lead.archived_at, lead.user_id) == (Role.LEAD, None, None)
    assert (lead.events.count(), lead.tags.count(), lead.notes.count(), lead.devices.count()) == (0, 0, 0, 0)
    assert lead.conversations.count() == 1
    assert not Tag.objects.exists()


@pytest.mark.parametrize("what", sorted(NAMED_BY_ADDRESS.keys() - {"converting a contact", "a reply of a contact"}))
def test_verified_address_identifies_its_customer(api, ada, lead, what):
    role = Role.LEAD if "contact" in what else Role.USER
    CustomerFactory(user_id=None, email=ANN, role=role, last_seen_at=timezone.now() - timedelta(days=9))

    answered = NAMED_BY_ADDRESS[what](api, ada)

    assert answered.status_code in (200, 202) or "reply" in what
    lead.refresh_from_db()
    assert lead.archived_at is None
    assert (lead.events.count(), lead.tags.count(), lead.notes.count(), lead.devices.count()) == (0, 0, 0, 0)
    assert (lead.conversations.count(), lead.records.count()) == (1, 0)


def test_bulk_events_by_address_are_not_recorded_for_the_lead(api, lead):
    item = {"method": "post", "data_type": "event", "data": {"email": ANN, "event_name": "paid", "created_at": 1}}

    job = api.post("/api/bulk/events", {"items": [item]}, format="json").json()
    intake.process_jobs(clock=timezone.now, go_on=lambda: True)

    assert not lead.events.exists()
    assert "email" in str(api.get(f"/api/jobs/{job['id']}/error").json())


def test_contacts_listed_by_address_include_the_lead(api, lead):
    assert [one["id"] for one in api.get("/api/contacts", {"email": ANN}).json()["contacts"]] == [str(lead.pk)]


@pytest.mark.parametrize("named", [lambda lead: {"id": str(lead.pk)}, lambda lead: {"user_id": f"lead-{lead.pk}"}])
@pytest.mark.parametrize("is_known", [True, False])
def test_converting_the_lead_merges_it_into_the_user(api, lead, named, is_known):
    if is_known:
        CustomerFactory(user_id="ann", email=ANN)

    answered = api.post(
        "/api/contacts/convert",
        {"contact": named(lead), "user": {"user_id": "ann", "email": ANN}},
        format="json",
    )

    assert answered.status_code == 200
    ann = Customer.objects.present().get()
    assert (ann.user_id, ann.role, ann.email, ann.email_is_said) == ("ann", Role.USER, ANN, False)
    assert ann.conversations.count() == 1


def test_converting_one_lead_leaves_others_with_the_same_address(api, stranger, lead):
    other = Browser()
    other.ping()
    other.say("conversations", body="It is really me")
    assert other.say("email", email=ANN).status_code == 200
    mine = Customer.objects.exclude(pk=lead.pk).get(role=Role.LEAD)

    api.post("/api/contacts/convert", {"contact": {"id": str(mine.pk)}, "user": {"email": ANN}}, format="json")

    mine.refresh_from_db()
    lead.refresh_from_db()
    assert (mine.role, mine.email_is_said, lead.role, lead.email_is_said) == (Role.USER, False, Role.LEAD, True)
    assert Conversation.objects.get(body__contains="password").customer == lead


def test_sync_by_id_may_verify_the_address(api, lead):
    assert api.post("/api/users", {"id": str(lead.pk), "email": ANN}, format="json").status_code == 200

    lead.refresh_from_db()
    assert not lead.email_is_said


@pytest.mark.parametrize("path", ["users", "contacts"])
def test_sync_that_verifies_a_taken_address_is_a_conflict(api, lead, path):
    CustomerFactory(user_id=None, email=ANN)

    call = api.post if path == "users" else api.put
    where = "/api/users" if path == "users" else f"/api/contacts/{lead.pk}"
    answered = call(where, {"id": str(lead.pk), "email": ANN}, format="json")

    assert answered.status_code == 409
    assert answered.json()["errors"][0]["field"] == "email"


def test_saving_an_address_does_not_reveal_its_owner():
    """The answers, those that follow, and the statements that they take are the same for any address."""
    CustomerFactory(user_id=None, email=ANN)
    CustomerFactory(user_id="user", email="user@x.example")
    CustomerFactory(user_id="gone", email="gone@x.example", archived=True)
    CustomerFactory(lead=True, email="lead@x.example")
    for reason in SuppressionReason:
        Suppression.objects.suppress("listed@x.example", reason, source="staff", at=timezone.now())

    def answers(address: str) -> list[object]:
        browser = Browser()
        browser.ping()
        browser.say("conversations", body="Hello")
        with CaptureQueriesContext(connection) as statements:
            answered = browser.say("email", email=address)
        found: list[object] = [answered.status_code, answered.json(), sorted(answered.headers), len(statements)]
        found += [browser.say("email", email="second@x.example").json(), sorted(browser.ping().json()["user"] or {})]
        return [str(one).replace(address, "ADDRESS") for one in found]

    expected = answers("nobody@x.example")
    for address in (ANN, "user@x.example", "gone@x.example", "lead@x.example", "listed@x.example"):
        assert answers(address) == expected, address


def test_one_address_is_verified_for_one_customer_only():
    CustomerFactory(user_id=None, email=ANN)
    for _ in range(2):
        CustomerFactory(lead=True, email=ANN, email_is_said=True)

    with pytest.raises(IntegrityError, match="one_customer_per_known_email"), transaction.atomic():
        CustomerFactory(user_id=None, email=ANN)


class TestAPageThatSaysAnAddressBesideAUserId:
    """A proved user may claim any address; it stays unverified until another source confirms it."""

    @pytest.fixture
    def mallory(self) -> Customer:
        Browser().ping(user_id="mallory", email=ANN)
        return Customer.objects.get(user_id="mallory")

    def test_sync_by_address_does_not_verify_it(self, mallory):
        intake.identify({"email": ANN, "name": "Ann"}, at=timezone.now())

        mallory.refresh_from_db()
        assert mallory.email_is_said

    def test_import_by_address_does_not_verify_it(self, mallory):
        load(f"email,name\n{ANN},Ann\n", made=0)

        mallory.refresh_from_db()
        assert mallory.email_is_said

    def test_import_prefers_the_customer_with_the_verified_address(self, mallory):
        ann = CustomerFactory(user_id="ann", email=ANN, last_seen_at=datetime(2020, 1, 1, tzinfo=UTC))
        load(f"email,name\n{ANN},Ann\n", made=0)

        ann.refresh_from_db()
        mallory.refresh_from_db()
        assert (ann.name, mallory.name) == ("Ann", "")

    def test_import_by_user_id_verifies_the_address(self, mallory):
        load(f"user_id,email\nmallory,{ANN}\n", made=0)

        mallory.refresh_from_db()
        assert not mallory.email_is_said


MAL = "mal@x.example"


def opt_out(mallory: Customer, **facts: object) -> DeliveryRecord:
    """Unsubscribe Mallory by the link in a copy of hers."""
    record = DeliveryRecord.objects.create(
        message=MessageFactory(live=True), customer=mallory, matched_at=AT, due_at=AT, **facts
    )
    links.unsubscribe(record, at=AT)
    return record


def feed_back(mallory: Customer, kind: FeedbackType, **facts: object) -> None:
    """Let Mallory state Ann's address, and report on a copy of hers after that."""
    record = DeliveryRecord.objects.create(
        message=MessageFactory(live=True), customer=mallory, matched_at=AT, due_at=AT, **facts
    )
    Browser().ping(user_id="mallory", email=ANN)
    feedback.record_feedback(Referent(ReferentKind.RECORD, record.pk), Feedback(type=kind, at=AT))


def feed_back_on_answer(mallory: Customer, kind: FeedbackType, ada: User) -> None:
    thread = threads.open_by_customer(mallory, body="Hello", at=AT)
    part = threads.reply_by_teammate(thread, teammate=ada, body="Hi", at=AT)
    AnswerMail.objects.update(status=Status.SENT, address=MAL)
    Browser().ping(user_id="mallory", email=ANN)
    for address in ("", ANN):
        report = Feedback(type=kind, at=AT, address=address)
        feedback.record_feedback(Referent(ReferentKind.ANSWER, part.pk), report)


def state_two_addresses(mallory: Customer) -> None:
    Suppression.objects.suppress("listed@x.example", SuppressionReason.OPT_OUT, source="import", at=AT)
    for address in ("listed@x.example", ANN):
        Browser().ping(user_id="mallory", email=address)


# What Mallory, a proved user, does so that Ann gets no more email.
ATTACKS = {
    "she opts out, and then states Ann's address": lambda mallory, ada: (
        opt_out(mallory, address=MAL),
        Browser().ping(user_id="mallory", email=ANN),
    ),
    "she states Ann's address, and then opts out by a copy of unknown address": lambda mallory, ada: (
        Browser().ping(user_id="mallory", email=ANN),
        opt_out(Customer.objects.get(pk=mallory.pk)),
    ),
    "she states a listed address, and then Ann's": lambda mallory, ada: state_two_addresses(mallory),
    "she complains": lambda mallory, ada: feed_back(mallory, FeedbackType.COMPLAINED, address=MAL),
    "she complains about a copy of unknown address": lambda mallory, ada: feed_back(mallory, FeedbackType.COMPLAINED),
    "her copy of unknown address bounces": lambda mallory, ada: feed_back(mallory, FeedbackType.NO_MAILBOX),
    "she complains about an answer": lambda mallory, ada: feed_back_on_answer(mallory, FeedbackType.COMPLAINED, ada),
    "an answer to her bounces": lambda mallory, ada: feed_back_on_answer(mallory, FeedbackType.NO_MAILBOX, ada),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_customer_suppresses_the_address_of_another(ada, attack):
    CustomerFactory(user_id="ann", email=ANN)
    mallory = CustomerFactory(user_id="mallory", email=MAL)

    ATTACKS[attack](mallory, ada)

    mallory.refresh_from_db()
    assert (mallory.email, mallory.email_is_said) == (ANN, True)
    ann = Customer.objects.get(user_id="ann")
    assert (ann.unsubscribed_from_emails, ann.marked_email_as_spam, ann.has_hard_bounced) == (False, False, False)
    assert not Suppression.objects.of_address(ANN).exists()


@pytest.mark.parametrize("address", [MAL, None])
def test_no_customer_lifts_the_opt_out_of_another(address):
    ann = CustomerFactory(user_id="ann", email=ANN)
    mallory = CustomerFactory(user_id="mallory", email=MAL)
    opt_out(ann, address=ANN)
    record = opt_out(mallory, address=address)
    Browser().ping(user_id="mallory", email=ANN)

    links.subscribe_again(record, at=timezone.now())

    ann.refresh_from_db()
    assert ann.unsubscribed_from_emails
    assert Suppression.objects.active().of_address(ANN).exists()


def test_email_from_the_address_leaves_the_thread_with_the_lead(settings, ada, stranger, lead):
    settings.INBOUND_DOMAIN = "reply.acme.example"
    thread, at = Conversation.objects.get(), timezone.now()
    part = threads.reply_by_teammate(thread, teammate=ada, body="<p>Who are you?</p>", at=at)
    to = reply_addresses.reply_address_of(reply_addresses.ReferentKind.ANSWER, part.pk)
    mail = f"From: {ANN}\r\nTo: {to}\r\nMessage-ID: <1@x.example>\r\nSubject: Re: Hi\r\n\r\nNot me.\r\n"

    assert router.receive(parse_email(mail.encode()), at=at) is router.Outcome.REPLY
    intake.identify({"email": ANN}, at=at)

    assert_apart(lead)


def test_inbox_and_profile_mark_an_unverified_address(admin_client, lead):
    thread = Conversation.objects.get()

    in_the_inbox = admin_client.get(f"/admin/delivery/conversation/{thread.pk}/change/", follow=True).content.decode()
    on_the_profile = admin_client.get(f"/admin/audiences/customer/{lead.pk}/change/").content.decode()

    assert "not proved" in in_the_inbox
    assert "not proved" in on_the_profile


def test_verified_address_is_shown_without_a_mark(admin_client):
    known = CustomerFactory(user_id=None, email=ANN)

    assert "not proved" not in admin_client.get(f"/admin/audiences/customer/{known.pk}/change/").content.decode()


def test_unverified_address_violates_no_constraint(lead):
    intake.identify({"email": ANN}, at=timezone.now(), source=Source.REST)

    assert list(invariants.find_violations(at=None)) == []
