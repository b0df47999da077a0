"""Leads, which the API calls contacts (wire 5.13)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from audiences.intake.attributes.fields import OnBadValue, raise_refusal
from audiences.intake.companies import update_memberships
from audiences.intake.customer_fields import read_facts
from audiences.intake.identity_resolution import Conflict
from audiences.intake.source import Source
from audiences.intake.upsert import changes_to, save_changes
from audiences.models import Customer
from audiences.models.customers import Role
from audiences.transactions import retried


@retried
def save_lead(
    facts: Mapping[str, Any],
    *,
    lead: Customer | None = None,
    at: datetime,
    source: Source = Source.REST,
    on_bad_value: OnBadValue = raise_refusal,
) -> Customer:
    """Create a lead, or update `lead`. A lead has no user_id.

    Raises Conflict if another customer without a user_id has the email. An email from a browser counts as unproved.
    """
    facts = {key: value for key, value in facts.items() if key not in ("id", "user_id")}
    sent = read_facts(facts, at=at, source=source, on_bad_value=on_bad_value)
    row = Customer(role=Role.LEAD)
    if lead is not None:
        row = Customer.objects.select_for_update(no_key=True).get(pk=lead.pk)
    changes = changes_to(row, sent, found_by="id", source=source, at=at)
    if source.is_browser and sent.identity.email:
        changes["email_is_said"] = True
    try:
        with transaction.atomic():
            save_changes(row, changes, at=at)
    except IntegrityError:
        raise Conflict(f"Another customer already has the email {sent.identity.email}.", field="email") from None
    update_memberships(row, sent.companies, at=at)
    return row
