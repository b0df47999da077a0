"""The suppression list: every path that sets a flag or gives an address to a customer follows it (behaviour 4.22)."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from audiences import intake
from audiences.intake.csv_import.upsert import COLUMNS, suppress_addresses, upsert_slice
from audiences.models import Customer, Suppression, SuppressionReason, SuppressionSource
from audiences.models.suppression import FLAG_OF_REASON
from delivery.customers import erase, merge
from delivery.matching import ongoing
from delivery.models import DeliveryRecord, Reason, Status
from delivery.sending import dispatcher, suppression
from delivery.tracking import links
from tests.factories import AT, CustomerFactory, MessageFactory

pytestmark = pytest.mark.django_db
LATER = AT + timedelta(hours=1)
ADDRESS = "ada@x.example"
# The flag of a customer for each reason.
FLAGS = {
    SuppressionReason.OPT_OUT: "unsubscribed_from_emails",
    SuppressionReason.HARD_BOUNCE: "has_hard_bounced",
    SuppressionReason.COMPLAINT: "marked_email_as_spam",
}


def suppress(reason: SuppressionReason = SuppressionReason.OPT_OUT, address: str = ADDRESS) -> None:
    Suppression.objects.suppress(address, reason, source=SuppressionSource.STAFF, at=AT)


def is_flagged(user_id: str, reason: SuppressionReason = SuppressionReason.OPT_OUT) -> bool:
    return bool(getattr(Customer.objects.get(user_id=user_id), FLAGS[reason]))


def import_row(**facts: object) -> None:
    row = dict.fromkeys(COLUMNS) | {"line": 1} | facts
    with connection.cursor() as cursor:
        upsert_slice(cursor, [[row[name] for name in COLUMNS]], tag=None, at=LATER)


# Each gives ADDRESS to the customer "new", who may exist with another address.
PATHS = {
    "REST creates": lambda: intake.identify({"user_id": "new", "email": "Ada@X.example"}, at=LATER),
    "REST changes the address": lambda: (
        intake.identify({"user_id": "new", "email": "old@x.example"}, at=AT),
        intake.identify({"user_id": "new", "email": ADDRESS}, at=LATER),
    ),
    "import creates": lambda: import_row(user_id="new", email=ADDRESS),
    "import changes the address": lambda: (
        CustomerFactory(user_id="new", email="old@x.example"),
        import_row(user_id="new", email=ADDRESS),
    ),
    "bulk update": lambda: (
        CustomerFactory(user_id="new", email=None),
        Customer.objects.filter(user_id="new").update(email=ADDRESS),
    ),
    "merge of a lead": lambda: merge.merge(
        CustomerFactory(lead=True, email=ADDRESS), into=CustomerFactory(user_id="new", email=None), at=LATER
    ),
}


def test_every_reason_has_a_flag():
    assert set(FLAGS) == set(FLAG_OF_REASON) == set(SuppressionReason)


@pytest.mark.parametrize("reason", SuppressionReason)
@pytest.mark.parametrize("path", PATHS)
def test_entry_holds_for_customers_who_get_the_address_later(path, reason):
    suppress(reason)

    PATHS[path]()

    assert is_flagged("new", reason)


@pytest.mark.parametrize("reason", SuppressionReason)
def test_flag_of_one_customer_holds_for_every_customer_with_the_address(reason):
    CustomerFactory(user_id="other", email=ADDRESS)
    moment = {"unsubscribed_by_customer_at": AT} if reason is SuppressionReason.OPT_OUT else {}

    Customer.objects.filter(pk=CustomerFactory(user_id="ada", email=ADDRESS).pk).update(
        **{FLAGS[reason]: True}, **moment
    )

    assert is_flagged("other", reason)
    assert Suppression.objects.active().get().reason == reason


@pytest.mark.parametrize("reason", SuppressionReason)
def test_no_sync_and_no_stale_row_undoes_an_entry(reason):
    customer = CustomerFactory(user_id="ada", email=ADDRESS)
    suppress(reason)

    customer.save()
    answered = intake.identify({"user_id": "ada", "unsubscribed_from_emails": False}, at=LATER)
    import_row(user_id="ada", unsubscribed_from_emails=False)
    Customer.objects.update(unsubscribed_from_emails=False, has_hard_bounced=False, marked_email_as_spam=False)

    assert is_flagged("ada", reason)
    assert getattr(answered, FLAGS[reason]) is True


def test_dead_mailbox_belongs_to_the_address_alone_and_an_opt_out_to_the_customer_too():
    CustomerFactory(user_id="ada", email=ADDRESS)
    for reason in SuppressionReason:
        suppress(reason)

    moved = intake.identify({"user_id": "ada", "email": "new@x.example"}, at=LATER)

    assert (moved.has_hard_bounced, moved.unsubscribed_from_emails, moved.marked_email_as_spam) == (False, True, True)
    intake.identify({"user_id": "second", "email": ADDRESS}, at=LATER)
    assert is_flagged("second", SuppressionReason.HARD_BOUNCE)


@pytest.mark.parametrize("reason", SuppressionReason)
def test_lifted_entry_clears_every_customer_with_the_address_and_keeps_its_row(reason):
    for user_id in ("ada", "second"):
        CustomerFactory(user_id=user_id, email=ADDRESS)
    suppress(reason)

    assert Suppression.objects.of_address(ADDRESS).lift(at=LATER) == 1

    assert not is_flagged("ada", reason)
    assert not is_flagged("second", reason)
    assert Suppression.objects.get().lifted_at == LATER
    suppress(reason)
    assert is_flagged("ada", reason)
    assert Suppression.objects.active().count() == 1


def test_opt_out_that_rest_reports_is_rests_own_and_stays_off_the_list():
    intake.identify({"user_id": "ada", "email": ADDRESS, "unsubscribed_from_emails": True}, at=AT)
    assert not Suppression.objects.exists()

    assert not intake.identify({"user_id": "ada", "unsubscribed_from_emails": False}, at=AT).unsubscribed_from_emails


def test_unsubscribe_link_lists_the_address_and_subscribing_again_lifts_it():
    ada = CustomerFactory(email=ADDRESS)
    CustomerFactory(user_id="second", email=ADDRESS)
    record = DeliveryRecord.objects.create(message=MessageFactory(live=True), customer=ada, matched_at=AT, due_at=AT)

    links.unsubscribe(record, at=LATER)
    entry = Suppression.objects.get()
    assert (entry.reason, entry.created_at) == (SuppressionReason.OPT_OUT, LATER)
    assert entry.origin == f"The customer’s own request: unsubscribed from “{record.message}”"
    assert is_flagged("second")

    links.subscribe_again(record, at=LATER)
    assert not Suppression.objects.active().exists()
    assert not Customer.objects.filter(unsubscribed_from_emails=True).exists()


def test_hard_bounce_report_about_another_address_suppresses_nobody():
    ada = CustomerFactory(email=ADDRESS)

    suppression.flag_hard_bounce(ada.pk, address="stranger@x.example", at=LATER)
    assert not Suppression.objects.exists()

    suppression.flag_hard_bounce(ada.pk, address="ADA@x.example", at=LATER)
    assert Suppression.objects.get().address == ADDRESS


def test_claim_refuses_an_address_that_was_suppressed_as_a_customer_got_it(at):
    """Two transactions that do not see each other leave the flag unset; the claim reads the list itself."""
    CustomerFactory(user_id="ada", email=ADDRESS)
    message = MessageFactory(one_off=True, live=True, at=at)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(
            "INSERT INTO audiences_suppression (address, address_hash, reason, source, detail, created_at)"
            " VALUES (%s, audiences_address_hash(%s), 'opt_out', 'staff', '', %s)",
            [ADDRESS, ADDRESS, at],
        )
        cursor.execute("SET LOCAL session_replication_role = DEFAULT")
    assert not is_flagged("ada")

    dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))

    assert (message.records.get().status, message.records.get().reason) == (Status.SKIPPED, Reason.UNSUBSCRIBED)
    assert suppression.repair_flags(at=at) == 1
    assert is_flagged("ada")


def test_ongoing_message_reaches_a_customer_once_the_entry_is_lifted(at):
    CustomerFactory(email=ADDRESS)
    suppress()
    message = MessageFactory(live=True, at=at)
    assert ongoing.match(message, at=at) == 0

    Suppression.objects.of_address(ADDRESS).lift(at=at)

    assert ongoing.match(message, at=at + timedelta(hours=1)) == 1


def test_erased_person_stays_suppressed_by_a_keyed_hash():
    ada = CustomerFactory(user_id="ada", email=ADDRESS)
    suppress()

    erase.erase(ada, at=LATER)

    entry = Suppression.objects.get()
    assert entry.address is None
    assert ADDRESS.encode() not in bytes(entry.address_hash)
    intake.identify({"user_id": "back", "email": ADDRESS}, at=LATER)
    assert is_flagged("back")
    Suppression.objects.of_address(ADDRESS).lift(at=LATER)
    assert not is_flagged("back")


def test_import_lists_addresses_before_their_customers_exist():
    CustomerFactory(user_id="ada", email=ADDRESS)
    with connection.cursor() as cursor:
        given = ("later@x.example", ADDRESS, ADDRESS)
        dry = suppress_addresses(cursor, given, file="list.csv", by=None, at=AT, dry=True)
        assert not Suppression.objects.exists()
        done = suppress_addresses(cursor, given, file="list.csv", by=None, at=AT, dry=False)

    assert (done.changed, done.unmatched, done.unchanged) == (dry.changed, dry.unmatched, dry.unchanged) == (1, 1, 1)
    assert is_flagged("ada")
    assert {entry.origin for entry in Suppression.objects.all()} == {"An imported file: list.csv"}


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.delete(),
        lambda rows: rows.update(reason=SuppressionReason.COMPLAINT),
        lambda rows: (rows.update(lifted_at=AT), rows.update(lifted_at=None)),
        lambda rows: Suppression.objects.bulk_create(
            [Suppression(address="Ada@x.example", reason="opt_out", created_at=AT)]
        ),
    ],
)
def test_database_refuses_to_change_or_delete_an_entry(change):
    suppress()

    with pytest.raises(IntegrityError), transaction.atomic():
        change(Suppression.objects.all())
