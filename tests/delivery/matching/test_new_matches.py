"""Ongoing messages to people who start to match after go-live (behaviour 4.21)."""

from datetime import timedelta

import pytest
from django.db import DatabaseError, transaction

from audiences import intake
from audiences.models import Customer
from delivery.customers import merge
from delivery.eligibility import explain
from delivery.eligibility.explain import Verdict
from delivery.matching import forecast, launch, lifecycle, ongoing, rounds, verification
from delivery.models import DeliveryRecord, Reason, Status
from delivery.visits import visit
from messaging import authoring, duplication
from messaging import lifecycle as message_lifecycle
from messaging.models import Message, SendType
from tests.factories import (
    CompanyFactory,
    CustomerFactory,
    EventSummaryFactory,
    MembershipFactory,
    MessageFactory,
    rule,
)

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
LEFT_OUT = (Status.SKIPPED, Reason.MATCHED_AT_LAUNCH)
PRO = [rule("country", "is", "FR")]


def outcomes(message: Message) -> dict[str, tuple[str, str]]:
    """Return status and reason of each record by the customer's user_id."""
    rows = message.records.values_list("customer__user_id", "status", "reason")
    return {name: (status, reason) for name, status, reason in rows}


def change(name: str, **facts: object) -> None:
    Customer.objects.filter(user_id=name).update(**facts)


@pytest.mark.django_db(transaction=True)
def test_people_who_match_at_go_live_are_left_out_for_good(at, settings):
    for name, facts in {"ann": {}, "bob": {"unsubscribed_from_emails": True}, "eve": {"country": "DE"}}.items():
        CustomerFactory(user_id=name, email=f"{name}@x.example", **{"country": "FR", **facts})
    draft = MessageFactory(rules=PRO, only_new_matches=True)
    assert forecast.forecast(draft, at=at).left_out == {Reason.MATCHED_AT_LAUNCH: 2}

    launch.launch(draft, at=at)
    message = Message.objects.get(pk=draft.pk)
    assert outcomes(message) == {"ann": LEFT_OUT, "bob": LEFT_OUT}

    rounds.run_round(at=at)
    change("ann", country="DE")
    change("bob", unsubscribed_from_emails=False)
    rounds.run_round(at=at + HOUR)
    change("ann", country="FR")
    change("eve", country="FR")
    done = rounds.run_round(at=at + 2 * HOUR)
    assert (done.by_changes, done.made) == ([message.pk], 1)
    assert verification.missing_pairs(ongoing.compile_now(message), at=at + 2 * HOUR) == []

    # An edit of the rules, and a full match after it, do not renew the list.
    lifecycle.pause(message)
    either = {"match": "any", "rules": [*PRO, rule("country", "is", "IT")]}
    authoring.change_audience(message, rules=either, by=None, at=at + 2 * HOUR)
    CustomerFactory(user_id="ida", email="ida@x.example", country="IT")
    message_lifecycle.resume(message, at=at + 3 * HOUR)
    rounds.run_round(at=at + 3 * HOUR)

    waiting = (Status.WAITING, Reason.QUEUED)
    assert outcomes(message) == {"ann": LEFT_OUT, "bob": LEFT_OUT, "eve": waiting, "ida": waiting}
    explained = explain.explain(message, Customer.objects.get(user_id="ann"), at=at)
    assert explained.cases[0].verdict is Verdict.SKIPPED


