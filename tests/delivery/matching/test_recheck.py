"""Recheck of held records by a dispatcher: one slice at a time, so that other copies begin meanwhile."""

from datetime import timedelta

import pytest

from delivery.matching import ongoing, recheck, sql
from delivery.models import Reason
from tests.factories import CustomerFactory, MessageFactory

pytestmark = pytest.mark.django_db


def test_dispatcher_rechecks_one_slice_of_the_records_that_waited_for_the_window(at, monkeypatch):
    for number in range(5):
        CustomerFactory(email=f"{number}@x.example")
    window = [{"weekday": 1, "from": "09:00", "to": "17:00"}]
    message = MessageFactory(window=window, live=True, at=at)
    ongoing.match(message, at=at)
    monkeypatch.setattr(sql, "SLICE", 2)
    opening = at.replace(hour=9) + timedelta(days=1)

    for left in (3, 1, 0):
        assert recheck.recheck_slice(message, at=opening)
        assert message.records.filter(reason=Reason.WINDOW).count() == left
