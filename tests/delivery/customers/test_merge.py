"""Merge of a lead into a user: nothing is sent twice, no thread is lost."""

from datetime import timedelta

import pytest
from django.db import DatabaseError, connection, transaction

from audiences import intake
from audiences.intake import Source
from audiences.intake.attributes.fields import raise_refusal
from audiences.models import Company, ConfirmationMail, Customer, Event, EventSummary, Note, Tag, TopicOptOut
from audiences.models.customers import Role
from delivery.conversations import threads
from delivery.customers import merge
from delivery.matching import direct, ongoing
from delivery.models import Conversation, DeliveryRecord, Reason, Status
from delivery.visits import visit
from messaging.models import Message
from tests.factories import (
    CompanyFactory,
    CustomerFactory,
    CustomerTagFactory,
    MembershipFactory,
    MessageFactory,
    SenderFactory,
    TagFactory,
    TopicFactory,
    TopicOptOutFactory,
)
from tests.support.records import mark_records_sent

pytestmark = pytest.mark.django_db


@pytest.fixture
def lead() -> Customer:
    return CustomerFactory(lead=True, name="")


@pytest.fixture
def user() -> Customer:
    return CustomerFactory(user_id="ann", name="Ann")


def everyone(**facts: object) -> Message:
    """Create a live in-app message to leads and users."""
    role = {"attribute": "role", "operator": "is", "value": "lead"}
    rules = {"match": "any", "rules": [role, {**role, "operator": "is_not"}]}
    return MessageFactory(in_app=True, live=True, rules=rules, **facts)


def record_of(customer: Customer) -> DeliveryRecord:
    return DeliveryRecord.objects.get(customer=customer)


def test_every_table_related_to_a_customer_moves():
    pointing = {
        relation.related_model
        for relation in Customer._meta.get_fields(include_hidden=True)
        if relation.auto_created and not relation.concrete and relation.related_model is not Customer
    }

    assert pointing == set(merge.MOVES)


def test_every_status_has_a_rank():
    assert set(merge.STATUS_RANK) == set(Status)


def test_lead_becomes_the_user_if_the_user_is_new(lead, at):
    everyone()
    visit.visit(lead, at=at)

    facts = {"user_id": "ann", "name": "Ann"}
    user = merge.log_in(lead, facts, at=at, source=Source.BROWSER, on_bad_value=raise_refusal)

    assert (user.pk, user.user_id, user.role, user.name) == (lead.pk, "ann", Role.USER, "Ann")
    assert record_of(user).status == Status.SENT


def test_lead_with_a_unique_email_becomes_the_user(lead, at):
    user = merge.log_in(lead, {"email": "Ann@x.example"}, at=at, source=Source.BROWSER, on_bad_value=raise_refusal)

    assert (user.pk, user.email, user.role) == (lead.pk, "ann@x.example", Role.USER)


def test_existing_user_takes_over_the_leads_data(lead, user, at):
    lead.last_heard_from_at, lead.phone, lead.attributes = at, "123", {"seats": 5, "plan": "free"}
    lead.email, lead.session_count, lead.first_seen_at = "ann@x.example", 2, at - timedelta(days=2)
    lead.save()
    user.attributes, user.session_count, user.first_seen_at = {"plan": "pro"}, 3, at - timedelta(days=1)
    user.last_seen_at = at - timedelta(days=40)
    user.save()
    Note.objects.create(customer=lead, body="Met at the fair", created_at=at)

    merge.merge(lead, into=user, at=at)

    user.refresh_from_db()
    assert (user.email, user.phone, user.name, user.session_count) == ("ann@x.example", "123", "Ann", 5)
    assert user.attributes == {"seats": 5, "plan": "pro"}
    assert (user.last_heard_from_at, user.first_seen_at) == (at, at - timedelta(days=2))
    assert user.last_seen_at == at - timedelta(days=40)
    assert Note.objects.get().customer == user
    lead.refresh_from_db()
    assert (lead.email, lead.archived_at) == (None, at)


