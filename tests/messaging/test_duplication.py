"""Duplication of messages, and deletion of drafts."""

import pytest

from audiences.models import Audience
from messaging import duplication
from messaging.models import Message, MessageVersion, State, WrongState
from tests.factories import AT, CustomerFactory, MessageFactory, rule

pytestmark = pytest.mark.django_db


def test_duplicate_is_a_draft_with_the_same_content_filters_and_window():
    window = [{"weekday": 0, "from": "09:00", "to": "17:00"}]
    message = MessageFactory(live=True, rules=[rule("name", "is", "Ada")], window=window)

    copy = duplication.duplicate(message, by=None, at=AT)

    assert (copy.state, copy.went_live_at, copy.send_type) == (State.DRAFT, None, message.send_type)
    assert (copy.window, copy.sender, copy.version.body) == (window, message.sender, message.version.body)
    assert copy.audience != message.audience
    assert copy.audience.rules == message.audience.rules


def test_title_of_a_duplicate_is_shortened_to_fit():
    assert len(duplication.duplicate(MessageFactory(title="x" * 200), by=None, at=AT).title) <= 200


def test_direct_message_cannot_be_duplicated():
    with pytest.raises(WrongState):
        duplication.duplicate(MessageFactory(to_customer=CustomerFactory(), in_app=True), by=None, at=AT)


def test_discarded_draft_leaves_no_rows():
    duplication.discard(MessageFactory())

    assert not Message.objects.exists()
    assert not MessageVersion.objects.exists()
    assert not Audience.objects.exists()


def test_message_that_has_been_live_cannot_be_discarded():
    message = MessageFactory(live=True)

    with pytest.raises(WrongState):
        duplication.discard(message)
    assert Message.objects.get().version == message.version
