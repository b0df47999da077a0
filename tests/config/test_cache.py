"""While Redis is away, the cache behaves like an empty one."""

import pytest
from django.core.cache import caches
from rest_framework.test import APIClient

from audiences.models import Integration
from outbound.console import throttle
from tests.support.fresh_settings import execute_settings


@pytest.fixture
def away(settings) -> None:
    options = {"IGNORE_EXCEPTIONS": True, "SOCKET_TIMEOUT": 1, "SOCKET_CONNECT_TIMEOUT": 1}
    backend = "django_redis.cache.RedisCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": "redis://127.0.0.1:9/1", "OPTIONS": options}}


def test_unreachable_cache_behaves_like_an_empty_one(away):
    cache = caches["default"]

    assert cache.get("a") is None
    assert cache.get("a", "otherwise") == "otherwise"
    assert not cache.add("a", 1)
    assert cache.set("a", 1) is None
    assert not cache.delete("a")
    assert not cache.has_key("a")
    assert cache.incr("a") is None


def test_settings_ignore_an_unreachable_redis():
    cache = execute_settings(CACHE_URL="redis://127.0.0.1:9/1")["CACHES"]["default"]

    assert cache["BACKEND"] == "django_redis.cache.RedisCache"
    assert cache["OPTIONS"] == {"IGNORE_EXCEPTIONS": True, "SOCKET_TIMEOUT": 1, "SOCKET_CONNECT_TIMEOUT": 1}


@pytest.mark.django_db
@pytest.mark.usefixtures("away")
def test_password_resets_are_not_limited_while_redis_is_away(at):
    assert [throttle.count_attempt("reset-name", "ann", at=at) for _ in range(2)] == [1, 1]


@pytest.mark.django_db
def test_api_answers_while_redis_is_away(away, django_user_model):
    user = django_user_model.objects.create(username="shop")
    _, token = Integration.objects.create(user=user, name="shop")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")

    assert client.get("/api/me").status_code == 200
    assert client.post("/messenger/ping", {"page": "/"}, format="json").status_code == 200
