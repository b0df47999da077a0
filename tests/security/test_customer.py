"""A malicious customer, logged in on a website with the messenger: attacks, and their results."""

import re

import pytest
from django.test import Client

from audiences import identity_verification
from audiences.models import Company, Customer, Workspace
from audiences.models.customers import Role
from delivery import rendering, tokens
from delivery.channels import CHANNELS
from delivery.conversations import threads
from delivery.matching import ongoing
from delivery.models import Conversation, DeliveryRecord
from delivery.sending import dispatcher
from messaging.models import Channel
from tests.delivery.api.messenger.test_ping import Browser
from tests.factories import CompanyFactory, CustomAttributeFactory, CustomerFactory, MessageFactory, rule

pytestmark = pytest.mark.django_db

XSS = "<img src=x onerror=alert(1)>\"'><script>alert(1)</script>"
LIQUID = "{{ email }}{% for i in (1..999999999) %}x{% endfor %}{{ settings.SECRET_KEY }}"


@pytest.fixture
def mallory() -> Browser:
    browser = Browser()
    assert browser.ping(user_id="mallory", email="mallory@x.example").status_code == 200
    return browser


@pytest.fixture
def victim() -> Customer:
    return CustomerFactory(user_id="ann", email="ann@x.example", name="Ann")


# Attacks: impersonation


@pytest.mark.parametrize(
    "claim",
    [
        {"user_id": "ann", "user_hash": ""},
        {"user_id": "ann", "user_hash": None},
        {"user_id": "ann", "user_hash": "0" * 64},
        {"user_id": "ann", "user_hash": ["0"]},
        {"user_id": "ann", "user_hash": {"$ne": ""}},
        {"email": "ann@x.example", "user_hash": "0" * 64},
        {"user_id": "ann ", "user_hash": "0" * 64},
        {"user_id": ["ann"], "user_hash": "0" * 64},
    ],
)
def test_naming_a_user_without_a_proof_is_refused(victim, claim):
    answer = Browser().ping(**claim)

    assert answer.status_code in (400, 403, 422)
    assert "token" not in answer.json()


def test_proof_of_one_user_is_invalid_for_another(victim):
    own = identity_verification.user_hash(Workspace.current().identity_secret, "mallory")

    assert Browser().ping(user_id="ann", user_hash=own).status_code == 403


@pytest.mark.parametrize("named", ["ann ", " ann", "ann\n", "\u00a0ann"])
def test_proof_of_a_similar_user_id_is_invalid(victim, named):
    """A shop may sign the user_id “ann ” for another account; parsing must not turn it into “ann”."""
    proof = identity_verification.user_hash(Workspace.current().identity_secret, named)

    assert Browser().ping(user_id=named, user_hash=proof).status_code == 403


def test_proof_of_a_user_id_does_not_cover_an_email_address(victim):
    """A proved user_id with another customer's address is that user_id, or refused."""
    own = identity_verification.user_hash(Workspace.current().identity_secret, "mallory")

    Browser().ping(user_id="mallory", user_hash=own, email="ann@x.example")

    victim.refresh_from_db()
    assert (victim.user_id, victim.email, victim.name) == ("ann", "ann@x.example", "Ann")


@pytest.mark.parametrize("wrote_before", [False, True])
@pytest.mark.parametrize("role", Role)
def test_proof_of_a_user_id_opens_no_customer_known_by_email(at, role, wrote_before):
    """The proof covers the user_id; the address beside it is unverified."""
    victim = CustomerFactory(user_id=None, email="ann@x.example", name="Ann", role=role, last_seen_at=at)
    threads.open_by_customer(victim, body="My secret", at=at)
    mallory = Browser()
    if wrote_before:
        mallory.ping()
        mallory.say("conversations", body="Hello")

    assert mallory.ping(user_id="mallory", email="ann@x.example").status_code == 200

    assert "secret" not in str(mallory.list())
    victim.refresh_from_db()
    assert (victim.user_id, victim.name, victim.archived_at) == (None, "Ann", None)
    assert Customer.objects.get(user_id="mallory").email == "ann@x.example"


def test_proved_email_identifies_an_imported_customer():
    imported = CustomerFactory(user_id=None, email="ann@x.example", name="Ann")

    Browser().ping(user_id="ann", email="ann@x.example")

    assert Customer.objects.get() == imported


