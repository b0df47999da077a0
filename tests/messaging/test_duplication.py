"""Duplicating a message, and deleting a draft."""

import pytest

from audiences.models import Audience
from messaging import duplication
from messaging.models import Message, MessageVersion, State, WrongState
from tests.factories import AT, CustomerFactory, MessageFactory, rule

pytestmark = pytest.mark.django_db


def test_a_copy_is_a_draft_with_the_same_content_filters_and_window():
    window = [{"weekday": 0, "from": "09:00", "to": "17:00"}]
    message = MessageFactory(live=True, rules=[rule("name", "is", "Ada")], window=window)

    copy = duplication.duplicate(message, by=None, at=AT)

    assert (copy.state, copy.went_live_at, copy.send_type) == (State.DRAFT, None, message.send_type)
    assert (copy.window, copy.sender, copy.version.body) == (window, message.sender, message.version.body)
    assert copy.audience != message.audience
    assert copy.audience.rules == message.audience.rules


def test_a_long_title_still_fits():
    assert len(duplication.duplicate(MessageFactory(title="x" * 200), by=None, at=AT).title) <= 200


def test_a_message_to_one_person_has_no_copy():
    with pytest.raises(WrongState):
        duplication.duplicate(MessageFactory(to_customer=CustomerFactory(), in_app=True), by=None, at=AT)


def test_a_discarded_draft_leaves_nothing_behind():
    duplication.discard(MessageFactory())

    assert not Message.objects.exists()
    assert not MessageVersion.objects.exists()
    assert not Audience.objects.exists()


def test_what_has_been_live_is_not_discarded():
    message = MessageFactory(live=True)

    with pytest.raises(WrongState):
        duplication.discard(message)
    assert Message.objects.get().version == message.version
