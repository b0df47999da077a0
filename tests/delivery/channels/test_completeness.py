"""Completeness: each channel has a row in every table about channels."""

import pytest

from delivery import rendering
from delivery.channels import CHANNELS
from delivery.eligibility import conditions
from delivery.matching import direct
from delivery.sending import claim
from messaging.models import Channel

EXTERNAL_CHANNELS = set(Channel) - {Channel.IN_APP}


@pytest.mark.parametrize(
    ("table", "channels"),
    [
        pytest.param(CHANNELS, EXTERNAL_CHANNELS, id="delivery.channels.CHANNELS"),
        pytest.param(claim.RECIPIENTS, EXTERNAL_CHANNELS, id="delivery.sending.claim.RECIPIENTS"),
        pytest.param(conditions.UNREACHABLE, set(Channel), id="delivery.eligibility.conditions.UNREACHABLE"),
        pytest.param(rendering.TARGETS, set(Channel), id="delivery.rendering.TARGETS"),
    ],
)
def test_every_channel_has_a_row(table, channels):
    assert set(table) == channels


def test_every_reason_for_an_unreachable_customer_has_an_error_text():
    reasons = {reason for rows in conditions.UNREACHABLE_ALONE.values() for reason, _ in rows}
    assert reasons - set(direct.UNREACHABLE_ERRORS) == set()