def test_visitor_sets_no_facts_of_a_company():
    company = CompanyFactory(company_id="acme", name="Acme", plan="pro")
    visitor = Browser()
    visitor.ping()
    visitor.say("conversations", body="Hello")

    for said in ({"company": {"id": "acme", "plan": "free"}}, {"companies": [{"company_id": "acme", "name": "Evil"}]}):
        assert visitor.ping(**said).status_code == 200

    company.refresh_from_db()
    assert (company.name, company.plan) == ("Acme", "pro")
    assert not company.memberships.exists()


@pytest.mark.parametrize(
    "field", ["id", "role", "archived_at", "identity_secret", "unsubscribed_by_customer_at", "checked_at"]
)
def test_customer_cannot_set_fields_of_the_server(mallory, field):
    ours = ("pk", "role", "archived_at", "unsubscribed_by_customer_at", "checked_at")
    before = Customer.objects.values(*ours).get()

    mallory.ping(user_id="mallory", **{field: "admin"})

    assert Customer.objects.values(*ours).get() == before


# Attacks: data and actions of other customers


@pytest.fixture
def theirs(victim) -> Conversation:
    MessageFactory(in_app=True, body="<p>A secret for Ann</p>", live=True, rules=[rule("user_id", "is", "ann")])
    Browser().ping(user_id="ann")
    return Conversation.objects.get()


def test_data_of_another_customer_is_not_found(mallory, theirs):
    record = theirs.record_id
    attempts = [
        mallory.ask(f"conversations/{theirs.pk}"),
        mallory.say(f"conversations/{theirs.pk}/reply", body="x"),
        mallory.say(f"conversations/{theirs.pk}/read"),
        *(mallory.say(f"messages/{record}/{mark}") for mark in ("opened", "dismissed", "clicked")),
    ]

    assert [answer.status_code for answer in attempts] == [404] * len(attempts)
    assert all("secret" not in answer.content.decode() for answer in attempts)
    assert mallory.list() == []
    moments = DeliveryRecord.objects.values_list("opened_at", "dismissed_at", "clicked_at", "replied_at").get(pk=record)
    assert moments == (None,) * 4


@pytest.mark.parametrize("pk", ["0", "-1", "1 OR 1=1", "99999999999999999999", "%00", "../1", "1;DROP TABLE x", "é"])
def test_invalid_number_is_not_found(mallory, pk):
    assert mallory.ask(f"conversations/{pk}").status_code in (400, 404)


def test_customer_token_is_not_valid_for_the_api_or_the_console(mallory):
    for path in ("/api/users", "/api/conversations", "/api/messages", "/api/counts", "/api/outbound"):
        assert mallory.get(path).status_code == 401, path
    assert mallory.get("/admin/").status_code == 302


def test_tokens_of_one_email_give_no_token_for_another_record(mallory, victim):
    """The customer has two valid tokens and needs one for the next record."""
    own = tokens.make_token(5, purpose="unsubscribe")

    for changed in (own[:-1] + "A", own[::-1], tokens.make_token(6, purpose="unsubscribe")[:16] + own[16:]):
        assert Client().post(f"/m/unsubscribe/{changed}").status_code == 404
    victim.refresh_from_db()
    assert not victim.unsubscribed_from_emails


# Attacks: running script in the console by customer data


@pytest.mark.parametrize("said", [XSS, LIQUID])
def test_customer_data_does_not_run_as_script_in_the_console(mallory, said, admin_client):
    CustomAttributeFactory(name="plan")
    mallory.defaults["HTTP_USER_AGENT"] = said
    theirs = {"id": "c1", "name": said, "industry": said, "website": "javascript:alert(1)"}
    mallory.ping(user_id="mallory", name=said, phone=said, custom_attributes={"plan": said}, company=theirs)
    mallory.say("events", event_name=said, metadata={"page": said, said: "javascript:alert(1)"})
    mallory.say("conversations", body=said)
    customer, company = Customer.objects.get(), Company.objects.get()
    assert (customer.name, customer.user_agent, company.name) == (said,) * 3
    assert customer.events.get().metadata["page"] == said

    pages = [
        admin_client.get(f"/admin/audiences/customer/{customer.pk}/change/"),
        admin_client.get("/admin/audiences/customer/"),
        admin_client.get(f"/admin/audiences/company/{company.pk}/change/"),
        admin_client.get("/admin/audiences/company/"),
        admin_client.get("/admin/"),
        admin_client.get("/admin/delivery/conversation/"),
    ]

    for page in pages:
        assert page.status_code == 200
        assert "<img src=x" not in page.content.decode()
        assert "<script>alert" not in page.content.decode()
        assert 'href="javascript:' not in page.content.decode()


