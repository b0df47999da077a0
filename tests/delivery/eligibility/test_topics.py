"""Topics: who opted out of the topic of a message does not get it, by any path (behaviour 4.28)."""

import uuid
from datetime import timedelta

import pytest
from django.db import DatabaseError, IntegrityError, transaction

from audiences.models import Customer, MessageTopic, OptOutSource, TopicOptOut, Workspace
from delivery.eligibility import conditions, explain
from delivery.eligibility.explain import Verdict
from delivery.matching import forecast, launch, rounds, verification
from delivery.matching.ongoing import compile_now
from delivery.models import DeliveryRecord, Reason, Status
from delivery.sending import claim
from delivery.visits import visit
from messaging import duplication
from messaging.models import Message
from outbound.messages import recipients
from tests.factories import CustomerFactory, MessageFactory, TopicFactory, TopicOptOutFactory, rule

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
LEFT_OUT = (Status.SKIPPED, Reason.OPTED_OUT)
QUEUED = (Status.WAITING, Reason.QUEUED)


def outcomes(message: Message) -> dict[str, tuple[str, str]]:
    """Return status and reason of each record by the customer's user_id."""
    rows = message.records.values_list("customer__user_id", "status", "reason")
    return {name: (status, reason) for name, status, reason in rows}


def opt_out(name: str, topic: MessageTopic, *, at) -> None:
    customer = Customer.objects.get(user_id=name)
    TopicOptOut.objects.opt_out([customer.pk], topic, source=OptOutSource.CUSTOMER, at=at)


@pytest.fixture
def tips() -> MessageTopic:
    return TopicFactory(name="Tips")


@pytest.fixture
def people(tips) -> dict[str, Customer]:
    """Ann gets everything; Bob opted out of “Tips”, Eve of another topic."""
    found = {name: CustomerFactory(user_id=name, email=f"{name}@x.example") for name in ("ann", "bob", "eve")}
    for customer in found.values():
        customer.devices.create(token=customer.user_id, created_at=customer.created_at)
    TopicOptOutFactory(customer=found["bob"], topic=tips)
    TopicOptOutFactory(customer=found["eve"], topic=TopicFactory(name="News"))
    return found


@pytest.mark.parametrize("channel", ["email", "push", "in_app"])
def test_one_off_skips_them_with_the_reason_by_every_channel(channel, tips, people, at):
    facts = {"format": "chat"} if channel == "in_app" else {}
    draft = MessageFactory(one_off=True, channel=channel, topic=tips, **facts)
    assert forecast.forecast(draft, at=at).left_out == {Reason.OPTED_OUT: 1}

    launch.launch(draft, at=at)

    waits = (Status.WAITING, Reason.VISIT if channel == "in_app" else Reason.QUEUED)
    assert outcomes(draft) == {"ann": waits, "bob": LEFT_OUT, "eve": waits}
    assert draft.records.get(customer=people["bob"]).why == "Opted out of the topic “Tips”"


def test_sample_is_drawn_from_those_who_did_not_opt_out(tips, people, at):
    TopicOptOutFactory(customer=people["eve"], topic=tips)
    draft = MessageFactory(one_off=True, topic=tips)

    launch.launch(draft, at=at, sample=3)

    assert outcomes(draft) == {"ann": QUEUED}


def test_ongoing_message_matches_them_once_they_opt_in_again(tips, people, at):
    message = MessageFactory(topic=tips, live=True, at=at)
    rounds.run_round(at=at)
    assert set(outcomes(message)) == {"ann", "eve"}

    TopicOptOut.objects.filter(topic=tips).delete()
    done = rounds.run_round(at=at + HOUR)

    assert outcomes(message)["bob"] == QUEUED
    assert done.by_changes == [message.pk]
    assert verification.missing_pairs(compile_now(message), at=at + HOUR) == []


def test_opt_out_after_the_match_holds_back_the_copy_at_the_claim(tips, people, at):
    ongoing, one_off = (MessageFactory(topic=tips, live=True, at=at, **kind) for kind in ({}, {"one_off": True}))
    plain = MessageFactory(live=True, at=at)
    rounds.run_round(at=at)
    opt_out("ann", tips, at=at)

    for message in (ongoing, one_off, plain):
        claim.claim(message, at=at, token=uuid.uuid4())

    assert outcomes(ongoing)["ann"] == (Status.WITHDRAWN, Reason.OPTED_OUT)
    assert outcomes(one_off)["ann"] == LEFT_OUT
    assert {status for status, _ in outcomes(plain).values()} == {Status.SENDING}


