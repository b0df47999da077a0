"""Tags of customers and companies: add, remove, create, rename. Names ignore case (wire 5.13)."""

from collections.abc import Iterable
from datetime import datetime

from django.db import IntegrityError, connection, transaction
from django.db.models import Value
from django.db.models.functions import Lower

from audiences.intake.attributes.fields import Refused, read_text
from audiences.intake.identity_resolution import Conflict
from audiences.models import Company, CompanyTag, Customer, CustomerTag, Tag
from audiences.models.customers import CustomerQuerySet
from audiences.transactions import retried
from audiences.webhook_outbox import announce_customer_change

MAX_NAME_LENGTH = 200


def read_tag_name(value: object, field: str = "name") -> str:
    name = read_text(value, field, most=MAX_NAME_LENGTH)
    if not name:
        raise Refused("A tag name is required.", field=field)
    return name


def find_tag(name: str) -> Tag | None:
    """Return the tag with this name, in any case. PostgreSQL folds case, as in the unique constraint."""
    return Tag.objects.annotate(folded=Lower("name")).filter(folded=Lower(Value(name))).first()


def find_or_make_tag(name: object, *, at: datetime) -> Tag:
    """Return the tag with this name; create it if there is none."""
    wanted = read_tag_name(name)
    found = find_tag(wanted)
    if found is None:
        # Another request may create it first; both then find it.
        Tag.objects.bulk_create([Tag(name=wanted, created_at=at)], ignore_conflicts=True)
        found = find_tag(wanted)
    if found is None:
        raise Conflict(f"The tag “{wanted}” was deleted during this request. Send the request again.", field="name")
    return found


def rename_tag(label: Tag, name: object) -> None:
    """Rename a tag; raises Conflict if another tag has the name."""
    label.name = read_tag_name(name)
    try:
        with transaction.atomic():
            label.save(update_fields=["name"])
    except IntegrityError:
        raise Conflict(f"A tag named “{label.name}” already exists.", field="name") from None


@retried
def add_tag(label: Tag, things: Iterable[Customer | Company], *, at: datetime) -> None:
    """Add a tag to customers and companies. Idempotent."""
    customers, companies = split_keys(things)
    had = set(CustomerTag.objects.filter(tag=label, customer__in=customers).values_list("customer_id", flat=True))
    CustomerTag.objects.bulk_create(
        [CustomerTag(customer_id=pk, tag=label, created_at=at) for pk in customers], ignore_conflicts=True
    )
    CompanyTag.objects.bulk_create(
        [CompanyTag(company_id=pk, tag=label, created_at=at) for pk in companies], ignore_conflicts=True
    )
    announce_tagging(label, set(customers) - had, "tag.created", at=at)


@retried
def remove_tag(label: Tag, things: Iterable[Customer | Company], *, at: datetime) -> None:
    """Remove a tag from customers and companies. Idempotent."""
    customers, companies = split_keys(things)
    rows = CustomerTag.objects.filter(tag=label, customer__in=customers)
    had = set(rows.values_list("customer_id", flat=True))
    rows.delete()
    CompanyTag.objects.filter(tag=label, company__in=companies).delete()
    announce_tagging(label, had, "tag.deleted", at=at)


def announce_tagging(label: Tag, customers: Iterable[int], what: str, *, at: datetime) -> None:
    """Write webhooks about a tag that was added to customers or removed from them."""
    for customer in Customer.objects.filter(pk__in=customers).order_by("pk"):
        announce_customer_change(customer, what, at=at, tag={"id": str(label.pk), "name": label.name})


def split_keys(things: Iterable[Customer | Company]) -> tuple[list[int], list[int]]:
    """Return the keys of the customers and those of the companies, in the order in which all code locks rows."""
    things = list(things)
    customers = {thing.pk for thing in things if isinstance(thing, Customer)}
    companies = {thing.pk for thing in things if isinstance(thing, Company)}
    return sorted(customers), sorted(companies)


def add_tag_to_all(customers: CustomerQuerySet, label: Tag, *, at: datetime) -> int:
    """Add a tag to the customers, and return how many did not have it."""
    found, params = customers.order_by().values("pk").query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO audiences_customertag (customer_id, tag_id, created_at)"  # noqa: S608 - SQL of a queryset
            f" SELECT id, %s, %s FROM ({found}) AS found (id) ORDER BY id ON CONFLICT DO NOTHING",
            [label.pk, at, *params],
        )
        return int(cursor.rowcount)


def remove_tag_from_all(customers: CustomerQuerySet, label: Tag) -> int:
    """Remove a tag from the customers, and return how many had it."""
    return CustomerTag.objects.filter(tag=label, customer__in=customers.order_by().values("pk")).delete()[0]
