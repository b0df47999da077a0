"""What is counted and kept in Redis is done without while Redis is away."""

import pytest
from django.core.cache import caches
from rest_framework.test import APIClient

from audiences.models import Integration


@pytest.fixture
def away(settings) -> None:
    options = {"socket_timeout": 1, "socket_connect_timeout": 1}
    there = {"BACKEND": "config.cache.Cache", "LOCATION": "redis://127.0.0.1:9/1", "OPTIONS": options}
    settings.CACHES = {"default": there}


def test_cache_that_is_away_is_an_empty_one(away):
    cache = caches["default"]

    assert cache.get("a") is None
    assert cache.get("a", "otherwise") == "otherwise"
    assert cache.add("a", 1) is False
    assert cache.set("a", 1) is None
    assert cache.delete("a") is False
    assert cache.has_key("a") is False
    with pytest.raises(ValueError, match="cannot be reached"):
        cache.incr("a")


@pytest.mark.django_db
def test_api_answers_while_nobody_counts(away, django_user_model):
    user = django_user_model.objects.create(username="shop")
    _, token = Integration.objects.create(user=user, name="shop")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")

    assert client.get("/api/me").status_code == 200
    assert client.post("/messenger/ping", {"page": "/"}, format="json").status_code == 200
