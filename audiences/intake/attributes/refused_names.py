"""Refused names: attributes and events that browsers may not add, listed for staff, who can accept them."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from audiences.intake.attributes.custom_attributes import catalogue_room
from audiences.intake.attributes.fields import NotInCatalogue, Refused, quoted_value
from audiences.intake.source import Source
from audiences.locks import Lock
from audiences.models import CustomAttribute, EventName, RefusedName
from audiences.models.catalogue import Scope
from audiences.rules import Kind

# Visitors can send any name, so one request adds few of them and the table keeps only the newest.
MAX_NOTED_PER_REQUEST = 20
MAX_REFUSED_NAMES = 200
UPSERT_NAMES = """
INSERT INTO audiences_refusedname AS noted (of, name, kind, times, first_at, last_at)
SELECT of, name, kind, 1, %(at)s, %(at)s
FROM unnest(%(of)s::text[], %(names)s::text[], %(kinds)s::text[]) AS sent (of, name, kind)
ON CONFLICT (of, name) DO UPDATE SET times = noted.times + 1, last_at = greatest(noted.last_at, excluded.last_at),
    kind = CASE WHEN noted.kind IN ('', excluded.kind) THEN excluded.kind ELSE 'text' END
"""
DELETE_OLDEST = """
DELETE FROM audiences_refusedname
WHERE id IN (SELECT id FROM audiences_refusedname ORDER BY last_at DESC, id DESC OFFSET %(most)s)
"""


def note_refused_names(refused: Iterable[Refused], *, at: datetime) -> None:
    """Record the names that were not in the catalogue, in a separate transaction.

    Requests never wait for one another: of two at once, one records nothing, so counts are lower bounds.
    """
    new = {(wrong.of, wrong.name): wrong.kind for wrong in refused if isinstance(wrong, NotInCatalogue)}
    noted = sorted(new)[:MAX_NOTED_PER_REQUEST]
    if not noted:
        return
    values: dict[str, Any] = {
        "at": at,
        "of": [of for of, _ in noted],
        "names": [name for _, name in noted],
        "kinds": [new[key] for key in noted],
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [Lock.REFUSED_NAMES])
        if cursor.fetchone()[0]:
            cursor.execute(UPSERT_NAMES, values)
            cursor.execute(DELETE_OLDEST, {"most": MAX_REFUSED_NAMES})


def accept_name(noted: RefusedName, *, kind: Kind, at: datetime) -> CustomAttribute | EventName:
    """Add a refused name to its catalogue, an attribute with this kind. Raises Refused if the catalogue is full."""
    added: CustomAttribute | EventName
    with transaction.atomic():
        if noted.of == RefusedName.Of.EVENT:
            added, _ = EventName.objects.get_or_create(name=noted.name, defaults={"created_at": at})
        else:
            scope = Scope(noted.of)
            if not catalogue_room(scope, source=Source.REST):
                raise Refused(
                    f"{quoted_value(noted.name)} cannot be added: the catalogue is full. Retire an attribute first."
                )
            # The customer's server may have added it since, with another kind.
            added, _ = CustomAttribute.objects.get_or_create(
                scope=scope, name=noted.name, defaults={"kind": kind, "created_at": at}
            )
        noted.delete()
    return added
