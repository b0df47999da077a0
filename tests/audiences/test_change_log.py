"""Change log: each change of data that rules see is logged, with the bits of its kind; nothing else is."""

import re

import pytest
from django.db import connection

from audiences import attributes, change_log, compiler
from audiences.attributes import Catalogue
from audiences.change_log import ALL, BIT
from audiences.models import Company, Customer, CustomerTag, Device, EventSummary, Membership
from audiences.rules import CALENDAR_DAY_OPERATORS, OPERATORS, Group, Kind, Rule
from delivery.eligibility import conditions
from delivery.models import DeliveryRecord, Reason, Status
from messaging.models import Channel
from tests.factories import (
    AT,
    CompanyFactory,
    CompanyTagFactory,
    CustomerFactory,
    CustomerTagFactory,
    EventSummaryFactory,
    MembershipFactory,
    MessageFactory,
    TagFactory,
    TopicOptOutFactory,
)

pytestmark = pytest.mark.django_db

ENTRIES = (
    "SELECT customer_id, company_id, message_id, last_record - first_record + 1, bits FROM audiences_change"
    " ORDER BY 1, 2, 3, 4, 5"
)


class Log:
    """Entries written since the last look: (customer, company, message, number of records) and the bits."""

    def __init__(self) -> None:
        self.new()

    def new(self) -> list[tuple[tuple[int | None, ...], int]]:
        with connection.cursor() as cursor:
            cursor.execute(ENTRIES)
            rows = [(tuple(row[:4]), row[4]) for row in cursor.fetchall()]
            cursor.execute("DELETE FROM audiences_change")
        return rows

    def of_customers(self) -> dict[int | None, int]:
        found: dict[int | None, int] = {}
        for (customer, *_), bits in self.new():
            found[customer] = found.get(customer, 0) | bits
        return found


@pytest.fixture
def log() -> Log:
    return Log()


def test_every_attribute_has_bits_of_its_own_kind_of_data():
    catalogue = Catalogue(customer={"plan": Kind.TEXT}, company={"seats": Kind.NUMBER})
    names = [*attributes.BY_NAME, "custom_attributes.plan", "company.custom_attributes.seats"]
    names += [f"{prefix}ordered" for prefix in attributes.EVENT_ATTRIBUTES]
    found = {name: attributes.find_attribute(name, catalogue=catalogue) for name in names}

    bits = {name: change_log.attribute_bits(one) for name, one in found.items() if one.kind is not Kind.SEGMENT}

    assert [name for name, of in bits.items() if of in (0, ALL)] == []
    assert [name for name, of in bits.items() if name.startswith("company.") != bool(of & change_log.OF_COMPANY)] == []


def test_attribute_without_a_known_column_has_all_bits():
    unknown = attributes.customer_attribute("shoe_size", "Shoe size", Kind.NUMBER)

    assert change_log.attribute_bits(unknown) == ALL


def test_new_customer_is_a_change_of_everything(log):
    ada = CustomerFactory()

    assert log.of_customers() == {ada.pk: ALL}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("role", "lead"), ("archived_at", AT), ("email", "a@x.example"), ("unsubscribed_from_emails", True)),
        *(("has_hard_bounced", True), ("marked_email_as_spam", True), ("name", "Ada"), ("phone", "1")),
        *(("user_id", "other"), ("first_seen_at", AT), ("signed_up_at", AT), ("last_seen_at", AT)),
        *(("last_contacted_at", AT), ("last_heard_from_at", AT), ("last_opened_email_at", AT)),
        *(("last_clicked_email_at", AT), ("session_count", 3), ("country", "Ireland"), ("city", "Cork")),
        *(("timezone", "UTC"), ("browser", "Firefox"), ("os", "Linux"), ("language", "en")),
        ("details", {"region": "Munster"}),
    ],
)
def test_changed_column_is_logged_once_with_its_bit(column, value, log):
    ada, eve = CustomerFactory(), CustomerFactory()
    log.new()

    Customer.objects.filter(pk=ada.pk).update(**{column: value})
    assert log.new() == [((ada.pk, None, None, None), BIT[column])]

    Customer.objects.filter(pk__in=(ada.pk, eve.pk)).exclude(pk=eve.pk).update(**{column: value})
    assert log.new() == []


def test_columns_that_no_rule_sees_are_not_logged(log):
    ada = CustomerFactory()
    log.new()

    Customer.objects.filter(pk=ada.pk).update(checked_at=AT, updated_at=AT, last_seen_ip="::1", session_started_at=AT)

    assert log.new() == []


