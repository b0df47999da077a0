"""A client with an API token and without a rate limit."""

import pytest
from rest_framework.test import APIClient

from audiences.models import Integration


@pytest.fixture(autouse=True)
def no_limit(settings) -> None:
    settings.API_RATE_LIMIT = 0


@pytest.fixture
def api() -> APIClient:
    made = APIClient()
    made.credentials(HTTP_AUTHORIZATION=f"Bearer {Integration.issue(name='The shop')[1]}")
    return made
