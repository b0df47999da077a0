"""Tags put on customers and companies, and taken off; names are told apart without regard to case (wire 5.13)."""

from collections.abc import Iterable
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import Value
from django.db.models.functions import Lower

from audiences.intake.attributes.fields import Refused, text
from audiences.intake.identity_resolution import Conflict
from audiences.models import Company, CompanyTag, Customer, CustomerTag, Tag
from audiences.transactions import retried
from audiences.webhook_outbox import announce_about

LONGEST_NAME = 200


def tag_name(value: object, field: str = "name") -> str:
    """Read a tag's name."""
    name = text(value, field, most=LONGEST_NAME)
    if not name:
        raise Refused("A tag needs a name.", field=field)
    return name


def tag_named(name: str) -> Tag | None:
    """Return the tag of this name, in whatever case; PostgreSQL folds, as its constraint does."""
    return Tag.objects.annotate(folded=Lower("name")).filter(folded=Lower(Value(name))).first()


def find_or_make_tag(name: object, *, at: datetime) -> Tag:
    """Return the tag of this name, made where there is none."""
    wanted = tag_name(name)
    found = tag_named(wanted)
    if found is None:
        # Whoever makes it first, both then find it.
        Tag.objects.bulk_create([Tag(name=wanted, created_at=at)], ignore_conflicts=True)
        found = tag_named(wanted)
    if found is None:
        raise Conflict(f"The tag “{wanted}” was removed at the same time. Send it again.", field="name")
    return found


def rename_tag(label: Tag, name: object) -> None:
    """Give a tag another name; Conflict where another one has it."""
    label.name = tag_name(name)
    try:
        with transaction.atomic():
            label.save(update_fields=["name"])
    except IntegrityError:
        raise Conflict(f"There is another tag named “{label.name}”.", field="name") from None


@retried
def tag(label: Tag, things: Iterable[Customer | Company], *, at: datetime) -> None:
    """Put a tag on customers and companies; those who have it keep it."""
    customers, companies = apart(things)
    had = set(CustomerTag.objects.filter(tag=label, customer__in=customers).values_list("customer_id", flat=True))
    CustomerTag.objects.bulk_create(
        [CustomerTag(customer_id=pk, tag=label, created_at=at) for pk in customers], ignore_conflicts=True
    )
    CompanyTag.objects.bulk_create(
        [CompanyTag(company_id=pk, tag=label, created_at=at) for pk in companies], ignore_conflicts=True
    )
    tell(label, set(customers) - had, "tag.created", at=at)


@retried
def untag(label: Tag, things: Iterable[Customer | Company], *, at: datetime) -> None:
    """Take a tag off customers and companies."""
    customers, companies = apart(things)
    rows = CustomerTag.objects.filter(tag=label, customer__in=customers)
    had = set(rows.values_list("customer_id", flat=True))
    rows.delete()
    CompanyTag.objects.filter(tag=label, company__in=companies).delete()
    tell(label, had, "tag.deleted", at=at)


def tell(label: Tag, customers: Iterable[int], what: str, *, at: datetime) -> None:
    """Announce what happened between a tag and customers."""
    for customer in Customer.objects.filter(pk__in=customers).order_by("pk"):
        announce_about(customer, what, at=at, tag={"id": str(label.pk), "name": label.name})


def apart(things: Iterable[Customer | Company]) -> tuple[list[int], list[int]]:
    """Return the keys of the customers and of the companies among them, in the order rows are written everywhere."""
    things = list(things)
    customers = {thing.pk for thing in things if isinstance(thing, Customer)}
    companies = {thing.pk for thing in things if isinstance(thing, Company)}
    return sorted(customers), sorted(companies)
