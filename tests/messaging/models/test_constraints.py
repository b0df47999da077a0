"""Database constraints of messages: after a message has been live, its send settings cannot be changed."""

import pytest
from django.db import IntegrityError, connection, transaction

from messaging import lifecycle
from messaging.models import Message, MessageVersion
from tests.factories import AudienceFactory, CustomerFactory, MessageFactory, rule

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "change",
    [
        "send_type = 'one_off'",
        "channel = 'push'",
        "per_company = TRUE",
        "went_live_at = NULL",
        "went_live_at = went_live_at + interval '1 second'",
    ],
)
@pytest.mark.parametrize("state", ["live", "paused", "stopped"])
def test_raw_sql_cannot_change_how_a_live_message_sends(change, state):
    message = MessageFactory(live=True)
    if state != "live":
        {"paused": lifecycle.pause, "stopped": lifecycle.stop}[state](message)

    with pytest.raises(IntegrityError, match="can"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE messaging_message SET {change} WHERE id = %s", [message.pk])  # noqa: S608


def test_title_of_a_live_message_can_change():
    message = MessageFactory(live=True)

    assert Message.objects.filter(pk=message.pk).update(title="Better") == 1


def test_audience_of_a_live_message_cannot_be_exchanged():
    message = MessageFactory(live=True)

    with pytest.raises(IntegrityError), transaction.atomic():
        Message.objects.filter(pk=message.pk).update(audience=AudienceFactory())


@pytest.mark.parametrize("send_type", ["ongoing", "one_off"])
def test_raw_sql_cannot_change_the_rules_of_a_live_message(send_type):
    CustomerFactory(email="a@x.example")
    message = MessageFactory(live=True, send_type=send_type)

    with pytest.raises(IntegrityError, match="Whom it goes to"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            """UPDATE audiences_audience SET rules = '{"match": "any", "rules": []}' WHERE id = %s""",
            [message.audience_id],
        )


def test_version_that_was_live_cannot_be_changed():
    message = MessageFactory(live=True)

    with pytest.raises(IntegrityError, match="new version"), transaction.atomic():
        MessageVersion.objects.filter(pk=message.version_id).update(body="other")


def test_message_that_was_live_cannot_be_deleted():
    message = MessageFactory(live=True)

    with pytest.raises(IntegrityError, match="stopped, not deleted"), transaction.atomic(), connection.cursor() as c:
        c.execute("DELETE FROM messaging_message WHERE id = %s", [message.pk])


def test_draft_can_change_every_field():
    message = MessageFactory(rules=[rule("name", "is", "Pro")])
    message.channel, message.send_type = "push", "one_off"

    message.save()

    message.refresh_from_db()
    assert (message.channel, message.send_type) == ("push", "one_off")