class Caught:
    """A channel that stores the envelopes it receives."""

    given: list = []

    def send(self, envelope) -> str:
        self.given.append(envelope)
        return "taken"

    def close(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    "name", [XSS, LIQUID, "Ann\r\nBcc: everyone@evil.example", "{{ unsubscribe_url }}", "\u202egnihsihp", "x" * 5000]
)
def test_customer_name_in_an_email_adds_no_header(monkeypatch, at, name):
    monkeypatch.setattr(Caught, "given", [])
    monkeypatch.setitem(CHANNELS, Channel.EMAIL, Caught)
    CustomAttributeFactory(name="site")
    CustomerFactory(email="m@x.example", name=name, attributes={"site": "javascript:alert(1)"})
    body = '<p>Hi {{ name }}</p><p><a href="{{ custom_attributes.site }}">Yours</a> <a title="{{ name }}">t</a></p>'
    message = MessageFactory(live=True, at=at, subject="Hi {{ name }}", body=body)
    ongoing.match(message, at=at)
    dispatcher.dispatch(clock=lambda: at, until=at.replace(second=1))

    (envelope,) = Caught.given

    assert not re.search(r"[\r\n]", envelope.subject)
    assert "<img src=x" not in envelope.html
    assert "<script" not in envelope.html
    assert "javascript:" not in envelope.html
    assert "999999999) %}" not in envelope.html or "{%" in envelope.html, "their Liquid was read"
    assert (
        rendering.render_sent_copy(DeliveryRecord.objects.select_related("version", "message").get()).subject
        == envelope.subject
    )


# Attacks: redirects to a URL of the customer's choice


def test_tracking_link_never_redirects_to_a_customers_url(monkeypatch, at):
    monkeypatch.setattr(Caught, "given", [])
    monkeypatch.setitem(CHANNELS, Channel.EMAIL, Caught)
    CustomAttributeFactory(name="site")
    CustomerFactory(email="m@x.example", attributes={"site": "https://evil.example/"})
    body = (
        '<a href="{{ custom_attributes.site }}">a</a><a href="https://{{ custom_attributes.site }}">b</a>'
        '<a href="https://acme.example/?to={{ custom_attributes.site }}">c</a>'
    )
    message = MessageFactory(live=True, at=at, body=f"<p>{body}</p>")
    ongoing.match(message, at=at)
    dispatcher.dispatch(clock=lambda: at, until=at.replace(second=1))
    ours = re.findall(r'href="https?://[^/"]*(/m/c/[^"]*)"', Caught.given[0].html)

    led = [Client().get(path).url for path in ours]

    assert led == ["https://acme.example/?to=https://evil.example/"]


# To cause load


@pytest.mark.parametrize("sent", [{"body": "x" * 3_000_000}, {"body": "[" * 100_000}, {"body": ["x"] * 50_000}])
def test_heavy_body_is_refused_without_a_server_error(mallory, sent):
    assert 400 <= mallory.say("conversations", **sent).status_code < 500
    assert not Conversation.objects.exists()


def test_number_of_attributes_is_limited(mallory):
    mallory.ping(user_id="mallory", custom_attributes={f"a{n}": "x" * 1000 for n in range(2000)})

    assert len(str(Customer.objects.get().attributes)) < 1_000_000


# Attacks: undoing another customer's unsubscribe


def test_only_the_own_link_subscribes_a_customer_again(mallory, victim):
    Customer.objects.filter(pk=victim.pk).update(unsubscribed_from_emails=True)

    for claim in ({"user_id": "mallory", "email": "ann@x.example", "unsubscribed_from_emails": False},):
        mallory.ping(**claim)

    victim.refresh_from_db()
    assert victim.unsubscribed_from_emails
