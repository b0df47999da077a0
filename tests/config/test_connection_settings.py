"""The numbers of connections are checked at the start."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.support.fresh_settings import execute_settings, load_settings

NAMES = ("EMAIL_CONNECTIONS", "PUSH_CONNECTIONS", "WEBHOOK_CONNECTIONS", "IN_FLIGHT")


@pytest.mark.parametrize("given", ["0", "1001", "many", "-3", ""])
def test_number_that_cannot_be_used_stops_the_start_and_is_named(given):
    for name in NAMES:
        with pytest.raises(ImproperlyConfigured) as refused:
            execute_settings(**{name: given})
        assert f"{name} must be a whole number from 1 to 1000: {given}".strip() in str(refused.value)


def test_any_number_from_1_to_1000_is_accepted():
    assert load_settings("", EMAIL_CONNECTIONS="1", PUSH_CONNECTIONS="1000").returncode == 0