def test_opt_out_of_either_stays(lead, user, at):
    lead.unsubscribed_from_emails, lead.unsubscribed_by_customer_at = True, at
    lead.save()

    merge.merge(lead, into=user, at=at)

    user.refresh_from_db()
    assert (user.unsubscribed_from_emails, user.unsubscribed_by_customer_at) == (True, at)


@pytest.mark.parametrize(
    ("email_of_lead", "email_of_user", "confirmed", "stays"),
    [
        ("ann@x.example", None, "lead", True),
        ("ann@x.example", "ann@x.example", "lead", True),
        ("ann@x.example", "ann@x.example", "user", True),
        ("old@x.example", "ann@x.example", "lead", False),
        ("old@x.example", "ann@x.example", "user", True),
    ],
)
def test_confirmation_of_an_address_stays_with_the_address(
    email_of_lead, email_of_user, confirmed, stays, lead, user, at
):
    Customer.objects.filter(pk=lead.pk).update(email=email_of_lead)
    Customer.objects.filter(pk=user.pk).update(email=email_of_user)
    Customer.objects.filter(pk={"lead": lead, "user": user}[confirmed].pk).update(opted_in_at=at)
    ConfirmationMail.objects.request(email_of_lead, customer=lead, at=at)

    merge.merge(lead, into=user, at=at)

    for customer in (lead, user):
        customer.refresh_from_db()
    assert (lead.opted_in_at, user.opted_in_at) == (None, at if stays else None)
    assert ConfirmationMail.objects.get().customer == user


def test_user_has_the_topic_opt_outs_of_both_and_the_customers_own_word_counts(lead, user, at):
    tips, news, sales = TopicFactory(name="Tips"), TopicFactory(name="News"), TopicFactory(name="Sales")
    for customer, topic, source in (
        *((lead, tips, "customer"), (user, tips, "api"), (lead, news, "staff")),
        *((lead, sales, "api"), (user, sales, "customer")),
    ):
        TopicOptOutFactory(customer=customer, topic=topic, source=source)

    merge.merge(lead, into=user, at=at)

    rows = TopicOptOut.objects.values_list("customer", "topic__name", "source").order_by("topic__name")
    assert list(rows) == [(user.pk, "News", "staff"), (user.pk, "Sales", "customer"), (user.pk, "Tips", "customer")]


def test_tags_companies_and_events_are_merged_without_duplicates(lead, user, at):
    both, hers = TagFactory(name="both"), TagFactory(name="hers")
    for customer, tag in ((lead, both), (user, both), (lead, hers)):
        CustomerTagFactory(customer=customer, tag=tag)
    acme, other = CompanyFactory(), CompanyFactory()
    for customer, company in ((lead, acme), (user, acme), (lead, other)):
        MembershipFactory(customer=customer, company=company)
    for customer, name, moment in (
        (lead, "ordered", at), (user, "ordered", at), (lead, "ordered", at - timedelta(days=3)),
        (user, "ordered", at + timedelta(hours=1)), (lead, "signed-in", at), (user, "paid", at),
        (lead, "paid", at),
    ):  # fmt: skip
        intake.record_event(customer, name, moment, {}, at=at)

    merge.merge(lead, into=user, at=at)

    assert set(user.tags.all()) == set(Tag.objects.all()) == {both, hers}
    assert set(user.companies.all()) == set(Company.objects.all())
    assert Event.objects.filter(customer=user).count() == Event.objects.count() == 5
    kept = {summary.name: (summary.count, summary.first_at, summary.last_at) for summary in EventSummary.objects.all()}
    assert kept == {
        "ordered": (3, at - timedelta(days=3), at + timedelta(hours=1)), "signed-in": (1, at, at), "paid": (1, at, at),
    }  # fmt: skip


def test_message_of_the_lead_moves_to_the_user_and_is_not_sent_again(lead, user, at):
    everyone()
    visit.visit(lead, at=at)

    merge.merge(lead, into=user, at=at)

    assert record_of(user).status == Status.SENT
    assert len(visit.visit(user, at=at).shown) == 1
    assert DeliveryRecord.objects.count() == 1


