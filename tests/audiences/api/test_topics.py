"""Topics over the API: subscription types, and the opt-outs of a user or lead (wire 5.15)."""

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from audiences.models import Integration, TopicOptOut
from tests.factories import CustomerFactory, TopicFactory, TopicOptOutFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_limit(settings) -> None:
    settings.API_RATE_LIMIT = 0


@pytest.fixture
def api() -> APIClient:
    return APIClient(HTTP_AUTHORIZATION=f"Bearer {Integration.issue(name='The shop')[1]}")


def post(api: APIClient, place: str, **sent: object):
    return api.post(f"/api/contacts/{place}/subscriptions", sent, format="json")


def ids(answered) -> list[str]:
    assert answered.status_code == 200, answered.json()
    assert answered.json()["type"] == "list"
    return [one["id"] for one in answered.json()["data"]]


def error_of(answered) -> tuple[int, str, str]:
    error = answered.json()["errors"][0]
    return answered.status_code, error["code"], error.get("field", "")


def test_topics_are_subscription_types_of_opt_out(api):
    tips = TopicFactory(name="Tips", description="How to get more out of Acme.")
    old = TopicFactory(name="Old", is_archived=True)
    news = TopicFactory(name="news")

    assert ids(api.get("/api/subscription_types")) == [str(news.pk), str(old.pk), str(tips.pk)]
    words = {"name": "Tips", "description": "How to get more out of Acme.", "locale": "en"}
    assert api.get("/api/subscription_types/").json()["data"][2] == {
        "type": "subscription",
        "id": str(tips.pk),
        "state": "live",
        "consent_type": "opt_out",
        "default_translation": words,
        "translations": [words],
        "content_types": ["email", "in_app", "push"],
    }


@pytest.mark.parametrize("is_lead", [False, True])
def test_user_and_lead_are_opted_out_and_in_again(is_lead, api):
    tips, news = TopicFactory(name="Tips"), TopicFactory(name="News")
    ann = CustomerFactory(lead=True) if is_lead else CustomerFactory()
    place = f"lead-{ann.pk}" if is_lead else str(ann.pk)

    for consent in ({"consent_type": "opt_out"}, {}):
        assert post(api, place, id=tips.pk, **consent).json()["id"] == str(tips.pk)
    assert ids(api.get(f"/api/contacts/{place}/subscriptions")) == [str(tips.pk)]
    row = TopicOptOut.objects.get()
    assert (row.customer, row.source) == (ann, "api")
    assert row.created_at <= timezone.now()

    gone = api.delete(f"/api/contacts/{place}/subscriptions/{tips.pk}")
    assert (gone.status_code, gone.json()["id"]) == (200, str(tips.pk))
    assert ids(api.get(f"/api/contacts/{place}/subscriptions")) == []
    assert error_of(api.delete(f"/api/contacts/{place}/subscriptions/{news.pk}")) == (404, "not_found", "id")


def test_customers_own_opt_out_is_not_undone(api):
    mine = TopicOptOutFactory()
    place = f"/api/contacts/{mine.customer_id}/subscriptions/{mine.topic_id}"

    assert error_of(api.delete(place)) == (409, "conflict", "id")
    assert post(api, str(mine.customer_id), id=mine.topic_id).status_code == 200

    assert TopicOptOut.objects.get().source == "customer"


def test_bad_requests_name_the_field(api):
    tips, ann, gone = TopicFactory(), CustomerFactory(), CustomerFactory(archived=True)

    for place, sent, expected in (
        (ann.pk, {"consent_type": "opt_out"}, (422, "parameter_not_found", "id")),
        (ann.pk, {"id": 999999}, (404, "not_found", "id")),
        (ann.pk, {"id": "tips"}, (404, "not_found", "id")),
        (ann.pk, {"id": tips.pk, "consent_type": "opt_in"}, (400, "parameter_invalid", "consent_type")),
        (ann.pk, {"id": tips.pk, "consent_type": 3}, (400, "parameter_invalid", "consent_type")),
        (gone.pk, {"id": tips.pk}, (404, "not_found", "id")),
        ("lead-x", {"id": tips.pk}, (404, "not_found", "id")),
    ):
        assert error_of(post(api, str(place), **sent)) == expected, (place, sent)
    assert error_of(api.get("/api/contacts/999999/subscriptions")) == (404, "not_found", "id")
    assert not TopicOptOut.objects.exists()
