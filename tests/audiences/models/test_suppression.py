"""The suppression list: every path that sets a flag or gives an address to a customer follows it (behaviour 4.22)."""

from datetime import timedelta
from importlib import import_module

import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import assume, example, given
from hypothesis import strategies as st

from audiences import intake
from audiences.intake.csv_import.upsert import COLUMNS, suppress_addresses, upsert_slice
from audiences.intake.identity_resolution import comparable_address, lower_case
from audiences.models import Customer, Notification, Subscription, Suppression, SuppressionReason, SuppressionSource
from audiences.models.suppression import ACTIVE_ENTRY, FLAG_OF_REASON, same_address_sql
from delivery.customers import erase, merge
from delivery.inbound.feedback import Feedback, FeedbackType, record_feedback
from delivery.matching import ongoing
from delivery.models import DeliveryRecord, Reason, Status
from delivery.reply_addresses import Referent, ReferentKind
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


def make_record(customer: Customer, **facts: object) -> DeliveryRecord:
    return DeliveryRecord.objects.create(
        message=MessageFactory(live=True), customer=customer, matched_at=AT, due_at=AT, **facts
    )


FEEDBACK = {
    SuppressionReason.OPT_OUT: FeedbackType.UNSUBSCRIBED,
    SuppressionReason.HARD_BOUNCE: FeedbackType.NO_MAILBOX,
    SuppressionReason.COMPLAINT: FeedbackType.COMPLAINED,
}


@pytest.mark.parametrize("reason", SuppressionReason)
def test_feedback_on_one_copy_holds_for_every_customer_with_its_address(reason):
    CustomerFactory(user_id="other", email=ADDRESS)
    record = make_record(CustomerFactory(user_id="ada", email=ADDRESS), address=ADDRESS)

    record_feedback(Referent(ReferentKind.RECORD, record.pk), Feedback(type=FEEDBACK[reason], at=LATER))

    assert is_flagged("ada", reason)
    assert is_flagged("other", reason)
    assert reason in Suppression.objects.active().of_address(ADDRESS).values_list("reason", flat=True)


def test_feedback_lists_only_the_address_that_the_copy_went_to():
    """The customer has another address by now."""
    ada = CustomerFactory(user_id="ada", email=ADDRESS)
    record = make_record(ada, address=ADDRESS)
    Customer.objects.update(email="new@x.example")

    for kind in (FeedbackType.NO_MAILBOX, FeedbackType.COMPLAINED):
        record_feedback(Referent(ReferentKind.RECORD, record.pk), Feedback(type=kind, at=LATER))

    assert set(Suppression.objects.values_list("address", "reason")) == {(ADDRESS, reason) for reason in FLAGS}
    assert [is_flagged("ada", reason) for reason in FLAGS] == [True, False, True]
    links.subscribe_again(record, at=LATER)
    assert not is_flagged("ada")


@pytest.mark.parametrize("change", ["REST", "import"])
def test_flags_of_a_listed_address_go_when_the_address_is_corrected(change):
    """A typo: the listed address was never Ada's."""
    CustomerFactory(user_id="second", email="right@x.example")
    give = {
        "REST": lambda address: intake.identify({"user_id": "ada", "email": address}, at=LATER),
        "import": lambda address: import_row(user_id="ada", email=address),
    }[change]
    for reason in SuppressionReason:
        suppress(reason)
    give("right@x.example")
    give(ADDRESS)
    import_row(user_id="ada", unsubscribed_from_emails=False)
    answered = intake.identify({"user_id": "ada", "unsubscribed_from_emails": False}, at=LATER)
    assert answered.unsubscribed_from_emails
    assert all(is_flagged("ada", reason) for reason in SuppressionReason)

    give("right@x.example")

    assert not any(is_flagged("ada", reason) for reason in SuppressionReason)
    assert not is_flagged("second")
    assert set(Suppression.objects.values_list("address", flat=True)) == {ADDRESS}


