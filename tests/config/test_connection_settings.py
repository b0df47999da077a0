"""The numbers of connections are checked at the start."""

import pytest

from tests.support.fresh_settings import load_settings


@pytest.mark.parametrize("name", ["EMAIL_CONNECTIONS", "PUSH_CONNECTIONS", "WEBHOOK_CONNECTIONS", "IN_FLIGHT"])
@pytest.mark.parametrize("given", ["0", "1001", "many", "-3", ""])
def test_number_that_cannot_be_used_stops_the_start_and_is_named(name, given):
    refused = load_settings("", **{name: given})

    assert refused.returncode == 1
    assert f"{name} must be a whole number from 1 to 1000: {given}".strip() in refused.stderr


def test_any_number_from_1_to_1000_is_accepted():
    assert load_settings("", EMAIL_CONNECTIONS="1", PUSH_CONNECTIONS="1000").returncode == 0
