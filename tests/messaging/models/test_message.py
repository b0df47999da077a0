"""Messages: authoring, launch and transitions between states."""

from datetime import datetime, timedelta
from itertools import product

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction

from audiences.models import MessageTopic
from messaging import authoring, duplication, lifecycle
from messaging.models import NEXT_STATES, Message, NotReady, State, WrongState
from tests.factories import MessageFactory, TopicFactory, rule
from tests.support.rows import rolled_back

pytestmark = pytest.mark.django_db


def test_draft_is_edited_in_place_and_a_live_message_gets_a_new_version(at):
    message = MessageFactory(subject="one")
    authoring.revise(message, subject="two", body="<p>x</p>", by=None, at=at)
    assert message.versions.count() == 1
    lifecycle.set_live(message, at=at)
    authoring.revise(message, subject="three", body="<p>x</p>", by=None, at=at)

    assert list(message.versions.order_by("number").values_list("subject", flat=True)) == ["two", "three"]
    assert Message.objects.get(pk=message.pk).version.subject == "three"


def test_unknown_variable_is_refused_with_the_line_and_the_reason(at):
    message = MessageFactory(live=True)

    with pytest.raises(ValidationError) as refused:
        authoring.revise(message, subject="Hi", body="<p>one</p>\n<p>{{ nickname }}</p>", by=None, at=at)

    assert "Line 2" in str(refused.value.message_dict["body"])
    assert "nickname" in str(refused.value.message_dict["body"])


def test_draft_keeps_a_template_error_and_cannot_go_live(at):
    message = MessageFactory(body="<p>{{ name | }</p>")

    assert "Line 1" in authoring.launch_problems(message, at=at)[0]
    with pytest.raises(ValidationError):
        lifecycle.set_live(message, at=at)
    assert (message.goes_per_company, message.version.body) == (False, "<p>{{ name | }</p>")


def test_syntax_error_is_refused_once_live(at):
    message = MessageFactory(live=True)

    with pytest.raises(ValidationError) as refused:
        authoring.revise(message, subject="Hi", body="<p>{{ name | }</p>", by=None, at=at)

    assert "body" in refused.value.message_dict


def test_message_without_text_subject_or_sender_is_not_ready_and_lists_each(at):
    message = MessageFactory(sender=None, subject="", body="")

    with pytest.raises(NotReady) as missing:
        lifecycle.set_live(message, at=at)

    assert missing.value.messages == [
        "The message has no text yet.",
        "An email needs a subject.",
        "Choose who the message is from.",
    ]


def test_draft_and_its_copy_with_an_archived_topic_wait_for_another_topic(at):
    topic = TopicFactory(name="Tips")
    draft, live = MessageFactory(topic=topic), MessageFactory(topic=topic, live=True)
    MessageTopic.objects.update(is_archived=True)

    # Without the topic, the copy would reach customers who opted out of it.
    for one in (draft, duplication.duplicate(live, by=None, at=at)):
        with pytest.raises(NotReady) as refused:
            lifecycle.set_live(Message.objects.get(pk=one.pk), at=at)
        assert refused.value.message_dict == {"topic": ["The topic “Tips” is archived. Choose another topic, or none."]}
    assert authoring.launch_problems(Message.objects.get(pk=live.pk), at=at) == []


def test_edit_that_would_add_the_first_company_variable_is_refused_once_live(at):
    message = MessageFactory(live=True)

    with pytest.raises(ValidationError, match="add the first company variable"):
        authoring.revise(message, subject="Hi", body="<p>{{ company.name }}</p>", by=None, at=at)


def test_edit_that_would_remove_the_last_company_variable_is_refused_once_live(at):
    message = MessageFactory(body="<p>{{ company.name }}</p>", live=True)

    with pytest.raises(ValidationError, match="remove the last company variable"):
        authoring.revise(message, subject="Hi", body="<p>everyone</p>", by=None, at=at)


def test_rules_of_an_ongoing_message_are_edited_while_paused_as_a_logged_version(at, django_user_model):
    author = django_user_model.objects.create(username="ada")
    message = MessageFactory(live=True)
    with pytest.raises(ValidationError, match="Pause this message"):
        authoring.change_audience(
            message, rules={"match": "all", "rules": [rule("name", "is", "Pro")]}, by=author, at=at
        )
    lifecycle.pause(message)
    authoring.change_audience(message, rules={"match": "all", "rules": [rule("name", "is", "Pro")]}, by=author, at=at)

    newest = message.versions.get(number=2)
    assert (newest.author, newest.rules["rules"][0]["value"]) == (author, "Pro")


def test_rules_of_a_one_off_are_never_edited_once_live(at):
    message = MessageFactory(send_type="one_off")
    lifecycle.set_live(message, at=at)
    lifecycle.pause(message)

    with pytest.raises(ValidationError, match="one-off"):
        authoring.change_audience(message, rules={}, by=None, at=at)


def test_database_allows_only_the_transitions_of_the_table(at, subtests):
    message = MessageFactory(send_type="one_off")
    for before, after in product(State, repeat=2):
        with subtests.test(before=before, after=after), rolled_back():
            check_transition(message, before, after, at=at)


def check_transition(message: Message, before: State, after: State, *, at: datetime) -> None:
    went_live_at = None if before in ("draft", "scheduled") else at
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")  # Allows any initial state.
        cursor.execute(
            "UPDATE messaging_message SET state = %s, went_live_at = %s, scheduled_for = %s WHERE id = %s",
            [before, went_live_at, at, message.pk],
        )
        cursor.execute("SET LOCAL session_replication_role = DEFAULT")

    def move() -> None:
        facts = {"state": after}
        if after not in ("draft", "scheduled") and went_live_at is None:
            facts["went_live_at"] = at
        with transaction.atomic():
            Message.objects.filter(pk=message.pk).update(**facts)

    if after in NEXT_STATES[before] or after == before:
        move()
    else:
        with pytest.raises(IntegrityError):
            move()


def test_pausing_a_message_that_is_not_live_gives_the_reason(at):
    with pytest.raises(WrongState, match="Only a live message can be paused"):
        lifecycle.pause(MessageFactory())


def test_second_of_two_concurrent_launches_is_refused(at):
    message = MessageFactory()
    other = Message.objects.get(pk=message.pk)
    lifecycle.set_live(message, at=at)

    with pytest.raises(WrongState):
        lifecycle.set_live(other, at=at)


def test_only_a_one_off_is_scheduled_and_only_for_the_future(at):
    with pytest.raises(NotReady, match="Only a one-off"):
        lifecycle.schedule(MessageFactory(), for_=at + timedelta(days=1), at=at)
    message = MessageFactory(send_type="one_off")
    with pytest.raises(NotReady, match="future"):
        lifecycle.schedule(message, for_=at, at=at)

    lifecycle.schedule(message, for_=at + timedelta(days=1), at=at)
    assert message.state == State.SCHEDULED
    lifecycle.unschedule(message)
    assert Message.objects.get(pk=message.pk).state == State.DRAFT