@pytest.mark.parametrize("own", ["REST before", "REST meanwhile", "import", "unsubscribe link"])
def test_opt_out_of_a_person_stays_when_their_listed_address_changes(own):
    suppress()
    ada = intake.identify({"user_id": "ada", "unsubscribed_from_emails": own == "REST before"}, at=AT)
    intake.identify({"user_id": "ada", "email": ADDRESS}, at=AT)
    if own == "REST meanwhile":
        intake.identify({"user_id": "ada", "unsubscribed_from_emails": True}, at=AT)
    elif own == "import":
        import_row(user_id="ada", unsubscribed_from_emails=True)
    elif own == "unsubscribe link":
        links.unsubscribe(make_record(ada, address="old@x.example"), at=AT)

    intake.identify({"user_id": "ada", "email": "right@x.example"}, at=LATER)

    assert is_flagged("ada")


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
    record = make_record(ada)

    links.unsubscribe(record, at=LATER)
    entry = Suppression.objects.get()
    assert (entry.reason, entry.created_at) == (SuppressionReason.OPT_OUT, LATER)
    assert entry.origin == f"The customer’s own request: unsubscribed from “{record.message}”"
    assert is_flagged("second")

    links.subscribe_again(record, at=LATER)
    assert not Suppression.objects.active().exists()
    assert not Customer.objects.filter(unsubscribed_from_emails=True).exists()


def test_hard_bounce_report_about_another_address_suppresses_nobody():
    record = make_record(CustomerFactory(email=ADDRESS))

    for address in ("stranger@x.example", ""):
        suppression.suppress_bounced_recipient(record, address=address, at=LATER)
    assert not Suppression.objects.exists()

    suppression.suppress_bounced_recipient(record, address="ADA@x.example", at=LATER)
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


UNICODE, ASCII = "ada@bücher.example", "ada@xn--bcher-kva.example"


@pytest.mark.parametrize(("listed", "owned"), [(UNICODE, ASCII), (ASCII, UNICODE)])
def test_entry_holds_for_the_other_spelling_of_an_international_address(listed, owned, at):
    """Before and after the entry, at the claim, for the import and the lift."""
    before = CustomerFactory(user_id="before", email=owned)
    suppress(address=listed)
    suppress(SuppressionReason.HARD_BOUNCE, address=owned)
    intake.identify({"user_id": "later", "email": owned}, at=LATER)

    for user_id in ("before", "later"):
        assert is_flagged(user_id)
        assert is_flagged(user_id, SuppressionReason.HARD_BOUNCE)
    with connection.cursor() as cursor:
        again = suppress_addresses(cursor, (owned, listed), file="list.csv", by=None, at=AT, dry=False)
        cursor.execute(f"SELECT s.reason FROM audiences_customer c, {ACTIVE_ENTRY} AND c.id = %s", [before.pk])  # noqa: S608
        assert {reason for (reason,) in cursor.fetchall()} == {"opt_out", "hard_bounce"}
    assert (again.changed, again.unmatched, again.unchanged) == (0, 0, 2)
    assert Suppression.objects.of_address(owned).count() == Suppression.objects.count() == 2

    record = make_record(before)
    links.subscribe_again(record, at=LATER)
    assert Suppression.objects.of_address(owned).filter(reason=SuppressionReason.HARD_BOUNCE).lift(at=LATER) == 1

    assert not any(is_flagged(user_id, reason) for user_id in ("before", "later") for reason in FLAGS)


def test_unsubscribing_one_spelling_announces_every_customer_with_the_address():
    CustomerFactory(user_id="second", email=ASCII)
    Subscription.objects.create(url="https://x.example/", topics=["user.unsubscribed"], created_at=AT, updated_at=AT)

    links.unsubscribe(make_record(CustomerFactory(user_id="ada", email=UNICODE)), at=LATER)

    told = Notification.objects.filter(topic="user.unsubscribed").values_list("customer__user_id", flat=True)
    assert set(told) == {"ada", "second"}
    assert is_flagged("second")