def test_opt_out_after_the_claim_is_seen_by_the_check_before_a_copy_begins(tips, people, at):
    message = MessageFactory(topic=tips, one_off=True, live=True, at=at)
    batch = claim.claim(message, at=at, token=uuid.uuid4())
    claimed = [record.pk for record in batch.records]
    assert claim.unreachable_records(message, claimed) == set()

    opt_out("ann", tips, at=at)

    assert claim.unreachable_records(message, claimed) == {message.records.get(customer=people["ann"]).pk}


@pytest.mark.parametrize("is_capped", [False, True])
def test_visit_shows_no_in_app_message_about_it(is_capped, tips, people, at):
    if is_capped:
        Workspace.objects.update(cap_messages=5, cap_days=1)
    ongoing = MessageFactory(in_app=True, topic=tips, live=True, at=at)
    one_off = MessageFactory(in_app=True, one_off=True, topic=tips, live=True, at=at)
    plain = MessageFactory(in_app=True, one_off=True, live=True, at=at)
    opt_out("ann", tips, at=at)

    shown = {
        name: {
            one.message
            for one in visit.visit_identified(lambda name=name: (Customer.objects.get(user_id=name), None), at=at).shown
        }
        for name in people
    }

    assert shown == {"ann": {plain.pk}, "bob": {plain.pk}, "eve": {plain.pk, ongoing.pk, one_off.pk}}
    assert outcomes(one_off) == {"ann": LEFT_OUT, "bob": LEFT_OUT, "eve": (Status.SENT, "")}


def test_list_of_recipients_reads_the_topic_with_the_records(tips, people, at, django_assert_num_queries):
    for customer in people.values():
        TopicOptOut.objects.opt_out([customer.pk], tips, source=OptOutSource.STAFF, at=at)
    CustomerFactory(user_id="ida", email="ida@x.example")
    message = MessageFactory(one_off=True, topic=tips, live=True, at=at)

    with django_assert_num_queries(1):
        reasons = [record.why for record in recipients.filtered_records(message, status="skipped", search="")]

    assert reasons == ["Opted out of the topic “Tips”"] * 3


def test_message_without_a_topic_does_not_read_the_opt_outs(people):
    plain = MessageFactory()

    asked = (
        claim.blocked_reason_sql(plain),
        conditions.unreachable_reason_sql(plain),
        conditions.reachable_sql(plain.channel, topic=plain.topic_id),
    )

    assert [sql for sql in asked if "topicoptout" in sql] == []


def test_why_and_the_forecast_name_the_topic(tips, people, at):
    message = MessageFactory(topic=tips, live=True, at=at)

    explained = explain.explain(message, people["bob"], at=at)

    assert explained.cases[0].verdict is Verdict.UNREACHABLE
    assert explained.unreachable_labels == ["Opted out of the topic “Tips”"]


def test_topic_is_locked_once_live_and_belongs_to_an_audience(tips, people, at):
    message = MessageFactory(topic=tips, live=True, at=at, rules=[rule("name", "is", "x")])
    assert duplication.duplicate(message, by=None, at=at).topic == tips

    with pytest.raises(DatabaseError, match="has been live"), transaction.atomic():
        Message.objects.filter(pk=message.pk).update(topic=None)
    with pytest.raises(IntegrityError, match="only_an_audience_has_a_topic"), transaction.atomic():
        MessageFactory(to_customer=people["ann"], topic=tips)


def test_customers_own_opt_out_replaces_that_of_the_api_and_not_the_reverse(tips, people, at):
    ann = people["ann"].pk
    for source, moment in (("api", at), ("customer", at + HOUR), ("api", at + 2 * HOUR), ("customer", at + 3 * HOUR)):
        TopicOptOut.objects.opt_out([ann], tips, source=OptOutSource(source), at=moment)

    row = TopicOptOut.objects.get(customer=ann, topic=tips)
    assert (row.source, row.created_at) == ("customer", at + HOUR)
    with pytest.raises(IntegrityError, match="topic_name_once"), transaction.atomic():
        TopicFactory(name="TIPS")
    assert DeliveryRecord.objects.count() == 0
