"""Double opt-in: a lead gets no email to an audience before they confirm their address (behaviour 4.30)."""

import uuid
from datetime import timedelta

import pytest

from audiences.models import Customer, Workspace
from audiences.models.consent import HAS_NOT_CONFIRMED
from delivery.eligibility import conditions, explain
from delivery.eligibility.explain import Verdict
from delivery.eligibility.live_messages import live_messages
from delivery.matching import direct, forecast, launch, rounds, verification
from delivery.matching.ongoing import compile_now
from delivery.models import Reason, Status
from delivery.sending import claim
from delivery.visits import visit
from messaging.models import Channel, Message
from tests.factories import CustomerFactory, MessageFactory, SenderFactory, rule

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
QUEUED = (Status.WAITING, Reason.QUEUED)
LEFT_OUT = (Status.SKIPPED, Reason.NOT_CONFIRMED)
EVERYONE = {"match": "any", "rules": [rule("role", "is", "user"), rule("role", "is", "lead")]}


def outcomes(message: Message) -> dict[str, tuple[str, str]]:
    """Return status and reason of each record by the customer's name."""
    rows = message.records.values_list("customer__name", "status", "reason")
    return {name: (status, reason) for name, status, reason in rows}


def switch(*, on: bool) -> None:
    Workspace.objects.update(double_opt_in=on)


@pytest.fixture
def people(at) -> dict[str, Customer]:
    """Ann is a user, Bea confirmed her address, Cid did not."""
    Workspace.current()
    switch(on=True)
    facts = {"ann": {}, "bea": {"lead": True, "opted_in_at": at}, "cid": {"lead": True}}
    found = {name: CustomerFactory(name=name, email=f"{name}@x.example", **fact) for name, fact in facts.items()}
    for customer in found.values():
        customer.devices.create(token=customer.name, created_at=at)
    return found


def test_one_off_skips_them_with_the_reason(people, at):
    draft = MessageFactory(one_off=True, rules=EVERYONE)
    assert forecast.forecast(draft, at=at).left_out == {Reason.NOT_CONFIRMED: 1}

    launch.launch(draft, at=at)

    assert outcomes(draft) == {"ann": QUEUED, "bea": QUEUED, "cid": LEFT_OUT}
    assert draft.records.get(customer=people["cid"]).why == "Has not confirmed the address"


def test_sample_is_drawn_from_the_others(people, at):
    draft = MessageFactory(one_off=True, rules=EVERYONE)

    launch.launch(draft, at=at, sample=3)

    assert outcomes(draft) == {"ann": QUEUED, "bea": QUEUED}


@pytest.mark.parametrize("channel", ["push", "in_app"])
def test_other_channels_reach_them(channel, people, at):
    facts = {"format": "chat"} if channel == "in_app" else {}
    message = MessageFactory(one_off=True, channel=channel, rules=EVERYONE, **facts)

    launch.launch(message, at=at)

    assert {status for status, _ in outcomes(message).values()} == {Status.WAITING}


def test_ongoing_message_matches_them_once_they_confirm(people, at):
    message = MessageFactory(live=True, at=at, rules=EVERYONE)
    rounds.run_round(at=at)
    assert set(outcomes(message)) == {"ann", "bea"}

    Customer.objects.filter(name="cid").update(opted_in_at=at)
    done = rounds.run_round(at=at + HOUR)

    assert outcomes(message)["cid"] == QUEUED
    assert done.by_changes == [message.pk]
    assert verification.missing_pairs(compile_now(message), at=at + HOUR) == []


def test_user_whose_address_nobody_proved_waits_until_it_is_proved(at):
    Workspace.current()
    switch(on=True)
    dan = CustomerFactory(name="dan", email="dan@x.example", email_is_said=True)
    ongoing, one_off = (MessageFactory(at=at, rules=EVERYONE, **kind) for kind in ({"live": True}, {"one_off": True}))
    launch.launch(one_off, at=at)
    rounds.run_round(at=at)
    assert (outcomes(ongoing), outcomes(one_off)) == ({}, {"dan": LEFT_OUT})

    Customer.objects.filter(pk=dan.pk).update(email_is_said=False)
    done = rounds.run_round(at=at + HOUR)

    assert (done.by_changes, outcomes(ongoing)) == ([ongoing.pk], {"dan": QUEUED})


