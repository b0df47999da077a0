"""Idempotency-Key: a repeated POST has one effect and gets the first answer again."""

from datetime import timedelta

import pytest
from rest_framework.test import APIClient

from audiences.models import Customer, IdempotencyKey, Integration, Note
from delivery.customers import erase, merge
from delivery.maintenance import retention
from delivery.models import Conversation, ConversationPart
from messaging.models import Message
from tests.factories import AT, CustomerFactory
from tests.support.concurrency import at_once

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada(django_user_model):
    return django_user_model.objects.create(username="ada", email="ada@acme.example", is_staff=True)


def post(api, address: str, sent: dict[str, object], *, key: str):
    return api.post(f"/api/{address}", sent, format="json", HTTP_IDEMPOTENCY_KEY=key)


def message_to(customer, ada) -> dict[str, object]:
    return {"from": {"type": "admin", "id": str(ada.pk)}, "to": {"id": str(customer.pk)}, "body": "Hello"}


def test_same_key_and_body_get_the_same_answer_and_send_once(api, ada):
    customer = CustomerFactory(user_id="ann")
    sent = message_to(customer, ada)

    first = post(api, "messages", sent, key="k1")
    again = post(api, "messages/", dict(reversed(sent.items())), key="k1")

    assert (first.status_code, again.status_code, first.json()) == (200, 200, again.json())
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert Message.objects.count() == 1
    post(api, "messages", sent, key="k2")
    assert Message.objects.count() == 2


def test_every_kind_of_sending_is_done_once(api, ada):
    customer = CustomerFactory(user_id="ann")
    begun = post(api, "messages", {"from": {"type": "user", "user_id": "ann"}, "body": "Hi"}, key="a").json()
    post(api, "messages", {"from": {"type": "user", "user_id": "ann"}, "body": "Hi"}, key="a")
    answer = {"admin_id": str(ada.pk), "body": "Hello"}
    for _ in range(2):
        post(api, f"conversations/{begun['conversation_id']}/reply", answer, key="b")
        post(api, "conversations/last/reply", {**answer, "user_id": "ann"}, key="c")
        post(api, "notes", {"body": "Careful", "user": {"id": str(customer.pk)}}, key="d")
        assert post(api, "events", {"event_name": "paid", "user_id": "ann"}, key="e").content == b""

    assert (Conversation.objects.count(), ConversationPart.objects.count(), Note.objects.count()) == (1, 2, 1)


@pytest.mark.parametrize("other", ["body", "address", "query"])
def test_same_key_with_another_request_is_a_conflict_that_names_the_header(api, ada, other):
    customer = CustomerFactory(user_id="ann")
    sent = message_to(customer, ada)
    begun = post(api, "messages", sent, key="k1")

    address = {"address": "notes", "query": "messages?page=2"}.get(other, "messages")
    refused = post(api, address, {**sent, "body": "Bye"} if other == "body" else sent, key="k1")

    error = refused.json()["errors"][0]
    assert (begun.status_code, refused.status_code, error["code"]) == (200, 409, "conflict")
    assert error["field"] == "Idempotency-Key"
    assert Message.objects.count() == 1


def test_key_of_a_refused_request_is_free_again(api, ada):
    customer = CustomerFactory(user_id="ann")
    sent = message_to(customer, ada)

    assert post(api, "messages", {**sent, "message_type": "email"}, key="k1").status_code == 422
    assert post(api, "messages", sent, key="k1").status_code == 200


def test_keys_belong_to_a_token(api, ada):
    sent = message_to(CustomerFactory(user_id="ann"), ada)
    other = APIClient()
    other.credentials(HTTP_AUTHORIZATION=f"Bearer {Integration.issue(name='Another')[1]}")

    assert [post(client, "messages", sent, key="k1").status_code for client in (api, other)] == [200, 200]
    assert Message.objects.count() == 2


@pytest.mark.parametrize("key", ["", " ", "k" * 256, "a b", "ü"])
def test_invalid_key_is_refused_by_name(api, key):
    refused = post(api, "users", {"user_id": "25"}, key=key)

    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "Idempotency-Key")


def test_key_expires_after_a_day(api, ada):
    sent = message_to(CustomerFactory(user_id="ann"), ada)
    post(api, "messages", sent, key="k1")
    used = IdempotencyKey.objects.get()
    IdempotencyKey.objects.update(created_at=used.created_at - timedelta(hours=23, minutes=59))
    assert "Idempotent-Replayed" in post(api, "messages", sent, key="k1").headers

    IdempotencyKey.objects.update(created_at=used.created_at - timedelta(hours=24))
    assert "Idempotent-Replayed" not in post(api, "messages", sent, key="k1").headers

    retention.delete_expired(at=used.created_at + timedelta(hours=25), go_on=lambda: True)
    assert not IdempotencyKey.objects.exists()


def test_erasure_deletes_answers_about_the_person_but_the_request_still_counts_as_done(api, ada):
    ann, bob = CustomerFactory(user_id="ann"), CustomerFactory(user_id="bob")
    for customer in (ann, bob):
        post(api, "messages", message_to(customer, ada), key=f"to {customer.user_id}".replace(" ", "-"))

    erase.erase(ann, at=IdempotencyKey.objects.first().created_at)

    assert IdempotencyKey.objects.get(key="to-ann").answer is None
    repeated = post(api, "messages", message_to(ann, ada), key="to-ann")
    assert (repeated.status_code, repeated.json()["errors"][0]["field"]) == (409, "Idempotency-Key")
    assert post(api, "messages", message_to(bob, ada), key="to-bob").status_code == 200
    assert Message.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_concurrent_requests_with_one_key_send_once(api, ada):
    sent = message_to(CustomerFactory(user_id="ann"), ada)
    credentials = api._credentials

    def send() -> tuple[int, str]:
        client = APIClient()
        client._credentials = credentials
        answered = post(client, "messages", sent, key="k1")
        return answered.status_code, answered.json()["id"]

    run = at_once([send] * 6)

    assert run.wrong == []
    assert (len(run.returned), len(set(run.returned)), run.returned[0][0]) == (6, 1, 200)
    assert Message.objects.count() == 1


def test_erasure_deletes_answers_about_the_lead_who_became_the_person(api):
    known = CustomerFactory(user_id="ann")
    sent = {"email": "ann@x.example", "name": "Ann"}
    lead = post(api, "contacts", sent, key="lead").json()
    merge.merge(Customer.objects.get(pk=lead["id"]), into=known, at=AT)
    assert IdempotencyKey.objects.get().people == [known.pk]

    erase.erase(known, at=AT)

    assert IdempotencyKey.objects.get().answer is None
    assert "ann@x.example" not in post(api, "contacts", sent, key="lead").content.decode()
