"""Companies in incoming data: upsert by company_id, and memberships (wire 5.13)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from audiences.intake.attributes import custom_attributes
from audiences.intake.attributes.fields import (
    OnBadValue,
    Reader,
    Refused,
    raise_refusal,
    read_flag,
    read_integer,
    read_long_text,
    read_mapping,
    read_moment,
    read_text,
    try_read,
)
from audiences.intake.identity_resolution import read_user_id
from audiences.intake.source import Source
from audiences.models import Company, Customer, Membership, Topic
from audiences.models.catalogue import Scope
from audiences.transactions import retried
from audiences.webhook_outbox import announce


def read_plan(value: object, field: str) -> str:
    """Read a plan's name, bare or in an object as in the API's answers."""
    return read_text(value.get("name") if isinstance(value, dict) else value, field)


# Field, column, reader. If two fields fill one column, the later row counts.
COLUMNS: tuple[tuple[str, str, Reader], ...] = (
    ("name", "name", read_text),
    ("plan", "plan", read_plan),
    ("monthly_spend", "monthly_spend", read_integer),
    ("size", "size", read_integer),
    ("industry", "industry", read_text),
    ("website", "website", read_long_text),
    ("created_at", "remote_created_at", read_moment),
    ("remote_created_at", "remote_created_at", read_moment),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanyFacts:
    """The data about one company. `columns` has only the fields that were sent."""

    company_id: str
    columns: dict[str, Any]
    attributes: dict[str, Any]
    remove: bool  # End the membership of the customer.

    def with_kinds(self, kinds: custom_attributes.Kinds, *, on_bad_value: OnBadValue = raise_refusal) -> "CompanyFacts":
        """Return a copy with the attributes converted to their kinds."""
        values = custom_attributes.coerce_values(
            self.attributes, scope=Scope.COMPANY, kinds=kinds, on_bad_value=on_bad_value
        )
        return replace(self, attributes=values)

    def changes_to(self, company: Company) -> dict[str, Any]:
        """Return the columns that change, with their new values."""
        wanted = {
            **self.columns,
            "attributes": custom_attributes.merge_values(company.attributes, self.attributes),
            "archived_at": None,
        }
        return {column: value for column, value in wanted.items() if getattr(company, column) != value}


def read_company(facts: Mapping[str, Any], *, on_bad_value: OnBadValue = raise_refusal) -> CompanyFacts:
    """Read the data about a company. `id` counts as company_id if only that is given, as browsers send it."""
    company_id = read_user_id(facts.get("company_id") or facts.get("id"), "company_id")
    if not company_id:
        raise Refused("company_id is required to identify the company.", field="company_id")
    columns: dict[str, Any] = {}
    for field, column, read in COLUMNS:
        if field in facts:
            try:
                columns[column] = read(facts[field], field)
            except Refused as wrong:
                on_bad_value(wrong)
    sent = try_read(
        read_mapping, facts.get("custom_attributes"), "custom_attributes", on_bad_value=on_bad_value, otherwise={}
    )
    return CompanyFacts(
        company_id=company_id,
        columns=columns,
        attributes=custom_attributes.check_attributes(sent, on_bad_value=on_bad_value),
        remove=bool(try_read(read_flag, facts.get("remove"), "remove", on_bad_value=on_bad_value)),
    )


@retried
def upsert_company(facts: Mapping[str, Any], *, at: datetime, on_bad_value: OnBadValue = raise_refusal) -> Company:
    """Create or update the company that `facts` identifies.

    `on_bad_value` gets each bad value; by default it raises, which refuses the whole.
    """
    sent = read_company(facts, on_bad_value=on_bad_value)
    attributes = [(Scope.COMPANY, sent.attributes)]
    kinds = custom_attributes.kinds_of(attributes, at=at, source=Source.REST, on_bad_value=on_bad_value)
    return upsert_companies([sent.with_kinds(kinds, on_bad_value=on_bad_value)], at=at)[sent.company_id]


def upsert_companies(sent: Iterable[CompanyFacts], *, at: datetime) -> dict[str, Company]:
    """Create or update companies, and return them by company_id."""
    sent = list(sent)
    names = {facts.company_id for facts in sent}
    rows = Company.objects.filter(company_id__in=names)
    found = {company.company_id: company for company in rows}
    if all(facts.company_id in found and not facts.changes_to(found[facts.company_id]) for facts in sent):
        return found
    # All are created before any is locked, both in order, so that two requests cannot deadlock.
    new = sorted(names - found.keys())
    Company.objects.bulk_create(
        [Company(company_id=name, created_at=at, updated_at=at) for name in new], ignore_conflicts=True
    )
    found = {company.company_id: company for company in rows.select_for_update(no_key=True).order_by("company_id")}
    for facts in sent:
        company = found[facts.company_id]
        changes = facts.changes_to(company)
        if changes:
            for column, value in (changes | {"updated_at": at}).items():
                setattr(company, column, value)
            company.save(update_fields=[*changes, "updated_at"])
    for name in new:
        announce(Topic.COMPANY_CREATED, at=at, company=found[name].pk)
    return found


def update_memberships(customer: Customer, companies: Iterable[CompanyFacts], *, at: datetime) -> None:
    """Add the customer to these companies, or remove them from those marked `remove`."""
    joined = {facts.company_id: facts for facts in companies}
    left = [name for name, facts in joined.items() if facts.remove]
    if left:
        Membership.objects.filter(customer=customer, company__company_id__in=left).delete()
    staying = [facts for facts in companies if not joined[facts.company_id].remove]
    if not staying:
        return
    found = upsert_companies(staying, at=at)
    present = set(Membership.objects.filter(customer=customer).values_list("company_id", flat=True))
    new = [company for company in found.values() if company.pk not in present]
    if new:
        Membership.objects.bulk_create(
            [Membership(customer=customer, company=company, created_at=at) for company in new], ignore_conflicts=True
        )
