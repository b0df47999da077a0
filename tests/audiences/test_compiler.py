"""Meaning of rules: a test for each sentence of behaviour 4.4, and for rules whose attribute or segment changed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection

from audiences import compiler, segment_copies
from audiences.compiler import View, compile_tree
from audiences.models import CustomAttribute, Workspace
from audiences.models.audience import parse_stored_rules
from audiences.rules import Group, RuleError
from delivery.models import DeliveryRecord, Status
from messaging.models import Message
from tests.factories import (
    AT,
    AudienceFactory,
    CompanyFactory,
    CompanyTagFactory,
    CustomAttributeFactory,
    CustomerFactory,
    CustomerTagFactory,
    EventSummaryFactory,
    MembershipFactory,
    SegmentFactory,
    TagFactory,
)

pytestmark = pytest.mark.django_db
DAY = timedelta(hours=24)
MICROSECOND = timedelta(microseconds=1)


def rule(attribute: str, operator: str, value: object = None) -> dict[str, Any]:
    return {"attribute": attribute, "operator": operator, "value": value}


def all_of(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"match": "all", "rules": list(rules)}


def any_of(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"match": "any", "rules": list(rules)}


def asked(rules: dict[str, Any]) -> dict[str, Any]:
    return rules if not rules or "rules" in rules else all_of(rules)


def matched(rules: dict[str, Any], *, at: datetime = AT) -> set[str]:
    """Return the user_ids of the customers who match."""
    return set(compiler.matching_customers(asked(rules), at=at).values_list("user_id", flat=True))


def pairs(
    tree: Group, *, per_company: bool = True, view: View = compiler.CURRENT_VIEW, **more: Any
) -> list[tuple[Any, ...]]:
    """Return the matching rows (customer, company), sorted. The server binds the values, as in prepared statements."""
    condition = compile_tree(tree, view=view)
    with psycopg.Cursor(connection.connection) as cursor:
        cursor.execute(condition.pairs(per_company=per_company, **more), {**condition.params, "now": AT})
        return sorted(cursor.fetchall(), key=str)


# Customers who can match


@pytest.mark.parametrize("rules", [{}, all_of(), any_of()])
def test_no_rules_match_every_user_and_no_lead(rules: dict[str, Any]) -> None:
    CustomerFactory(user_id="user")
    CustomerFactory(lead=True)
    assert matched(rules) == {"user"}


def test_leads_match_only_with_a_role_rule() -> None:
    CustomerFactory(user_id="user", country="FR")
    lead = CustomerFactory(lead=True, country="FR")
    assert matched(rule("country", "is", "FR")) == {"user"}
    assert compiler.matching_customers(all_of(rule("role", "is", "lead")), at=AT).get() == lead
    assert (
        compiler.matching_customers(any_of(rule("role", "is", "lead"), rule("country", "is", "FR")), at=AT).count() == 2
    )


def test_a_role_rule_in_a_segment_counts() -> None:
    lead = CustomerFactory(lead=True)
    leads = SegmentFactory(rules=all_of(rule("role", "is", "lead")))
    assert compiler.matching_customers(all_of(rule("segment", "is", leads.pk)), at=AT).get() == lead


def test_a_role_rule_inside_an_excluded_segment_adds_nobody() -> None:
    user = CustomerFactory(user_id="user", country="FR")
    CustomerFactory(lead=True, country="DE")
    leads_in_france = SegmentFactory(rules=all_of(rule("role", "is", "lead"), rule("country", "is", "FR")))
    users = SegmentFactory(rules=all_of(rule("role", "is_not", "lead")))
    outside_users = SegmentFactory(rules=all_of(rule("segment", "is_not", users.pk)))
    for excluded in (leads_in_france, outside_users):
        excluding = all_of(rule("segment", "is_not", excluded.pk))
        frozen = segment_copies.freeze(parse_stored_rules(excluding), on=AT.date()).as_json()
        assert compiler.matching_customers(excluding, at=AT).get() == user
        assert compiler.matching_customers(frozen, at=AT).get() == user


def test_a_role_rule_that_no_lead_fulfils_adds_no_lead() -> None:
    CustomerFactory(user_id="user", country="FR")
    CustomerFactory(lead=True, country="FR")
    for role in (rule("role", "is", "user"), rule("role", "is_not", "lead")):
        assert compiler.matching_customers(any_of(role, rule("country", "is", "FR")), at=AT).count() == 1
    assert compiler.matching_customers(all_of(rule("role", "is_not", "user")), at=AT).count() == 1


def test_archived_customers_never_match() -> None:
    CustomerFactory(archived=True, country="FR")
    assert matched({}) == matched(rule("country", "is", "FR")) == matched(rule("country", "is_not", "DE")) == set()


# The pair of customer and company


def test_all_rules_see_the_same_company() -> None:
    split, both = CustomerFactory(user_id="split"), CustomerFactory(user_id="both")
    MembershipFactory(customer=split, company__plan="pro", company__size=3)
    MembershipFactory(customer=split, company__plan="free", company__size=300)
    MembershipFactory(customer=both, company__plan="pro", company__size=300)
    pro, large = rule("company.plan", "is", "pro"), rule("company.size", "greater_than", 100)
    assert matched(all_of(pro, large)) == {"both"}
    assert matched(all_of(pro, any_of(large, rule("country", "is", "FR")))) == {"both"}
    assert matched(any_of(pro, large)) == {"both", "split"}


def test_a_customer_with_several_matching_companies_is_returned_once() -> None:
    customer = CustomerFactory(user_id="of two")
    for _ in range(2):
        MembershipFactory(customer=customer, company__plan="pro")
    MembershipFactory(customer=customer, company__plan="free")
    assert matched(rule("company.plan", "is", "pro")) == matched(rule("company.plan", "is", "free")) == {"of two"}
    assert pairs(parse_stored_rules(all_of(rule("company.plan", "is", "pro"))), per_company=False) == [
        (customer.pk, None)
    ]


def test_without_a_company_all_company_attributes_are_unknown() -> None:
    customer = CustomerFactory(user_id="alone")
    assert matched(rule("company.plan", "is_unknown")) == matched(rule("company.plan", "is_not", "pro")) == {"alone"}
    assert matched(rule("company.user_count", "is_unknown")) == {"alone"}
    assert matched(rule("company.plan", "is", "pro")) == matched(rule("company.user_count", "less_than", 1)) == set()
    assert pairs(parse_stored_rules({})) == [(customer.pk, None)]


def test_an_archived_company_does_not_count() -> None:
    MembershipFactory(customer__user_id="was at", company__plan="pro", company__archived=True)
    assert matched(rule("company.plan", "is", "pro")) == set()
    assert matched(rule("company.company_id", "is_unknown")) == {"was at"}


def test_per_company_returns_one_row_for_each_matching_company() -> None:
    customer = CustomerFactory()
    companies = [MembershipFactory(customer=customer, company__size=size).company for size in (1, 200, 300)]
    alone = CustomerFactory()
    assert pairs(parse_stored_rules({})) == sorted(
        [*((customer.pk, company.pk) for company in companies), (alone.pk, None)], key=str
    )
    large = parse_stored_rules(all_of(rule("company.size", "greater_than", 100)))
    assert pairs(large) == sorted(((customer.pk, company.pk) for company in companies[1:]), key=str)


def test_a_further_condition_restricts_to_one_customer() -> None:
    one, _other = CustomerFactory(country="FR"), CustomerFactory(country="FR")
    assert pairs(parse_stored_rules(all_of(rule("country", "is", "FR"))), where=f"c.id = {one.pk}") == [(one.pk, None)]


def test_archived_customers_do_not_count_as_company_users() -> None:
    company = CompanyFactory()
    MembershipFactory(customer__user_id="there", company=company)
    MembershipFactory(customer__archived=True, company=company)
    assert matched(rule("company.user_count", "is", 1)) == {"there"}


def test_a_company_tag_rule_sees_the_company_of_the_pair() -> None:
    tag = TagFactory()
    tagged = MembershipFactory(customer__user_id="tagged")
    CompanyTagFactory(company=tagged.company, tag=tag)
    MembershipFactory(customer=tagged.customer, company__plan="pro")
    assert matched(rule("company.tag", "is", tag.pk)) == {"tagged"}
    assert matched(all_of(rule("company.tag", "is", tag.pk), rule("company.plan", "is", "pro"))) == set()
    assert matched(rule("tag", "is", tag.pk)) == set()


# Unknown values


def test_negative_operators_match_unknown_values() -> None:
    CustomAttributeFactory(name="seats", kind="number")
    CustomerFactory(user_id="unknown")
    tag, segment = TagFactory(), SegmentFactory(rules=all_of(rule("country", "is", "FR")))
    for negative in (
        rule("country", "is_not", "FR"),
        rule("country", "does_not_contain", "F"),
        rule("custom_attributes.seats", "is_not", 3),
        rule("owner", "is_not", 1),
        rule("tag", "is_not", tag.pk),
        rule("company.tag", "is_not", tag.pk),
        rule("segment", "is_not", segment.pk),
        rule("company.segment", "is_not", segment.pk),
        rule("event.ordered", "has_not_happened"),
        rule("received_message", "is_not", 1),
    ):
        assert matched(negative) == {"unknown"}, negative


def test_positive_operators_do_not_match_unknown_values() -> None:
    CustomAttributeFactory(name="beta", kind="boolean")
    CustomAttributeFactory(name="seats", kind="number")
    CustomerFactory(user_id="unknown")
    for positive in (
        rule("custom_attributes.beta", "is_false"),
        rule("custom_attributes.seats", "less_than", 3),
        rule("custom_attributes.seats", "greater_than", -3),
        rule("event_count.ordered", "less_than", 1),
        rule("last_seen_at", "more_than_days_ago", 0),
        rule("last_seen_at", "less_than_days_ago", 36_500),
        rule("last_seen_at", "before", "2999-12-31"),
    ):
        assert matched(positive) == set(), positive


def test_an_empty_text_is_unknown() -> None:
    CustomAttributeFactory(name="plan")
    CustomerFactory(user_id="empty", city="", attributes={"plan": ""})
    CustomerFactory(user_id="known", city="Cork", attributes={"plan": "pro"})
    for name in ("city", "custom_attributes.plan"):
        assert matched(rule(name, "is_unknown")) == {"empty"}
        assert matched(rule(name, "has_any_value")) == {"known"}


def test_zero_and_false_are_known_values() -> None:
    CustomAttributeFactory(name="beta", kind="boolean")
    CustomAttributeFactory(name="seats", kind="number")
    CustomerFactory(user_id="known", attributes={"beta": False, "seats": 0})
    assert matched(rule("custom_attributes.beta", "is_false")) == {"known"}
    assert matched(rule("custom_attributes.seats", "is", 0)) == {"known"}
    assert matched(rule("custom_attributes.seats", "has_any_value")) == {"known"}


@pytest.mark.parametrize(
    ("kind", "value"),
    [("number", "5"), ("boolean", "true"), ("date", "2026-05-04"), ("date", 1e308), ("date", -(10**17))],
)
def test_a_stored_value_of_another_kind_is_unknown_and_raises_no_error(kind: str, value: object) -> None:
    CustomAttributeFactory(name="odd", kind=kind)
    CustomerFactory(user_id="odd", attributes={"odd": value})
    assert matched(rule("custom_attributes.odd", "is_unknown")) == {"odd"}
    assert matched(rule("custom_attributes.odd", "has_any_value")) == set()


# Texts and numbers


def test_only_is_is_case_sensitive() -> None:
    CustomerFactory(user_id="loud", city="ÉCULLY-LE-BAS")
    assert matched(rule("city", "is", "Écully-le-Bas")) == set()
    assert matched(rule("city", "is", "ÉCULLY-LE-BAS")) == {"loud"}
    assert matched(rule("city", "contains", "y-le")) == {"loud"}
    assert matched(rule("city", "starts_with", "éc")) == {"loud"}
    assert matched(rule("city", "ends_with", "bas")) == {"loud"}
    assert matched(rule("city", "does_not_contain", "écully")) == set()


@pytest.mark.parametrize("sign", ["%", "_", "\\"])
def test_pattern_characters_are_literal(sign: str) -> None:
    CustomerFactory(user_id="has it", city=f"a{sign}b")
    CustomerFactory(user_id="has not", city="axb")
    for operator, value in (("contains", f"a{sign}b"), ("starts_with", f"a{sign}"), ("ends_with", f"{sign}b")):
        assert matched(rule("city", operator, value)) == {"has it"}, operator


def test_a_name_is_split_at_its_first_space() -> None:
    CustomerFactory(user_id="ada", name="Ada  King Lovelace")
    CustomerFactory(user_id="plato", name="Plato")
    assert matched(rule("first_name", "is", "Ada")) == {"ada"}
    assert matched(rule("last_name", "is", "King Lovelace")) == {"ada"}
    assert matched(rule("last_name", "is_unknown")) == {"plato"}


def test_numbers_are_compared_exactly() -> None:
    CustomAttributeFactory(name="ratio", kind="number")
    CustomerFactory(user_id="three", attributes={"ratio": 0.3})
    more = CustomerFactory(user_id="more", attributes={"ratio": 0.30000000000000004})
    CustomerFactory(user_id="many", attributes={"ratio": 10**20 + 1})
    assert matched(rule("custom_attributes.ratio", "is", 0.3)) == {"three"}
    assert matched(rule("custom_attributes.ratio", "greater_than", 10**20)) == {"many"}
    assert matched(rule("custom_attributes.ratio", "less_than", 0.30000000000000004)) == {"three"}
    assert pairs(parse_stored_rules(all_of(rule("custom_attributes.ratio", "is", 0.30000000000000004)))) == [
        (more.pk, None)
    ]


# Days


@pytest.mark.parametrize(
    ("operator", "days", "ages"),
    [
        ("exactly_days_ago", 0, {"now", "just under a day"}),
        ("exactly_days_ago", 1, {"a day"}),
        ("more_than_days_ago", 1, set()),
        ("more_than_days_ago", 0, {"just under a day", "a day"}),
        ("less_than_days_ago", 1, {"just under a day", "now"}),
        ("in_less_than_days", 1, {"a moment ahead"}),
        ("in_less_than_days", 2, {"a moment ahead", "a day ahead"}),
        ("in_more_than_days", 0, {"a moment ahead", "a day ahead"}),
        ("in_more_than_days", 1, set()),
    ],
)
def test_a_day_is_24_hours_and_only_dates_until_now_are_ago(operator: str, days: int, ages: set[str]) -> None:
    for name, age in {
        "a day": DAY,
        "just under a day": DAY - MICROSECOND,
        "now": 0 * DAY,
        "a moment ahead": -MICROSECOND,
        "a day ahead": -DAY,
    }.items():
        CustomerFactory(user_id=name, signed_up_at=AT - age)
    assert matched(rule("signed_up_at", operator, days)) == ages


@pytest.mark.parametrize(("days", "hours"), [(0, {0, 22}), (1, {23, 46})], ids=["today", "tomorrow"])
def test_exactly_days_from_now_is_a_calendar_day_of_the_workspace(days: int, hours: set[int]) -> None:
    Workspace.objects.update_or_create(pk=1, defaults={"zone": "Africa/Cairo"})
    midnight = datetime(2026, 4, 23, 22, tzinfo=UTC)  # 24 April begins in Cairo; it has 23 hours.
    for hour in (-1, 0, 22, 23, 46, 47):
        CustomerFactory(user_id=str(hour), signed_up_at=midnight + timedelta(hours=hour))
    for now in (midnight, midnight + timedelta(hours=22)):
        found = matched(rule("signed_up_at", "exactly_days_from_now", days), at=now)
        assert found == {str(hour) for hour in hours}


def test_none_of_a_group_matches_unknown_dates() -> None:
    CustomerFactory(user_id="unknown", signed_up_at=None)
    CustomerFactory(user_id="soon", signed_up_at=AT + DAY)
    CustomerFactory(user_id="before", signed_up_at=AT - DAY)
    none = {"match": "none", "rules": [rule("signed_up_at", "in_less_than_days", 2), rule("user_id", "is", "x")]}
    assert matched(none) == matched(all_of(none)) == {"unknown", "before"}
    assert matched({"match": "none", "rules": []}) == {"unknown", "soon", "before"}


def test_a_day_ago_is_24_hours_on_the_night_of_a_clock_change_too() -> None:
    Workspace.objects.update_or_create(pk=1, defaults={"zone": "Europe/Dublin"})
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL TIME ZONE 'Europe/Dublin'")
    noon_after = datetime(2026, 3, 29, 11, tzinfo=UTC)  # Noon in Dublin, 23 hours after the noon before.
    CustomerFactory(user_id="noon before", signed_up_at=datetime(2026, 3, 28, 12, tzinfo=UTC))
    assert matched(rule("signed_up_at", "exactly_days_ago", 0), at=noon_after) == {"noon before"}


@pytest.mark.parametrize(
    ("operator", "hours"), [("before", {-1}), ("on", {0, 1, 22}), ("after", {23, 24})], ids=["before", "on", "after"]
)
def test_dates_are_calendar_days_of_the_workspace(operator: str, hours: set[int]) -> None:
    Workspace.objects.update_or_create(pk=1, defaults={"zone": "Africa/Cairo"})
    midnight = datetime(2026, 4, 23, 22, tzinfo=UTC)  # The 24th begins at 01:00 there: 00:00 does not exist.
    for hour in (-1, 0, 1, 22, 23, 24):
        CustomerFactory(user_id=str(hour), signed_up_at=midnight + timedelta(hours=hour))
    assert matched(rule("signed_up_at", operator, "2026-04-24")) == {str(hour) for hour in hours}


# Events and messages


def test_an_event_that_never_happened_has_no_count_first_or_last() -> None:
    EventSummaryFactory(customer__user_id="did", name="ordered", count=2, first_at=AT - 9 * DAY, last_at=AT - DAY)
    CustomerFactory(user_id="did not")
    assert matched(rule("event.ordered", "has_happened")) == {"did"}
    assert matched(rule("event.Ordered", "has_happened")) == {"did"}
    assert matched(rule("event_count.ordered", "greater_than", 1)) == {"did"}
    assert matched(rule("event_first.ordered", "more_than_days_ago", 7)) == {"did"}
    assert matched(rule("event_last.ordered", "exactly_days_ago", 1)) == {"did"}
    for about in ("event_count", "event_first", "event_last"):
        assert matched(rule(f"{about}.ordered", "is_unknown")) == {"did not"}


def test_each_rule_uses_the_summary_of_its_own_event() -> None:
    both, one = CustomerFactory(user_id="both"), CustomerFactory(user_id="one")
    for customer, name in ((both, "ordered"), (both, "paid"), (one, "ordered")):
        EventSummaryFactory(customer=customer, name=name)
    assert matched(all_of(*(rule(f"event_count.{name}", "is", 1) for name in ("ordered", "paid")))) == {"both"}


@pytest.fixture
def message() -> Message:
    return Message.objects.create(title="Welcome", audience=AudienceFactory())


def test_received_means_sent_to_the_customer_in_any_company(message: Message) -> None:
    got = MembershipFactory(customer__user_id="got it")
    MembershipFactory(customer=got.customer, company__plan="pro")
    DeliveryRecord.objects.create(
        message=message, customer=got.customer, company=got.company, status=Status.SENT, matched_at=AT, sent_at=AT
    )
    waits = CustomerFactory(user_id="waits")
    DeliveryRecord.objects.create(message=message, customer=waits, matched_at=AT, due_at=AT)
    assert matched(rule("received_message", "is", message.pk)) == {"got it"}
    assert matched(rule("received_message", "is_not", message.pk)) == {"waits"}
    assert matched(all_of(rule("received_message", "is", message.pk), rule("company.plan", "is", "pro"))) == {"got it"}


@pytest.mark.parametrize("what", ["opened", "clicked", "replied"])
def test_opened_clicked_and_replied_refer_to_the_message_of_the_rule(message: Message, what: str) -> None:
    name = {"replied": "replied_to_message"}.get(what, f"{what}_message")
    for user_id, done_at in (("did", AT), ("did not", None)):
        DeliveryRecord.objects.create(
            message=message,
            customer=CustomerFactory(user_id=user_id),
            status=Status.SENT,
            matched_at=AT,
            sent_at=AT,
            **{f"{what}_at": done_at},
        )
    assert matched(rule(name, "is", message.pk)) == {"did"}
    assert matched(rule(name, "is_not", message.pk)) == {"did not"}
    assert matched(rule(name, "is", message.pk + 1)) == set()


# Time and last-seen of the evaluation


def test_now_and_last_seen_can_be_columns_of_a_record(message: Message) -> None:
    seen = CustomerFactory(last_seen_at=AT)
    DeliveryRecord.objects.create(
        message=message, customer=seen, matched_at=AT - DAY, judged_last_seen_at=AT - 5 * DAY, due_at=AT
    )
    slipping = parse_stored_rules(all_of(rule("last_seen_at", "more_than_days_ago", 3)))
    join = " JOIN delivery_deliveryrecord r ON r.customer_id = c.id"
    assert pairs(slipping, joins=join) == []
    assert pairs(slipping, joins=join, view=View(now="r.matched_at", last_seen="r.judged_last_seen_at"))
    # Four days before it was matched, five before now.
    days = parse_stored_rules(all_of(rule("last_seen_at", "exactly_days_ago", 4)))
    assert pairs(days, joins=join, view=View(now="r.matched_at", last_seen="r.judged_last_seen_at"))


def test_prefixes_keep_the_parameters_of_two_trees_apart() -> None:
    first, second = (
        compile_tree(parse_stored_rules(all_of(rule(name, "is", value))), prefix=prefix)
        for prefix, name, value in (("a", "city", "Paris"), ("b", "country", "FR"))
    )
    assert not first.params.keys() & second.params.keys()


# Segments


@pytest.fixture
def french(db: None) -> Any:
    return SegmentFactory(name="French", rules=all_of(rule("country", "is", "FR")))


@pytest.fixture
def people(db: None) -> None:
    for country in ("FR", "DE", ""):
        CustomerFactory(user_id=country or "unknown", country=country)


@pytest.mark.usefixtures("people")
def test_a_segment_rule_follows_the_segment(french: Any) -> None:
    in_it, out_of_it = rule("segment", "is", french.pk), rule("segment", "is_not", french.pk)
    assert (matched(in_it), matched(out_of_it)) == ({"FR"}, {"DE", "unknown"})
    french.rules = all_of(rule("country", "is", "DE"))
    french.save()
    assert (matched(in_it), matched(out_of_it)) == ({"DE"}, {"FR", "unknown"})


def test_a_segment_rule_sees_the_same_pair() -> None:
    pro = SegmentFactory(rules=all_of(rule("company.plan", "is", "pro")))
    customer = CustomerFactory(user_id="of two")
    MembershipFactory(customer=customer, company__plan="pro", company__size=3)
    MembershipFactory(customer=customer, company__plan="free", company__size=300)
    large = rule("company.size", "greater_than", 100)
    assert matched(rule("segment", "is", pro.pk)) == {"of two"}
    assert matched(all_of(rule("segment", "is", pro.pk), large)) == set()
    assert matched(all_of(rule("company.segment", "is", pro.pk), large)) == set()


@pytest.mark.usefixtures("people")
def test_a_company_segment_requires_a_company(french: Any) -> None:
    MembershipFactory(customer__user_id="at work", customer__country="FR")
    assert matched(rule("company.segment", "is", french.pk)) == {"at work"}
    assert matched(rule("company.segment", "is_not", french.pk)) == {"FR", "DE", "unknown"}


@pytest.mark.usefixtures("people")
def test_frozen_rules_ignore_later_edits_of_segments(french: Any) -> None:
    outer = SegmentFactory(name="Not French", rules=all_of(rule("segment", "is_not", french.pk)))
    rules = any_of(rule("segment", "is", outer.pk), rule("country", "is", "IE"))
    frozen = segment_copies.freeze(parse_stored_rules(rules), on=AT).as_json()
    for segment in (french, outer):
        segment.rules = all_of(rule("country", "is", "IT"))
        segment.save()
    assert matched(rules) == set()
    assert matched(frozen) == {"DE", "unknown"}
    for segment in (outer, french):
        segment.delete()
    assert matched(frozen) == {"DE", "unknown"}


def test_a_copy_has_the_segments_name_the_day_and_the_negation(french: Any) -> None:
    tree = segment_copies.freeze(parse_stored_rules(all_of(rule("segment", "is_not", french.pk))), on=AT)
    assert tree.rules[0].as_json() == {
        "match": "all",
        "rules": [all_of({"attribute": "country", "operator": "is", "value": "FR"})],
        "copied_from": "French as of 4 May 2026",
        "negated": True,
    }


def test_a_negated_copy_matches_unknown_values() -> None:
    ordered = SegmentFactory(rules=all_of(rule("event_count.ordered", "greater_than", 0)))
    CustomerFactory(user_id="never did")
    frozen = segment_copies.freeze(parse_stored_rules(all_of(rule("segment", "is_not", ordered.pk))), on=AT)
    assert matched(frozen.as_json()) == {"never did"}


@pytest.mark.usefixtures("people")
def test_the_copy_of_an_empty_segment_matches_no_customer() -> None:
    nobody = SegmentFactory(rules={**all_of(), "copied_from": "Everyone as of 3 May 2026", "negated": True})
    rules = all_of(rule("segment", "is", nobody.pk))
    assert matched(segment_copies.freeze(parse_stored_rules(rules), on=AT).as_json()) == matched(rules) == set()


@pytest.mark.usefixtures("people")
def test_the_copy_of_a_segment_of_everyone_matches_everyone() -> None:
    everyone = SegmentFactory()
    MembershipFactory(customer__user_id="at work")
    for name, operator, expected in (
        ("segment", "is", {"FR", "DE", "unknown", "at work"}),
        ("segment", "is_not", set()),
        ("company.segment", "is", {"at work"}),
        ("company.segment", "is_not", {"FR", "DE", "unknown"}),
    ):
        rules = all_of(rule(name, operator, everyone.pk))
        assert matched(segment_copies.freeze(parse_stored_rules(rules), on=AT).as_json()) == matched(rules) == expected


# Rules that became invalid


def test_a_deleted_attribute_has_a_readable_error() -> None:
    attribute = CustomAttributeFactory(name="plan")
    audience = AudienceFactory(rules=all_of(rule("custom_attributes.plan", "is", "pro")))
    tree = audience.tree
    attribute.delete()
    with pytest.raises(RuleError, match="The attribute “custom_attributes"):
        compile_tree(tree)
    with pytest.raises(RuleError, match="Rule 1: there is no attribute “custom_attributes"):
        compiler.matching_customers(audience.rules, at=AT)


def test_an_attribute_of_a_new_kind_has_a_readable_error() -> None:
    CustomAttributeFactory(name="plan")
    audience = AudienceFactory(rules=all_of(rule("custom_attributes.plan", "contains", "pro")))
    tree = audience.tree
    CustomAttribute.objects.update(kind="number")
    with pytest.raises(RuleError, match="“plan” is a number now, so this rule no longer fits it"):
        compile_tree(tree)
    with pytest.raises(RuleError, match="Rule 1: “contains” does not fit “plan”, which is a number"):
        compiler.matching_customers(audience.rules, at=AT)


def test_a_value_that_does_not_fit_a_new_kind_has_a_readable_error() -> None:
    CustomAttributeFactory(name="plan")
    audience = AudienceFactory(rules=all_of(rule("custom_attributes.plan", "is", "pro")))
    tree = audience.tree
    CustomAttribute.objects.update(kind="number")
    with pytest.raises(RuleError, match="“plan is”: “pro” is not a number"):
        compile_tree(tree)
    with pytest.raises(RuleError, match="Rule 1, “plan is”: “pro” is not a number"):
        compiler.matching_customers(audience.rules, at=AT)


def test_a_deleted_tag_matches_no_customer() -> None:
    tagged = CustomerTagFactory(customer__user_id="was tagged")
    tag = tagged.tag.pk
    tagged.tag.delete()
    assert matched(rule("tag", "is", tag)) == set()
    assert matched(rule("tag", "is_not", tag)) == {"was tagged"}


def test_a_deleted_segment_has_a_readable_error(french: Any) -> None:
    tree = parse_stored_rules(all_of(rule("segment", "is", french.pk)))
    french.delete()
    for ask in (compile_tree, lambda tree: segment_copies.freeze(tree, on=AT)):
        with pytest.raises(RuleError, match="A rule uses a segment that no longer exists"):
            ask(tree)
