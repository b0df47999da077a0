"""Two who have the same message before them: whoever comes second loses nobody's work, and breaks no lock."""

import pytest

from messaging import authoring, lifecycle
from messaging.models import Locked, Message
from tests.factories import CustomerFactory, MessageFactory, rule

pytestmark = pytest.mark.django_db
PRO = {"match": "all", "rules": [rule("name", "is", "Pro")]}


def as_loaded_before(message: Message) -> Message:
    """The message as somebody else has it since before what comes next."""
    return Message.objects.select_related("audience", "version").get(pk=message.pk)


def test_setting_live_takes_what_was_written_meanwhile(at):
    message = MessageFactory(subject="old")
    stale = as_loaded_before(message)
    authoring.revise(message, subject="new", body="<p>{{ company.name }}</p>", by=None, at=at)
    authoring.change_audience(message, rules=PRO, by=None, at=at)

    lifecycle.set_live(stale, at=at)

    message = as_loaded_before(message)
    assert (message.version.subject, message.per_company) == ("new", True)
    assert message.audience.rules == message.version.rules == PRO


@pytest.mark.parametrize("send_type", ["ongoing", "one_off"])
def test_draft_that_went_live_meanwhile_is_edited_no_more(at, send_type):
    CustomerFactory(email="a@x.example")
    message = MessageFactory(send_type=send_type)
    one, other = as_loaded_before(message), as_loaded_before(message)
    lifecycle.set_live(message, at=at)

    with pytest.raises(Locked, match="gone live"):
        authoring.revise(one, subject="other", body="<p>other</p>", by=None, at=at)
    with pytest.raises(Locked, match="gone live"):
        authoring.change_audience(other, rules=PRO, by=None, at=at)

    assert as_loaded_before(message).version.subject == "Hello"


def test_message_that_was_resumed_meanwhile_keeps_its_filters(at):
    message = MessageFactory(live=True)
    lifecycle.pause(message)
    stale = as_loaded_before(message)
    lifecycle.resume(message, at=at)

    with pytest.raises(Locked, match="Pause"):
        authoring.change_audience(stale, rules=PRO, by=None, at=at)
