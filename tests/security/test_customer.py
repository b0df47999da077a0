"""A customer, logged in on a website with the messenger, who means harm: what they try, and what becomes of it."""

import re

import pytest
from django.test import Client

from audiences import identity_verification
from audiences.models import Company, Customer, Workspace
from audiences.models.customers import Role
from delivery import rendering, tokens
from delivery.conversations import threads
from delivery.matching import ongoing
from delivery.models import Conversation, DeliveryRecord
from delivery.sending import batch, dispatcher
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


# To be somebody else


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
def test_to_name_somebody_is_not_to_be_them(victim, claim):
    answer = Browser().ping(**claim)

    assert answer.status_code in (400, 403, 422)
    assert "token" not in answer.json()


def test_ones_own_proof_is_good_for_nobody_else(victim):
    own = identity_verification.user_hash(Workspace.current().identity_secret, "mallory")

    assert Browser().ping(user_id="ann", user_hash=own).status_code == 403


@pytest.mark.parametrize("named", ["ann ", " ann", "ann\n", "\u00a0ann"])
def test_a_proof_of_a_name_that_reads_like_anothers_is_none(victim, named):
    """A shop that lets somebody register as “ann ” signs that; we would read “ann”."""
    proof = identity_verification.user_hash(Workspace.current().identity_secret, named)

    assert Browser().ping(user_id=named, user_hash=proof).status_code == 403


def test_ones_own_proof_does_not_carry_to_somebody_elses_address(victim):
    """Who proves a user_id and names the address of another is that user_id, or refused; never the other."""
    own = identity_verification.user_hash(Workspace.current().identity_secret, "mallory")

    Browser().ping(user_id="mallory", user_hash=own, email="ann@x.example")

    victim.refresh_from_db()
    assert (victim.user_id, victim.email, victim.name) == ("ann", "ann@x.example", "Ann")


@pytest.mark.parametrize("wrote_before", [False, True])
@pytest.mark.parametrize("role", Role)
def test_ones_own_proof_opens_nothing_of_who_has_an_address_alone(at, role, wrote_before):
    """A proof is of the user_id: the address beside it is only said, and may be anybody's."""
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


def test_who_was_imported_by_address_and_was_never_here_is_who_comes_with_it():
    imported = CustomerFactory(user_id=None, email="ann@x.example", name="Ann")

    Browser().ping(user_id="ann", email="ann@x.example")

    assert Customer.objects.get() == imported


def test_a_visitor_says_nothing_of_a_company():
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
def test_what_is_ours_to_say_of_a_customer_they_cannot(mallory, field):
    ours = ("pk", "role", "archived_at", "unsubscribed_by_customer_at", "checked_at")
    before = Customer.objects.values(*ours).get()

    mallory.ping(user_id="mallory", **{field: "admin"})

    assert Customer.objects.values(*ours).get() == before


# To read or do what is another's


@pytest.fixture
def theirs(victim) -> Conversation:
    MessageFactory(in_app=True, body="<p>A secret for Ann</p>", live=True, rules=[rule("user_id", "is", "ann")])
    Browser().ping(user_id="ann")
    return Conversation.objects.get()


def test_what_is_another_customers_is_not_found(mallory, theirs):
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
def test_a_number_that_is_none_is_not_found_and_breaks_nothing(mallory, pk):
    assert mallory.ask(f"conversations/{pk}").status_code in (400, 404)


def test_a_customers_token_opens_no_door_of_the_teams(mallory):
    for path in ("/api/users", "/api/conversations", "/api/messages", "/api/counts", "/api/outbound"):
        assert mallory.get(path).status_code == 401, path
    assert mallory.get("/admin/").status_code == 302


def test_a_link_from_ones_own_mail_is_about_oneself(mallory, victim):
    """They have two tokens of their own, and want one for the record after theirs."""
    own = tokens.make_token(5, purpose="unsubscribe")

    for changed in (own[:-1] + "A", own[::-1], tokens.make_token(6, purpose="unsubscribe")[:16] + own[16:]):
        assert Client().post(f"/m/unsubscribe/{changed}").status_code == 404
    victim.refresh_from_db()
    assert not victim.unsubscribed_from_emails


# To have something run at the team's, by what they say of themselves


@pytest.mark.parametrize("said", [XSS, LIQUID])
def test_what_they_say_of_themselves_does_not_run_at_the_teams(mallory, said, admin_client):
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
    """A channel that keeps what it was given."""

    given: list = []

    def send(self, envelope) -> str:
        self.given.append(envelope)
        return "taken"

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    "name", [XSS, LIQUID, "Ann\r\nBcc: everyone@evil.example", "{{ unsubscribe_url }}", "\u202egnihsihp", "x" * 5000]
)
def test_a_name_in_a_mail_is_a_name(monkeypatch, at, name):
    monkeypatch.setattr(Caught, "given", [])
    monkeypatch.setitem(batch.CHANNELS, Channel.EMAIL, Caught)
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


# To choose where our links lead


def test_a_link_of_ours_never_leads_where_a_customer_says(monkeypatch, at):
    monkeypatch.setattr(Caught, "given", [])
    monkeypatch.setitem(batch.CHANNELS, Channel.EMAIL, Caught)
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


# To be heavy


@pytest.mark.parametrize("sent", [{"body": "x" * 3_000_000}, {"body": "[" * 100_000}, {"body": ["x"] * 50_000}])
def test_a_heavy_body_is_refused_and_is_no_error_of_ours(mallory, sent):
    assert 400 <= mallory.say("conversations", **sent).status_code < 500
    assert not Conversation.objects.exists()


def test_attributes_without_end_are_not_kept(mallory):
    mallory.ping(user_id="mallory", custom_attributes={f"a{n}": "x" * 1000 for n in range(2000)})

    assert len(str(Customer.objects.get().attributes)) < 1_000_000


# To undo what another asked for


def test_nobody_subscribes_somebody_again_but_by_their_own_link(mallory, victim):
    Customer.objects.filter(pk=victim.pk).update(unsubscribed_from_emails=True)

    for claim in ({"user_id": "mallory", "email": "ann@x.example", "unsubscribed_from_emails": False},):
        mallory.ping(**claim)

    victim.refresh_from_db()
    assert victim.unsubscribed_from_emails
