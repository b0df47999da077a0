"""Concurrent edits: the second of two teammates neither overwrites changes nor bypasses the lock."""

import pytest

from messaging import authoring, lifecycle
from messaging.models import Locked, Message
from tests.factories import CustomerFactory, MessageFactory, rule

pytestmark = pytest.mark.django_db
PRO = {"match": "all", "rules": [rule("name", "is", "Pro")]}


def loaded_elsewhere(message: Message) -> Message:
    """Return another instance of the message, as loaded by a concurrent request."""
    return Message.objects.select_related("audience", "version").get(pk=message.pk)


def test_setting_live_uses_the_content_saved_in_the_meantime(at):
    message = MessageFactory(subject="old")
    stale = loaded_elsewhere(message)
    authoring.revise(message, subject="new", body="<p>{{ company.name }}</p>", by=None, at=at)
    authoring.change_audience(message, rules=PRO, by=None, at=at)

    lifecycle.set_live(stale, at=at)

    message = loaded_elsewhere(message)
    assert (message.version.subject, message.per_company) == ("new", True)
    assert message.audience.rules == message.version.rules == PRO


@pytest.mark.parametrize("send_type", ["ongoing", "one_off"])
def test_edit_of_a_draft_that_went_live_in_the_meantime_is_refused(at, send_type):
    CustomerFactory(email="a@x.example")
    message = MessageFactory(send_type=send_type)
    one, other = loaded_elsewhere(message), loaded_elsewhere(message)
    lifecycle.set_live(message, at=at)

    with pytest.raises(Locked, match="gone live"):
        authoring.revise(one, subject="other", body="<p>other</p>", by=None, at=at)
    with pytest.raises(Locked, match="gone live"):
        authoring.change_audience(other, rules=PRO, by=None, at=at)

    assert loaded_elsewhere(message).version.subject == "Hello"


def test_audience_change_of_a_message_resumed_in_the_meantime_is_refused(at):
    message = MessageFactory(live=True)
    lifecycle.pause(message)
    stale = loaded_elsewhere(message)
    lifecycle.resume(message, at=at)

    with pytest.raises(Locked, match="Pause"):
        authoring.change_audience(stale, rules=PRO, by=None, at=at)