def test_event_counts_only_after_go_live(at):
    once = {"first_at": at - HOUR, "last_at": at - HOUR}
    for name, country in (("ann", "FR"), ("bob", "DE"), ("eve", "DE")):
        customer = CustomerFactory(user_id=name, email=f"{name}@x.example", country=country)
        EventSummaryFactory(customer=customer, name="ordered", count=9, **once)
        EventSummaryFactory(customer=customer, name="left", **once)
    both = [*PRO, rule("event.ordered", "has_happened"), rule("event_count.ordered", "greater_than", 2)]
    none = {"match": "none", "rules": [rule("event.left", "has_happened")]}
    to_all = MessageFactory(rules=both, only_new_matches=True, live=True, at=at)
    to_none = MessageFactory(rules=[*PRO, none], only_new_matches=True, live=True, at=at)
    CustomerFactory(user_id="new", email="new@x.example", country="FR")
    change("bob", country="FR")
    change("eve", country="FR")
    eve = Customer.objects.get(user_id="eve")
    intake.record_event(eve, "ordered", at + HOUR / 2, {}, at=at + HOUR)

    ongoing.match(to_all, at=at + HOUR)
    ongoing.match(to_none, at=at + HOUR)

    waiting = (Status.WAITING, Reason.QUEUED)
    assert outcomes(to_all) == {"ann": LEFT_OUT, "eve": waiting}
    # “None of” has no use for the moment: Bob and Eve left before go-live.
    assert outcomes(to_none) == {"new": waiting}


def test_in_app_message_is_shown_only_to_new_matches(at):
    ann = CustomerFactory(user_id="ann", country="FR")
    message = MessageFactory(in_app=True, rules=PRO, only_new_matches=True, live=True, at=at)
    new = CustomerFactory(user_id="new", country="FR")

    visit.visit(ann, at=at + HOUR)
    visit.visit(new, at=at + HOUR)

    assert outcomes(message) == {"ann": LEFT_OUT, "new": (Status.SENT, "")}


def test_company_message_leaves_out_pairs(at):
    ann = CustomerFactory(user_id="ann", email="ann@x.example")
    MembershipFactory(customer=ann, company__company_id="old")
    CustomerFactory(user_id="alone", email="alone@x.example")
    message = MessageFactory(body="<p>{{ company.name }}</p>", only_new_matches=True, live=True, at=at)
    MembershipFactory(customer=ann, company=CompanyFactory(company_id="new"))

    ongoing.match(message, at=at + HOUR)

    found = message.records.values_list("company__company_id", "status")
    assert set(found) == {("old", Status.SKIPPED), ("new", Status.WAITING)}


@pytest.mark.parametrize("left_out", ["lead", "user"])
@pytest.mark.parametrize("other", [None, Status.WAITING, Status.SENT])
def test_merge_keeps_who_was_left_out(left_out, other, at):
    people = {"lead": CustomerFactory(lead=True, user_id=None), "user": CustomerFactory(user_id="ann")}
    message = MessageFactory(in_app=True, rules=PRO, only_new_matches=True, live=True, at=at)
    facts = {"message": message, "matched_at": at}
    DeliveryRecord.objects.create(
        customer=people.pop(left_out), status=Status.SKIPPED, reason=Reason.MATCHED_AT_LAUNCH, **facts
    )
    (rest,) = people.values()
    if other:
        sent = {"sent_at": at, "version": message.version} if other == Status.SENT else {"reason": Reason.VISIT}
        DeliveryRecord.objects.create(customer=rest, status=other, **sent, **facts)

    user = Customer.objects.get(user_id="ann")
    merge.merge(Customer.objects.get(role="lead"), into=user, at=at)

    expected = Status.SENT if other == Status.SENT else Status.SKIPPED
    kept = DeliveryRecord.objects.get(customer=user)
    assert kept.status == expected
    assert (kept.reason == Reason.MATCHED_AT_LAUNCH) == (expected == Status.SKIPPED)


def test_option_is_locked_once_live_and_is_for_ongoing_messages(at):
    message = MessageFactory(only_new_matches=True, live=True, at=at)
    with pytest.raises(DatabaseError, match="can no longer be changed"), transaction.atomic():
        Message.objects.filter(pk=message.pk).update(only_new_matches=False)
    with pytest.raises(DatabaseError, match="only_ongoing_waits_for_new_matches"), transaction.atomic():
        MessageFactory(one_off=True, only_new_matches=True)

    assert duplication.duplicate(message, by=None, at=at).only_new_matches
    one_off = duplication.duplicate(message, by=None, at=at, send_type=SendType.ONE_OFF)
    assert not one_off.only_new_matches