def test_of_two_records_for_one_message_the_higher_rank_stays(lead, user, at):
    everyone()
    for customer in (lead, user):
        visit.visit(customer, at=at)
    mine, theirs = record_of(lead), record_of(user)
    DeliveryRecord.objects.filter(pk=mine.pk).update(opened_at=at)

    merge.merge(lead, into=user, at=at)

    assert record_of(user) == mine
    theirs.refresh_from_db()
    assert (theirs.customer, theirs.status, theirs.reason) == (lead, Status.SKIPPED, Reason.MERGED)
    assert not Customer.objects.exclude(pk__in=[lead.pk, user.pk]).exists()


def test_users_record_stays_if_both_have_the_same_rank(lead, user, at):
    everyone()
    for customer in (lead, user):
        visit.visit(customer, at=at)
    theirs = record_of(user)

    merge.merge(lead, into=user, at=at)

    assert record_of(user) == theirs
    assert record_of(lead).reason == Reason.MERGED
    assert list(Conversation.objects.of_customer(user)) == [theirs.conversation]


@pytest.mark.parametrize("status", [Status.SENT, Status.SENDING, Status.UNCERTAIN])
def test_email_sent_or_possibly_sent_to_the_lead_is_not_sent_to_the_user(lead, user, at, status):
    message = everyone(channel="email", format="")
    Customer.objects.filter(pk=lead.pk).update(email="lead@x.example")
    Customer.objects.filter(pk=user.pk).update(email="ann@x.example")
    ongoing.match(message, at=at)
    mine = DeliveryRecord.objects.filter(customer=lead)
    mine.mark_sending(claim="00000000-0000-4000-8000-000000000000", until=at)
    if status == Status.SENT:
        mark_records_sent(mine, at=at)
    if status == Status.UNCERTAIN:
        mine.mark_uncertain(reason=Reason.LOST_TOUCH, detail="")

    merge.merge(lead, into=user, at=at)
    ongoing.match(message, at=at)

    assert record_of(user).status == status
    assert not DeliveryRecord.objects.due(at).exists()


def test_thread_with_replies_is_kept_if_both_had_the_message(lead, user, at):
    everyone()
    for customer in (lead, user):
        visit.visit(customer, at=at)
    said = record_of(lead).conversation
    threads.reply_by_customer(said, body="Hello?", at=at)
    DeliveryRecord.objects.filter(customer=user).update(replied_at=at, opened_at=at)

    merge.merge(lead, into=user, at=at)

    assert set(Conversation.objects.of_customer(user)) == {said, record_of(user).conversation}


def test_conversations_of_the_lead_move_to_the_user(lead, user, at):
    begun = threads.open_by_customer(lead, body="Do you ship?", at=at)

    merge.merge(lead, into=user, at=at)

    begun.refresh_from_db()
    assert begun.customer == user


def test_message_written_to_the_lead_reaches_the_user(lead, user, at):
    direct.send_to_one(
        lead, channel="in_app", format="chat", sender=SenderFactory(), subject="", body="<p>You</p>", by=None, at=at
    )

    merge.merge(lead, into=user, at=at)

    (shown,) = visit.visit(user, at=at).shown
    assert shown.body == "<p>You</p>"


def test_merge_is_idempotent(lead, user, at):
    everyone()
    for customer in (lead, user):
        visit.visit(customer, at=at)
    merge.merge(lead, into=user, at=at)
    before = list(DeliveryRecord.objects.order_by("pk").values())

    merge.merge(lead, into=user, at=at)

    assert list(DeliveryRecord.objects.order_by("pk").values()) == before


def test_only_a_merge_moves_records_and_messages(lead, user, at):
    everyone()
    visit.visit(lead, at=at)
    direct.send_to_one(
        lead, channel="in_app", format="chat", sender=SenderFactory(), subject="", body="<p>You</p>", by=None, at=at
    )
    merge.merge(CustomerFactory(lead=True), into=CustomerFactory(), at=at)
    for rows, fact in ((DeliveryRecord.objects, "customer"), (Message.objects.to_one_person(), "to_customer")):
        with pytest.raises(DatabaseError), transaction.atomic():
            rows.update(**{fact: user})
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('outbound.merging', true)")
        assert cursor.fetchone()[0] != "on"
