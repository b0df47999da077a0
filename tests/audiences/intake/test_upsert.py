"""Intake: identity resolution, attribute kinds, bad values (behaviour 3, 4.11, 4.14; wire 5.10)."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from audiences import intake
from audiences.attributes import DETAILS
from audiences.intake import Conflict, Refused, Source, Unknown, identify, record_event
from audiences.intake.attributes.coercion import READ_AS
from audiences.intake.customer_fields import READ_DETAIL
from audiences.intake.source import MAX_ATTRIBUTES
from audiences.intake.user_agent import parse_browser, parse_os
from audiences.models import Company, CustomAttribute, Customer, Event, EventSummary, Membership, Tag, Workspace
from audiences.models.catalogue import KINDS
from audiences.models.customers import Role
from tests.factories import AT, CustomAttributeFactory, CustomerFactory, TagFactory
from tests.support.examples import examples

pytestmark = pytest.mark.django_db


def run_concurrently(number: int, call) -> list:
    """Call `call(n)` in `number` threads at the same time, each with its own connection; return the results."""
    start = Barrier(number)

    def run(n: int):
        start.wait()
        try:
            return call(n)
        finally:
            connection.close()

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(run, range(number)))


class TestIdentityResolution:
    def test_unknown_user_id_creates_a_user(self, at):
        customer = identify({"user_id": "25", "email": "Joe@Example.com"}, at=at)

        assert (customer.user_id, customer.email, customer.role) == ("25", "joe@example.com", Role.USER)
        assert customer.created_at == at

    def test_id_decides_and_moves_user_id_and_email(self, at):
        known = CustomerFactory(user_id="old", email="old@example.com")

        identify({"id": str(known.pk), "user_id": "new", "email": "new@example.com"}, at=at)

        known.refresh_from_db()
        assert (known.user_id, known.email) == ("new", "new@example.com")

    def test_user_id_decides_and_moves_email(self, at):
        known = CustomerFactory(user_id="25", email="old@example.com")

        assert identify({"user_id": "25", "email": "new@example.com"}, at=at) == known

        known.refresh_from_db()
        assert known.email == "new@example.com"

    def test_customer_without_user_id_is_found_by_email_and_gets_the_user_id(self, at):
        known = CustomerFactory(user_id=None, email="a@example.com")

        assert identify({"user_id": "25", "email": "A@example.com"}, at=at) == known

        known.refresh_from_db()
        assert known.user_id == "25"

    def test_same_email_with_another_user_id_creates_a_user(self, at):
        known = CustomerFactory(user_id="24", email="a@example.com")

        assert identify({"user_id": "25", "email": "a@example.com"}, at=at) != known

        known.refresh_from_db()
        assert known.user_id == "24"

    def test_email_alone_finds_the_customer_without_user_id(self, at):
        CustomerFactory(email="a@example.com", last_seen_at=at)
        without = CustomerFactory(user_id=None, email="a@example.com")

        assert identify({"email": "a@example.com"}, at=at) == without

    def test_email_alone_finds_the_last_seen_if_all_have_user_ids(self, at):
        CustomerFactory(email="a@example.com")
        CustomerFactory(email="a@example.com", last_seen_at=at - timedelta(days=2))
        last = CustomerFactory(email="a@example.com", last_seen_at=at - timedelta(days=1))

        assert identify({"email": "a@example.com"}, at=at) == last

    @pytest.mark.parametrize(("sent", "stored"), [(25, "25"), (25.0, "25"), (2.5, "2.5"), (" 25 ", "25")])
    def test_numbers_as_user_id_become_text(self, at, sent, stored):
        assert identify({"user_id": sent}, at=at).user_id == stored

    def test_a_user_id_makes_a_lead_a_user(self, at):
        lead = CustomerFactory(lead=True, email="a@example.com")

        identify({"id": str(lead.pk), "user_id": "25"}, at=at)

        lead.refresh_from_db()
        assert lead.role == Role.USER

    def test_data_for_the_id_of_a_lead_keeps_the_role(self, at):
        lead = CustomerFactory(lead=True)

        assert identify({"id": str(lead.pk), "name": "Joe"}, at=at).role == Role.LEAD

    def test_id_and_user_id_of_two_customers_conflict(self, at):
        one, _other = CustomerFactory(user_id="1"), CustomerFactory(user_id="2")

        with pytest.raises(Conflict, match=f"id {one.pk} and user_id 2"):
            identify({"id": str(one.pk), "user_id": "2"}, at=at)

    def test_id_and_email_of_two_customers_conflict(self, at):
        one = CustomerFactory(user_id=None, email="one@example.com")
        CustomerFactory(user_id=None, email="other@example.com")

        with pytest.raises(Conflict, match=f"id {one.pk} and email other@example.com"):
            identify({"id": str(one.pk), "email": "other@example.com"}, at=at)

    def test_unknown_id_is_refused(self, at):
        with pytest.raises(Unknown, match=r"No such id\[99\]"):
            identify({"id": "99", "user_id": "25"}, at=at)

    @pytest.mark.parametrize("facts", [{}, {"user_id": None, "email": ""}, {"name": "Joe"}])
    def test_missing_identifiers_are_refused(self, at, facts):
        with pytest.raises(Refused, match="Identify the user"):
            identify(facts, at=at)

    @pytest.mark.parametrize("value", [True, [], {}, "undefined", "null", "x" * 256, "a\0b", "\ud800", float("nan")])
    def test_invalid_user_id_is_refused(self, at, value):
        with pytest.raises(Refused):
            identify({"user_id": value}, at=at)

    @pytest.mark.parametrize("value", ["nobody", "a@b", "a b@example.com", "undefined", 5, f"{'x' * 300}@example.com"])
    def test_invalid_email_is_refused(self, at, value):
        with pytest.raises(Refused):
            identify({"email": value}, at=at)

    def test_new_data_restores_an_archived_customer(self, at):
        gone = CustomerFactory(user_id="25")
        intake.archive_customer(gone, at=at)
        assert not Customer.objects.present().exists()

        assert identify({"user_id": "25"}, at=at) == gone

        assert Customer.objects.present().get() == gone

    def test_archived_customers_are_not_found(self):
        gone = CustomerFactory(user_id="25", archived=True)

        for reference in ({"id": gone.pk}, {"user_id": "25"}):
            with pytest.raises(Unknown):
                intake.find_customer(reference)


class TestFields:
    def test_missing_fields_stay_and_null_clears(self, at):
        known = CustomerFactory(user_id="25", name="Joe", phone="123", email="a@example.com", signed_up_at=at)

        identify({"user_id": "25", "phone": None, "email": "", "signed_up_at": None}, at=at)

        known.refresh_from_db()
        assert (known.name, known.phone, known.email, known.signed_up_at) == ("Joe", "", None, None)

    def test_unchanged_data_writes_nothing(self, at):
        identify({"user_id": "25", "name": "Joe", "custom_attributes": {"plan": "pro"}}, at=at)

        again = identify({"user_id": "25", "name": "Joe", "custom_attributes": {"plan": "pro"}}, at=at + timedelta(1))

        assert again.updated_at == at

    @pytest.mark.parametrize("field", ["signed_up_at", "remote_created_at", "created_at"])
    def test_signed_up_has_three_field_names(self, at, field):
        customer = identify({"user_id": "25", field: 1392731331}, at=at)

        assert customer.signed_up_at == datetime.fromtimestamp(1392731331, tz=UTC)

    def test_last_request_at_sets_last_seen(self, at):
        customer = identify({"user_id": "25", "last_request_at": "1397574667"}, at=at)

        assert customer.last_seen_at == customer.first_seen_at == datetime.fromtimestamp(1397574667, tz=UTC)

    def test_update_last_request_at_means_now(self, at):
        customer = identify({"user_id": "25", "update_last_request_at": True, "last_request_at": 1}, at=at)

        assert customer.last_seen_at == at

    def test_a_sync_does_not_set_last_seen(self, at):
        assert identify({"user_id": "25", "name": "Joe"}, at=at).last_seen_at is None

    def test_new_session_counts_one(self, at):
        identify({"user_id": "25", "new_session": True}, at=at)

        assert identify({"user_id": "25", "new_session": True}, at=at).session_count == 2

    def test_user_agent_sets_browser_and_os(self, at):
        agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.6 Safari/537.36"

        customer = identify({"user_id": "25", "last_seen_user_agent": agent, "last_seen_ip": "1.2.3.4"}, at=at)

        assert (customer.browser, customer.os, customer.last_seen_ip) == ("Chrome", "Linux", "1.2.3.4")
        assert customer.details["browser_version"] == "120.0.6"

    def test_location_and_referral_fields_are_stored(self, at):
        place = {
            "city_name": "Dublin",
            "country_name": "Ireland",
            "timezone": "Europe/Dublin",
            "region_name": "Leinster",
        }

        customer = identify({"user_id": "25", "location_data": place, "utm_source": "ad", "referrer": "x"}, at=at)

        assert (customer.city, customer.country, customer.timezone) == ("Dublin", "Ireland", "Europe/Dublin")
        assert customer.details == {"region": "Leinster", "utm_source": "ad", "referrer": "x"}

    @pytest.mark.parametrize(
        "facts",
        [
            {"location_data": {"timezone": "Mars/Olympus"}},
            {"location_data": {"timezone": "../../etc/passwd"}},
            {"location_data": []},
            {"signed_up_at": "2026-05-04"},
            {"signed_up_at": 1500000000000},
            {"signed_up_at": 1.5},
            {"signed_up_at": 10**400},
            {"signed_up_at": True},
            {"name": {"first": "Joe"}},
            {"name": "a\0b"},
            {"name": "\udfff"},
            {"name": "x" * 256},
            {"unsubscribed_from_emails": "maybe"},
            {"custom_attributes": "plan"},
            {"companies": {"company_id": "6"}},
            {"companies": [{"name": "No id"}]},
            {"companies": [{"company_id": "6", "monthly_spend": "a lot"}]},
            {"companies": [{"company_id": "6", "size": 2**31}]},
        ],
    )
    def test_a_bad_value_refuses_the_whole_request(self, at, facts):
        with pytest.raises(Refused) as refused:
            identify({"user_id": "25", "custom_attributes": {"plan": "pro"}, **facts}, at=at)

        assert refused.value.field
        assert not Customer.objects.exists()
        assert not Company.objects.exists()
        assert not CustomAttribute.objects.exists()

    def test_a_visit_stores_the_rest_without_bad_values(self, at):
        CustomAttributeFactory(name="age", kind="number")
        bad: list[Refused] = []
        facts = {
            "user_id": "25",
            "email": "nonsense",
            "name": "Joe",
            "phone": [],
            "custom_attributes": {"age": "old", "plan": "pro", "a.b": 1, "list": [1]},
            "companies": [{"name": "No id"}, {"company_id": "6", "size": "huge", "plan": "pro"}],
        }

        customer = identify(facts, at=at, source=Source.PROVED_BROWSER, on_bad_value=bad.append)

        assert (customer.name, customer.email, customer.attributes) == ("Joe", None, {"plan": "pro"})
        assert customer.companies.get().plan == "pro"
        assert {wrong.field for wrong in bad} == {"email", "phone", "age", "a.b", "list", "company_id", "size"}
        assert not CustomAttribute.objects.filter(name__in=["list", "a.b"]).exists()

    def test_every_kind_of_detail_can_be_read(self):
        assert {kind for _, kind in DETAILS.values()} <= set(READ_DETAIL)


class TestOptOut:
    def test_every_source_may_opt_out(self, at):
        for source in Source:
            facts = {"user_id": source.value, "unsubscribed_from_emails": True}
            assert identify(facts, at=at, source=source).unsubscribed_from_emails

    def test_a_sync_may_undo_the_opt_out_of_a_sync(self, at):
        CustomerFactory(user_id="25", unsubscribed_from_emails=True)

        assert not identify({"user_id": "25", "unsubscribed_from_emails": "false"}, at=at).unsubscribed_from_emails

    def test_a_sync_cannot_undo_the_opt_out_of_a_customer(self, at):
        CustomerFactory(user_id="25", unsubscribed_from_emails=True, unsubscribed_by_customer_at=at)

        assert identify({"user_id": "25", "unsubscribed_from_emails": False}, at=at).unsubscribed_from_emails

    def test_a_browser_cannot_undo_an_opt_out(self, at):
        CustomerFactory(user_id="25", unsubscribed_from_emails=True)
        facts = {"user_id": "25", "unsubscribed_from_emails": False}

        assert identify(facts, at=at, source=Source.BROWSER).unsubscribed_from_emails


class TestBounced:
    def test_a_new_address_clears_the_hard_bounce(self, at):
        CustomerFactory(user_id="25", email="old@example.com", has_hard_bounced=True, marked_email_as_spam=True)

        customer = identify({"user_id": "25", "email": "new@example.com"}, at=at)

        customer.refresh_from_db()
        assert (customer.has_hard_bounced, customer.marked_email_as_spam) == (False, True)

    @pytest.mark.parametrize("facts", [{"email": "Old@Example.com"}, {"name": "Joe"}, {"email": None}, {"email": ""}])
    def test_the_same_or_no_address_keeps_the_hard_bounce(self, at, facts):
        CustomerFactory(user_id="25", email="old@example.com", has_hard_bounced=True)

        assert identify({"user_id": "25", **facts}, at=at).has_hard_bounced

    def test_a_new_address_of_a_lead_clears_the_hard_bounce(self, at):
        lead = CustomerFactory(lead=True, email="old@example.com", has_hard_bounced=True)

        assert not intake.save_lead({"email": "new@example.com"}, lead=lead, at=at).has_hard_bounced


class TestCatalogue:
    @pytest.mark.parametrize(
        ("name", "value", "kind"),
        [
            ("plan", "pro", "text"),
            ("code", "007", "text"),
            ("age", 7, "number"),
            ("rate", 1.5, "number"),
            ("paid", False, "boolean"),
            ("renews_at", 1475569818, "date"),
            ("renews_at", "1475569818", "date"),
            ("renews_at", "2026-05-31", "date"),
            ("renews_at", "2026-05-31T10:00:00Z", "date"),
            ("works_at", "Acme", "text"),
            ("looked_at", True, "boolean"),
        ],
    )
    def test_the_first_known_value_decides_the_kind(self, at, name, value, kind):
        identify({"user_id": "25", "custom_attributes": {name: value}}, at=at)

        assert CustomAttribute.objects.get(name=name).kind == kind

    @pytest.mark.parametrize("nothing", ["", " ", None, "undefined", "null"])
    def test_empty_values_mean_unknown_and_add_no_attribute(self, at, nothing):
        CustomAttributeFactory(name="plan")
        CustomerFactory(user_id="25", attributes={"plan": "pro"})

        customer = identify({"user_id": "25", "custom_attributes": {"plan": nothing, "new": nothing}}, at=at)

        assert customer.attributes == {}
        assert not CustomAttribute.objects.filter(name="new").exists()

    @pytest.mark.parametrize(
        ("kind", "sent", "stored"),
        [
            ("text", 7, "7"),
            ("text", 7.5, "7.5"),
            ("text", True, "true"),
            ("number", "7", 7),
            ("number", "-7.50", -7.5),
            ("number", 7.0, 7),
            ("boolean", "True", True),
            ("boolean", 0, False),
            ("date", "1475569818", 1475569818),
            ("date", "2026-05-31T12:00:00+02:00", 1780221600),
        ],
    )
    def test_lossless_values_are_converted(self, at, kind, sent, stored):
        CustomAttributeFactory(name="x", kind=kind)

        customer = identify({"user_id": "25", "custom_attributes": {"x": sent}}, at=at)

        assert customer.attributes["x"] == stored
        assert type(customer.attributes["x"]) is type(stored)

    @pytest.mark.parametrize(
        ("kind", "sent"),
        [
            ("number", "seven"),
            ("number", "007"),
            ("number", "1e5"),
            ("number", "0.12345678901234567890123"),
            ("number", True),
            ("boolean", "yes"),
            ("boolean", 2),
            ("date", "soon"),
            ("date", 1.5),
            ("date", True),
            ("date", "9999-12-31"),
            ("date", 10**13),
        ],
    )
    def test_a_value_of_another_kind_is_refused_at_its_attribute(self, at, kind, sent):
        CustomAttributeFactory(name="x", kind=kind)

        with pytest.raises(Refused, match="“x” is ") as refused:
            identify({"user_id": "25", "custom_attributes": {"x": sent}}, at=at)

        assert refused.value.field == "x"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("a.b", 1),
            ("a$", 1),
            ("", 1),
            ("x" * 191, 1),
            ("nul\0", 1),
            ("\ud800", 1),
            ("x", [1]),
            ("x", {"a": 1}),
            ("x", "x" * 256),
            ("x", "a\0b"),
            ("x", "\ud800"),
            ("x", float("nan")),
            ("x", float("inf")),
            ("x", 10**400),
            ("seen_at", 10**13),
        ],
    )
    def test_invalid_attributes_are_refused(self, at, name, value):
        with pytest.raises(Refused):
            identify({"user_id": "25", "custom_attributes": {name: value}}, at=at)

        assert not CustomAttribute.objects.exists()

    def test_a_date_without_a_zone_is_in_the_workspace_zone(self, at, workspace_zone):
        customer = identify({"user_id": "25", "custom_attributes": {"ends_at": "2026-05-31"}}, at=at)

        midnight = datetime(2026, 5, 31, tzinfo=workspace_zone)
        assert customer.attributes["ends_at"] == int(midnight.timestamp())

    def test_each_scope_has_at_most_250_attributes(self, at):
        names = [f"a{n}" for n in range(MAX_ATTRIBUTES)]
        identify({"user_id": "25", "custom_attributes": dict.fromkeys(names, 1)}, at=at)

        with pytest.raises(Refused, match="“one more”"):
            identify({"user_id": "25", "custom_attributes": {"one more": 1}}, at=at)

    def test_every_kind_can_be_read(self):
        assert {kind.value for kind in READ_AS} == {kind for kind, _ in KINDS}

    @examples(40)
    @given(
        name=st.text(max_size=4),
        value=st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.none())),
        kind=st.sampled_from([None, *(kind for kind, _ in KINDS)]),
    )
    def test_any_value_is_stored_as_its_kind_or_refused(self, name, value, kind):
        with transaction.atomic():
            CustomAttribute.objects.all().delete()
            Customer.objects.all().delete()
            if kind and name and "\0" not in name and name.isprintable():
                CustomAttributeFactory(name=name, kind=kind)
            try:
                customer = identify({"user_id": "25", "custom_attributes": {name: value}}, at=AT)
            except Refused as refused:
                str(refused).encode()
            else:
                customer.refresh_from_db()
                assert set(customer.attributes) <= {name}


@pytest.fixture
def workspace_zone():
    workspace = Workspace.current()
    workspace.zone = "America/New_York"
    workspace.save()
    return ZoneInfo(workspace.zone)


class TestCompanies:
    def test_a_company_is_created_with_its_membership(self, at):
        company = {
            "company_id": 6,
            "name": "Acme",
            "monthly_spend": 49.9,
            "plan": "Paid",
            "custom_attributes": {"n": 1},
        }

        customer = identify({"user_id": "25", "companies": [company]}, at=at)

        acme = customer.companies.get()
        assert (acme.company_id, acme.monthly_spend, acme.plan, acme.attributes) == ("6", 49, "Paid", {"n": 1})

    def test_an_unchanged_company_is_not_written(self, at):
        identify({"user_id": "25", "companies": [{"company_id": "6", "name": "Acme"}]}, at=at)
        identify({"user_id": "26", "companies": [{"company_id": "6"}]}, at=at + timedelta(1))

        assert Company.objects.get().updated_at == at
        assert Membership.objects.count() == 2

    def test_remove_ends_the_membership_and_keeps_the_company(self, at):
        identify({"user_id": "25", "companies": [{"company_id": "6"}, {"company_id": "7"}]}, at=at)

        customer = identify({"user_id": "25", "companies": [{"company_id": "6", "remove": True}]}, at=at)

        assert [company.company_id for company in customer.companies.all()] == ["7"]
        assert Company.objects.count() == 2

    def test_remove_from_an_unknown_company_creates_none(self, at):
        identify({"user_id": "25", "companies": [{"company_id": "6", "remove": "true"}]}, at=at)

        assert not Company.objects.exists()

    def test_upsert_by_company_id_restores_an_archived_company(self, at):
        first = intake.upsert_company({"company_id": "6", "name": "Acme"}, at=at)
        Company.objects.update(archived_at=at)

        again = intake.upsert_company({"company_id": "6", "size": "85"}, at=at)

        assert (again.pk, again.name, again.size, again.archived_at) == (first.pk, "Acme", 85, None)

    def test_company_attributes_have_their_own_scope(self, at):
        company = {"company_id": "6", "custom_attributes": {"x": 1}}

        identify({"user_id": "25", "custom_attributes": {"x": "one"}, "companies": [company]}, at=at)

        assert dict(CustomAttribute.objects.values_list("scope", "kind")) == {"customer": "text", "company": "number"}


class TestEvents:
    def test_the_same_name_in_the_same_second_is_the_same_event(self, at):
        customer = CustomerFactory()

        assert record_event(customer, "Invited.Friend", at, {"who": "Ann"}, at=at)
        assert not record_event(customer, "invited-friend", at.replace(microsecond=9), None, at=at)

        assert Event.objects.get().name == "invited-friend"
        assert EventSummary.objects.get().count == 1

    def test_the_summary_is_right_for_events_in_any_order(self, at):
        customer = CustomerFactory()

        for days in (2, 5, 1):
            record_event(customer, "ordered", at - timedelta(days), None, at=at)

        summary = EventSummary.objects.get()
        assert (summary.count, summary.first_at, summary.last_at) == (3, at - timedelta(5), at - timedelta(1))

    @pytest.mark.parametrize(
        "metadata",
        [
            {str(n): n for n in range(11)},
            {"a": [1]},
            {"a": {"b": {"c": 1}}},
            {"a": float("nan")},
            {"a\0": 1},
            {"a": "\ud800"},
            [],
        ],
    )
    def test_metadata_is_small_and_flat(self, at, metadata):
        with pytest.raises(Refused):
            record_event(CustomerFactory(), "ordered", at, metadata, at=at)

    def test_links_and_amounts_may_be_objects(self, at):
        metadata = {
            "order": {"url": "https://shop.example/1", "value": "1"},
            "price": {"amount": 99, "currency": "eur"},
        }

        record_event(CustomerFactory(), "ordered", at, metadata, at=at)

        assert Event.objects.get().metadata == metadata

    def test_an_event_in_the_future_is_refused(self, at):
        with pytest.raises(Refused, match="future"):
            record_event(CustomerFactory(), "ordered", at + timedelta(days=2), None, at=at)


class TestTags:
    def test_tag_names_ignore_case(self, at):
        assert intake.find_or_make_tag("VIP Ö", at=at) == intake.find_or_make_tag("vip ö", at=at)

    def test_adding_and_removing_a_tag_is_idempotent(self, at):
        customer, label = CustomerFactory(), TagFactory()

        intake.add_tag(label, [customer, customer], at=at)
        intake.add_tag(label, [customer], at=at)
        assert list(customer.tags.all()) == [label]

        intake.remove_tag(label, [customer], at=at)
        assert not customer.tags.exists()

    def test_two_tags_cannot_have_one_name(self, at):
        one = intake.find_or_make_tag("one", at=at)
        intake.find_or_make_tag("two", at=at)

        with pytest.raises(Conflict):
            intake.rename_tag(one, "TWO")


class TestUserAgents:
    @pytest.mark.parametrize(
        ("agent", "name", "version", "os"),
        [
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36 Edg/120.0.2",
                "Edge",
                "120.0.2",
                "Windows",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:121.0) Gecko/2010 Firefox/121.0",
                "Firefox",
                "121.0",
                "macOS",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) Version/17.1 Mobile/15 Safari/604.1",
                "Safari",
                "17.1",
                "iOS",
            ),
            (
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 Chrome/120.0 Mobile Safari/537.36",
                "Chrome",
                "120.0",
                "Android",
            ),
            ("Mozilla/5.0 (Windows NT 6.1; Trident/7.0; rv:11.0) like Gecko", "Internet Explorer", "11.0", "Windows"),
            ("curl/8.0", "", "", ""),
        ],
    )
    def test_browser_version_and_system_are_read(self, agent, name, version, os):
        assert parse_browser(agent) == (name, version)
        assert parse_os(agent) == os


class TestBrowserSettings:
    def test_unknown_settings_become_custom_attributes(self, at):
        settings = {
            "app_id": "abc",
            "user_id": "25",
            "user_hash": "f0",
            "created_at": 1234567890,
            "plan": "pro",
            "hide_default_launcher": True,
            "last_request_at": 1,
            "id": 7,
            "company": {"id": "6", "name": "Acme", "seats": 3},
        }

        customer = identify(intake.facts_from_settings(settings), at=at, source=Source.PROVED_BROWSER)

        assert customer.signed_up_at == datetime.fromtimestamp(1234567890, tz=UTC)
        assert customer.attributes == {"plan": "pro"}
        assert customer.last_seen_at is None
        assert customer.companies.get().attributes == {"seats": 3}


@pytest.mark.django_db(transaction=True)
class TestConcurrency:
    def test_concurrent_requests_for_one_user_create_one_customer(self, at):
        facts = {"user_id": "25", "email": "a@example.com", "companies": [{"company_id": "6", "name": "Acme"}]}

        found = run_concurrently(8, lambda _: identify(facts, at=at).pk)

        assert len(set(found)) == 1
        assert Membership.objects.count() == 1

    def test_concurrent_requests_by_email_and_by_user_id_create_one_customer(self, at):
        facts = [{"email": "a@example.com"}, {"email": "a@example.com", "user_id": "25"}]

        run_concurrently(8, lambda n: identify(facts[n % 2], at=at).pk)

        assert Customer.objects.get().user_id == "25"

    def test_no_session_is_lost(self, at):
        CustomerFactory(user_id="25")

        run_concurrently(8, lambda _: identify({"user_id": "25", "new_session": True}, at=at))

        assert Customer.objects.get().session_count == 8

    def test_concurrent_requests_with_two_kinds_store_one_kind(self, at):
        def send(n: int) -> str:
            value = "seven" if n % 2 else 7
            try:
                return str(identify({"user_id": str(n), "custom_attributes": {"x": value}}, at=at).attributes["x"])
            except Refused as refused:
                return f"{refused.field} refused"

        answers = set(run_concurrently(8, send))

        kind = CustomAttribute.objects.get().kind
        assert answers == ({"seven", "7"} if kind == "text" else {"7", "x refused"})

    def test_attributes_and_companies_in_opposite_order_do_not_deadlock(self, at):
        names = [f"a{n}" for n in range(6)]

        def send(n: int) -> None:
            order = names if n % 2 else names[::-1]
            companies = [{"company_id": name, "size": n, "custom_attributes": {name: n}} for name in order]
            attributes = dict.fromkeys(order, n)
            identify({"user_id": str(n), "custom_attributes": attributes, "companies": companies}, at=at)

        run_concurrently(8, send)

        assert CustomAttribute.objects.count() == 12
        assert Membership.objects.count() == 48

    def test_concurrent_events_are_each_counted_once(self, at):
        customer = CustomerFactory()

        new = run_concurrently(
            8, lambda n: record_event(customer, "ordered", at - timedelta(seconds=n % 4), None, at=at)
        )

        summary = EventSummary.objects.get()
        assert sum(new) == summary.count == Event.objects.count() == 4
        assert (summary.first_at, summary.last_at) == (at - timedelta(seconds=3), at)

    def test_concurrent_requests_create_one_tag(self, at):
        run_concurrently(8, lambda n: intake.find_or_make_tag("VIP" if n % 2 else "vip", at=at).pk)

        assert Tag.objects.count() == 1


def test_more_companies_than_the_limit_are_refused_and_nothing_is_written(at):
    with pytest.raises(Refused, match=r"more than 1,000") as wrong:
        intake.identify({"user_id": "1", "companies": [{"company_id": n} for n in range(1001)]}, at=at)

    assert wrong.value.field == "companies"
    assert not Customer.objects.exists()