def test_switching_it_off_and_on_makes_a_round_judge_everyone(people, at):
    message = MessageFactory(live=True, at=at, rules=EVERYONE)
    rounds.run_round(at=at)
    switch(on=False)

    assert rounds.run_round(at=at + HOUR).in_full == [message.pk]
    assert outcomes(message)["cid"] == QUEUED
    switch(on=True)
    claim.claim(message, at=at + HOUR, token=uuid.uuid4())
    assert outcomes(message)["cid"] == (Status.WITHDRAWN, Reason.NOT_CONFIRMED)
    rounds.run_round(at=at + 2 * HOUR)
    assert outcomes(message)["cid"] == (Status.WITHDRAWN, Reason.NOT_CONFIRMED)
    switch(on=False)
    rounds.run_round(at=at + 3 * HOUR)
    assert outcomes(message)["cid"] == QUEUED


def switch_on(cid: Customer) -> None:
    switch(on=True)


def change_address(cid: Customer) -> None:
    Customer.objects.filter(pk=cid.pk).update(email="new@x.example")


@pytest.mark.parametrize(("was", "change"), [({}, switch_on), ({"opted_in_at": "2026-05-01T00:00Z"}, change_address)])
def test_claim_and_the_check_before_a_copy_begins_ask_again(was, change, people, at):
    cid = people["cid"]
    switch(on=bool(was))
    Customer.objects.filter(pk=cid.pk).update(**was)
    ongoing, one_off, begun = (
        MessageFactory(live=True, at=at, rules=EVERYONE, **kind) for kind in ({}, {"one_off": True}, {"one_off": True})
    )
    rounds.run_round(at=at)
    claimed = [record.pk for record in claim.claim(begun, at=at, token=uuid.uuid4()).records]
    assert len(claimed) == 3
    assert claim.unreachable_records(begun, claimed) == set()

    change(cid)

    for message in (ongoing, one_off):
        claim.claim(message, at=at, token=uuid.uuid4())
    assert outcomes(ongoing)["cid"] == (Status.WITHDRAWN, Reason.NOT_CONFIRMED)
    assert outcomes(one_off)["cid"] == LEFT_OUT
    assert claim.unreachable_records(begun, claimed) == {begun.records.get(customer=cid).pk}


def test_visit_does_not_match_an_email_before_and_does_after(people, at):
    message = MessageFactory(live=True, at=at, rules=EVERYONE)

    def come() -> None:
        visit.visit_identified(lambda: (Customer.objects.get(name="cid"), None), at=at)

    come()
    assert outcomes(message) == {}
    Customer.objects.filter(name="cid").update(opted_in_at=at)
    come()
    assert outcomes(message) == {"cid": QUEUED}


def test_direct_message_reaches_them(people, at):
    record = direct.send_to_one(
        people["cid"],
        channel=Channel.EMAIL,
        format="",
        sender=SenderFactory(),
        subject="You asked",
        body="<p>Yes.</p>",
        by=None,
        at=at,
    )

    claim.claim(record.message, at=at, token=uuid.uuid4())

    assert outcomes(record.message) == {"cid": (Status.SENDING, "")}


def test_why_names_it(people, at):
    message = MessageFactory(live=True, at=at, rules=EVERYONE)

    explained = explain.explain(message, people["cid"], at=at)

    assert explained.cases[0].verdict is Verdict.UNREACHABLE
    assert explained.unreachable_labels == ["Has not confirmed the address"]
    assert conditions.unreachable_reasons(message, people["bea"]) == ()


def test_live_messages_have_the_condition_only_with_the_setting_and_claims_read_it(people, at):
    message = MessageFactory(live=True, at=at, rules=EVERYONE)
    sql = {}
    for on in (False, True):
        switch(on=on)
        generation = Workspace.current().generation
        (live,) = live_messages(generation=generation, database=Message.objects.db).ongoing
        sql[on] = live.reachable

    assert "opted_in_at" not in sql[False]
    assert sql[True] == f"{sql[False].removesuffix(')')} AND NOT ({HAS_NOT_CONFIRMED}))"
    assert conditions.DOUBLE_OPT_IN in claim.blocked_reason_sql(message)
    assert "opted_in_at" not in claim.blocked_reason_sql(MessageFactory(channel="push"))