def test_changed_removed_and_added_custom_attributes_have_the_bits_of_their_names(log):
    ada = CustomerFactory(attributes={"plan": "pro", "seats": 3, "gone": 1})
    log.new()

    Customer.objects.filter(pk=ada.pk).update(attributes={"plan": "free", "seats": 3, "é": None})

    named = (
        attributes.Attribute("", "", Kind.TEXT, attributes.About.CUSTOMER, "", key) for key in ("plan", "gone", "é")
    )
    bits = 0
    for attribute in named:
        bits |= change_log.attribute_bits(attribute)
    assert log.of_customers() == {ada.pk: bits}


def test_many_rows_are_logged_quickly_by_a_session_that_logged_one_row_before(log):
    ada = CustomerFactory()
    for name in ("a", "b", "c", "d", "e", "f"):
        Customer.objects.filter(pk=ada.pk).update(name=name)
    Customer.objects.bulk_create(
        [Customer(user_id=f"many-{n}", created_at=AT, updated_at=AT) for n in range(20_000)], batch_size=5_000
    )
    log.new()
    with connection.cursor() as cursor:
        # A nested loop over 20,000 rows compares 400,000,000 times, which takes far longer than this.
        cursor.execute("SET LOCAL statement_timeout = '10s'")
        cursor.execute("UPDATE audiences_customer SET name = 'Many'")
        cursor.execute("SET LOCAL statement_timeout TO DEFAULT")

    assert len(log.new()) == 20_001


def test_tags_devices_opt_outs_and_memberships_are_logged_for_old_and_new_owners(log):
    ada, eve = CustomerFactory(), CustomerFactory()
    acme, beta = CompanyFactory(), CompanyFactory()
    log.new()
    both = {ada.pk, eve.pk}

    for make, bit in (
        (lambda: CustomerTagFactory(customer=ada), BIT["tag"]),
        (lambda: Device.objects.create(customer=ada, token="t", created_at=AT), BIT["device"]),
        (lambda: TopicOptOutFactory(customer=ada), BIT["topic"]),
        (
            lambda: MembershipFactory(customer=ada, company=acme),
            BIT["membership"] | BIT["company.user_count"],
        ),
    ):
        row = make()
        log_of_tag = log.of_customers()
        assert log_of_tag == {ada.pk: bit}
        type(row).objects.filter(pk=row.pk).update(customer=eve)
        assert log.of_customers() == dict.fromkeys(both, bit)
        type(row).objects.filter(pk=row.pk).update(customer=eve)
        assert log.new() == []
        row.delete()
        assert log.of_customers() == {eve.pk: bit}
    device = Device.objects.create(customer=ada, token="t", created_at=AT)
    log.new()
    Device.objects.filter(pk=device.pk).update(retired_at=AT)
    assert log.of_customers() == {ada.pk: BIT["device"]}
    member = MembershipFactory(customer=ada, company=acme)
    log.new()
    Membership.objects.filter(pk=member.pk).update(company=beta)
    assert {where[1] for where, _ in log.new()} == {acme.pk, beta.pk}
    tagged = CustomerTagFactory(customer=ada)
    log.new()
    CustomerTag.objects.filter(pk=tagged.pk).update(tag=TagFactory())
    assert log.of_customers() == {ada.pk: BIT["tag"]}


def test_change_of_a_company_is_logged_for_the_company(log):
    acme = CompanyFactory()
    log.new()
    for column, value, bit in (
        ("plan", "pro", "company.facts"),
        ("archived_at", AT, "company.archived_at"),
        ("last_seen_at", AT, "company.last_seen_at"),
        ("session_count", 2, "company.session_count"),
        ("attributes", {"seats": 1}, "company.attributes"),
    ):
        Company.objects.filter(pk=acme.pk).update(**{column: value})
        Company.objects.filter(pk=acme.pk).update(**{column: value, "updated_at": AT})
        assert log.new() == [((None, acme.pk, None, None), BIT[bit])]
    CompanyTagFactory(company=acme)
    assert log.new() == [((None, acme.pk, None, None), BIT["company.tag"])]


def test_event_is_logged_with_the_bit_of_its_name(log):
    ada = CustomerFactory()
    log.new()
    ordered = change_log.attribute_bits(
        attributes.find_attribute("event.ordered", catalogue=attributes.EMPTY_CATALOGUE)
    )

    summary = EventSummaryFactory(customer=ada, name="ordered")
    assert log.of_customers() == {ada.pk: ordered}
    EventSummary.objects.filter(pk=summary.pk).update(count=2)
    assert log.of_customers() == {ada.pk: ordered}
    EventSummary.objects.filter(pk=summary.pk).update(count=2)
    assert log.new() == []
    summary.delete()
    assert log.of_customers() == {ada.pk: ordered}