def test_erasing_one_of_two_spellings_keeps_the_address_that_another_customer_has():
    ada = CustomerFactory(user_id="ada", email=UNICODE)
    CustomerFactory(user_id="second", email=ASCII)
    suppress(address=UNICODE)

    erase.erase(ada, at=LATER)
    assert Suppression.objects.get().address == UNICODE
    erase.erase(Customer.objects.get(user_id="second"), at=LATER)

    assert Suppression.objects.get().address is None
    assert is_flagged(intake.identify({"user_id": "back", "email": ASCII}, at=LATER).user_id)


def test_one_message_reaches_two_spellings_of_an_address_once(at):
    for email in (UNICODE, ASCII):
        CustomerFactory(email=email)
    message = MessageFactory(one_off=True, live=True, at=at)

    dispatcher.dispatch(clock=lambda: at, until=at + timedelta(seconds=1))

    assert sorted(message.records.values_list("status", flat=True)) == [Status.SENT, Status.SKIPPED]


# Parts of addresses: labels in Unicode, encoded, malformed, and in other alphabets and forms.
LABELS = st.one_of(
    st.text(st.characters(categories=("Ll", "Lo", "Mn", "Nd")), min_size=1, max_size=20),
    st.text("äöüß中文日本ελиш", min_size=1, max_size=20).map(lambda text: f"xn--{text.encode('punycode').decode()}"),
    st.text("abcdz0129-", max_size=70).map(lambda text: f"xn--{text}"),
)


def test_database_and_python_compare_addresses_alike():
    """The function of the index and `comparable_address`, also for malformed labels."""

    @given(st.lists(LABELS, min_size=1, max_size=3), st.sampled_from([".", "\u3002", "\uff0e", "\uff61"]))
    @example(["xn--bcher-kva", "example"], ".")
    @example(["xn--" + "a" * 59], ".")
    @example(["xn--99999999999"], ".")
    def check(labels: list[str], dot: str) -> None:
        address = lower_case(f"ada@{dot.join(labels)}")
        assume(lower_case(address.strip()) == address)
        with connection.cursor() as cursor:
            cursor.execute("SELECT audiences_comparable_address(%s)", [address])
            assert cursor.fetchone()[0] == comparable_address(address)

    check()


def test_migration_joins_the_entries_of_two_spellings_and_flags_their_customers():
    CustomerFactory(user_id="ada", email=ASCII)
    CustomerFactory(user_id="second", email=UNICODE)
    migration = import_module("audiences.migrations.0040_comparable_addresses")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        for address, hours in ((UNICODE, 0), (ASCII, 1), ("plain@x.example", 0)):
            cursor.execute(
                "INSERT INTO audiences_suppression (address, address_hash, reason, source, detail, created_at)"
                " VALUES (%s, audiences_keyed_hash(%s), 'opt_out', 'staff', '', %s)",
                [address, address, AT + timedelta(hours=hours)],
            )
        cursor.execute("SET LOCAL session_replication_role = DEFAULT")
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")

        cursor.execute(migration.REHASH)
        cursor.execute(migration.FLAG_CUSTOMERS)

    active = Suppression.objects.active().order_by("pk")
    assert list(active.values_list("address", flat=True)) == [UNICODE, "plain@x.example"]
    assert Suppression.objects.of_address(ASCII).count() == 2
    assert Suppression.objects.active().of_address("plain@x.example").exists()
    assert is_flagged("ada")
    assert is_flagged("second")


def test_addresses_are_found_by_indexes():
    """A claim, an import and an entry read a few rows, however many customers there are."""
    Customer.objects.bulk_create(CustomerFactory.build_batch(2_000))
    with connection.cursor() as cursor:
        # Without statistics, the plan depends on when the server last analyzed the table.
        cursor.execute("ANALYZE audiences_customer")
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(
            "EXPLAIN SELECT FROM audiences_customer c, unnest(ARRAY['a@x.example', 'b@x.example']) AS s (address)"
            f" WHERE {same_address_sql('c.email', 's.address')}"
        )
        joined = "\n".join(line for (line,) in cursor.fetchall())

        for plan in (joined, Customer.objects.with_address("a@x.example").explain()):
            assert "customer_international_email" in plan, plan
            assert "customer_email" in plan
            assert "Seq Scan" not in plan


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
