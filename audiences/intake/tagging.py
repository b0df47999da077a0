"""Bulk tagging: one statement adds a tag to all customers of a queryset, or removes it."""

from datetime import datetime

from django.db import connection

from audiences.models import CustomerTag, Tag
from audiences.models.customers import CustomerQuerySet


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