def test_inserted_records_are_one_entry_for_each_message(log):
    customers, message = [CustomerFactory() for _ in range(3)], MessageFactory(live=True)
    log.new()

    DeliveryRecord.objects.bulk_create(
        DeliveryRecord(message=message, customer=one, due_at=AT, matched_at=AT) for one in customers
    )

    assert log.new() == [((None, None, message.pk, 3), BIT["record"])]


def test_only_changes_of_a_record_that_rules_see_are_logged(log):
    ada, message = CustomerFactory(), MessageFactory(live=True)
    record = DeliveryRecord.objects.create(message=message, customer=ada, due_at=AT, matched_at=AT)
    log.new()
    rows = DeliveryRecord.objects.filter(pk=record.pk)

    rows.mark_sending(claim="00000000-0000-0000-0000-000000000001", until=AT)
    assert log.new() == []
    rows.update(status=Status.SENT, sent_at=AT, claim=None, leased_until=None)
    assert log.of_customers() == {ada.pk: BIT["record"]}
    for moment in ("opened_at", "clicked_at", "replied_at"):
        rows.update(**{moment: AT})
        assert log.of_customers() == {ada.pk: BIT["record"]}
    rows.update(bounced_at=AT, variables={"a": 1})
    assert log.new() == []


def test_withdrawal_is_a_change_of_the_customer_unless_the_message_was_stopped(log):
    ada, eve, message = CustomerFactory(), CustomerFactory(), MessageFactory(live=True)
    for one in (ada, eve):
        DeliveryRecord.objects.create(message=message, customer=one, due_at=AT, matched_at=AT)
    log.new()

    DeliveryRecord.objects.filter(customer=ada).withdraw(reason=Reason.NO_LONGER_MATCHES)
    DeliveryRecord.objects.filter(customer=eve).withdraw(reason=Reason.STOPPED)

    assert log.of_customers() == {ada.pk: BIT["record"] | BIT["withdrawn"], eve.pk: BIT["record"]}
    DeliveryRecord.objects.filter(customer=ada).update(status=Status.WAITING, due_at=AT)
    assert log.of_customers() == {ada.pk: BIT["record"]}


def test_slot_is_truncated_only_if_all_its_entries_were_read():
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM audiences_change")
        assert list(change_log.truncatable_slots()) == []
        cursor.execute("SELECT (date_part('hour', now())::int + 1) % 3")
        slot = cursor.fetchone()[0]
        cursor.execute("INSERT INTO audiences_change (customer_id, bits, xid, slot) VALUES (1, 1, 100, %s)", [slot])

        assert list(change_log.truncatable_slots()) == [slot]
        assert not change_log.truncate_slot(slot, below=100)
        assert change_log.truncate_slot(slot, below=101)
        assert not change_log.truncate_slot(slot, below=101)
        cursor.execute("SELECT count(*) FROM audiences_change")
        assert cursor.fetchone() == (0,)


def test_every_table_that_rules_or_reachability_read_is_logged():
    catalogue = Catalogue(customer={"plan": Kind.TEXT}, company={"seats": Kind.NUMBER})
    names = [*attributes.BY_NAME, "custom_attributes.plan", "company.custom_attributes.seats"]
    names += [f"{prefix}ordered" for prefix in attributes.EVENT_ATTRIBUTES]
    sql = [conditions.reachable_sql(channel, topic=1, double_opt_in=True) for channel in Channel]
    for name in names:
        kind = attributes.find_attribute(name, catalogue=catalogue).kind
        if kind is Kind.SEGMENT:
            continue  # Its rules are compiled as part of the tree.
        for operator in OPERATORS[kind]:
            value = {Kind.NUMBER: 1, Kind.ROLE: "user", Kind.DATE: 1}.get(kind, 1 if kind is not Kind.TEXT else "a")
            if operator in CALENDAR_DAY_OPERATORS:
                value = "2026-05-03"
            tree = Group("all", (Rule(name, operator, value),))
            condition = compiler.compile_tree(tree, catalogue=catalogue)
            sql.append(condition.pairs(per_company=True))
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE tgname LIKE '%is_logged%'")
        logged = {name for (name,) in cursor.fetchall()}

    assert set(re.findall(r"\b(?:audiences|delivery|messaging)_\w+", " ".join(sql))) == logged


@pytest.mark.django_db(transaction=True)
def test_horizon_is_the_oldest_open_transaction():
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_current_xact_id()::text::bigint")
            open_since = cursor.fetchone()[0]
        assert change_log.current_horizon() <= open_since
    finally:
        other.close()
