"""A user_hash proves exactly the signed identity: no identity that parsing changes, and no other user."""

import pytest
from rest_framework.test import APIClient

from audiences import identity_verification
from audiences.intake.attributes.fields import Refused
from audiences.intake.identity_resolution import read_email, read_user_id
from audiences.models import Customer, Integration, Workspace
from tests.delivery.api.messenger.test_ping import Browser
from tests.factories import CustomerFactory

pytestmark = pytest.mark.django_db

KELVIN = "\u212a"


@pytest.fixture(params=["the first visit to a process", "a later one"], autouse=True)
def _visits(request, db):
    """The full path of a visit, and the fast path."""
    for _ in range(2 if request.param == "a later one" else 0):
        Browser().ping(user_id="warm")


def ping(written: str, *, name: str = "email", signed: str | None = None, **more: object):
    """Ping with this identity and its hash, both as written."""
    secret = Workspace.current().identity_secret
    user = {name: written, "user_hash": identity_verification.user_hash(secret, signed or str(written)), **more}
    return APIClient().post("/messenger/ping", {"user": user}, format="json")


def writes(browser: Browser, words: str) -> None:
    assert browser.say("conversations", body=words).status_code == 200


NOT_AS_READ = [f"{KELVIN}im@x.example", "Kim@x.example", "kim@X.example", " kim@x.example", "kim@x.example\u00a0"]


@pytest.mark.parametrize("is_required", [True, False])
@pytest.mark.parametrize("written", NOT_AS_READ)
@pytest.mark.parametrize("user_id", [None, "kim"])
def test_proof_of_an_address_in_another_form_is_refused(written, user_id, is_required):
    CustomerFactory(user_id=user_id, email="kim@x.example", name="Kim")
    Workspace.objects.update(require_user_hash=is_required)

    answered = ping(written)

    assert answered.status_code == 403
    assert "lower case" in answered.json()["errors"][0]["message"]
    assert "token" not in answered.json()
    assert set(Customer.objects.exclude(user_id="warm").values_list("name", flat=True)) == {"Kim"}


@pytest.mark.parametrize("written", NOT_AS_READ)
def test_address_in_another_form_is_refused_with_the_hash_of_its_normal_form(written):
    assert ping(written, signed="kim@x.example").status_code == 403


def test_proof_of_an_address_in_normal_form_is_valid():
    kim = CustomerFactory(user_id=None, email="kim@x.example")

    assert ping("kim@x.example").json()["user"]["id"] == str(kim.pk)


@pytest.mark.parametrize(
    ("written", "signed"), [(1.0, "1.0"), (-0.0, "-0.0"), (1e22, "1e+22"), (" 1", " 1"), ("1\u00a0", "1\u00a0")]
)
def test_proof_of_a_user_id_that_parsing_changes_is_refused(written, signed):
    for user_id in ("1", "0", "10000000000000000000000"):
        CustomerFactory(user_id=user_id, name="Kim")
    known = Customer.objects.count()

    answered = ping(written, name="user_id", signed=signed, email="kim@x.example", phone="evil")

    assert answered.status_code == 403
    assert Customer.objects.count() == known
    assert not Customer.objects.filter(phone="evil").exists()


@pytest.mark.parametrize("written", ["1", 1, 0, "0", "01", "1.0", "ID", f"{KELVIN}im", 2.5])
def test_proof_of_a_user_id_is_valid_only_for_that_user_id(written):
    answered = ping(written, name="user_id")

    assert answered.status_code == 200
    assert Customer.objects.get(pk=answered.json()["user"]["id"]).user_id == str(written)


def test_address_beside_a_proved_user_id_may_have_capitals():
    answered = ping("kim", name="user_id", email="Kim@X.example")

    assert Customer.objects.get(pk=answered.json()["user"]["id"]).email == "kim@x.example"


def test_proof_of_an_address_opens_no_conversations_of_a_user_id():
    CustomerFactory(user_id="kim", email="kim@x.example")
    kim = Browser()
    kim.ping(user_id="kim")
    writes(kim, "My secret")
    other = Browser()

    answered = other.ping(email="kim@x.example", phone="evil")

    assert answered.status_code == 200
    assert answered.json()["user"]["id"] != str(Customer.objects.get(user_id="kim").pk)
    assert other.list() == []
    assert Customer.objects.get(user_id="kim").phone == ""


def test_proved_address_identifies_the_same_customer_again():
    first, again = Browser(), Browser()
    first.ping(email="kim@x.example")
    writes(first, "Hello")

    again.ping(email="kim@x.example")

    assert [thread["preview"] for thread in again.list()] == ["Hello"]


@pytest.mark.parametrize("written", [f"{KELVIN}im@x.example", f"kim@{KELVIN}.example", f"a.{KELVIN}@x.example"])
def test_no_two_addresses_are_parsed_as_one(written):
    with pytest.raises(Refused, match="is not a valid email address"):
        read_email(written)


def test_no_two_user_ids_are_parsed_as_one():
    assert read_user_id(f"{KELVIN}im") == f"{KELVIN}im"


@pytest.mark.parametrize("path", ["users", "contacts"])
def test_api_does_not_confuse_addresses(path):
    CustomerFactory(user_id=None, email="kim@x.example", name="Kim")
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {Integration.issue(name='tests')[1]}")

    written = api.post(f"/api/{path}", {"email": f"{KELVIN}im@x.example", "name": "Evil"}, format="json")
    asked = api.get("/api/users", {"email": f"{KELVIN}im@x.example"})

    assert written.status_code == 400
    assert written.json()["errors"][0]["field"] == "email"
    assert asked.status_code == 404
    assert Customer.objects.get(email="kim@x.example").name == "Kim"
