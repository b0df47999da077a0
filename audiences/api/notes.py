"""Endpoints of notes about users and leads (wire 5.13)."""

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import intake
from audiences.api import payloads
from audiences.api.base.endpoint import Endpoint, body
from audiences.api.base.errors import MissingField
from audiences.api.base.lookups import find_admin, get_row
from audiences.api.base.openapi import PAGE, PERSON_PARAMETERS
from audiences.api.base.paging import page_rows
from audiences.api.base.versions import refuse_unread_keys
from audiences.intake.attributes.fields import first_given, read_mapping, read_text
from audiences.models import Note

MAX_NOTE_LENGTH = 20_000


class Notes(Endpoint):
    """/notes."""

    parameters = {"get": (*PERSON_PARAMETERS, *PAGE)}

    def post(self, request: Request) -> Response:
        """Create a note about a user. Identify the user in `user`, or at the top level of the body."""
        sent = body(request)
        named = read_mapping(sent.get("user"), "user")
        if named:
            refuse_unread_keys(
                sent, "user_id", "email", "intercom_user_id", "id", instead="Identify the user in user only"
            )
        customer = intake.find_customer(named or sent)
        written = read_text(sent.get("body"), "body", most=MAX_NOTE_LENGTH)
        if not written:
            raise MissingField("body is required", field="body")
        teammate = find_admin(by) if (by := first_given(sent, "admin_id")) is not None else None
        note = customer.notes.create(teammate=teammate, body=written, created_at=timezone.now())
        return Response(payloads.note(note, customer=customer))

    def get(self, request: Request) -> Response:
        """List the notes about a user, newest first."""
        customer = intake.find_customer(request.query_params)
        rows = customer.notes.select_related("teammate").order_by("-created_at", "-pk")
        found, pages, total = page_rows(request, rows)
        notes = [payloads.note(row, customer=customer) for row in found]
        return Response({"type": "note.list", "pages": pages, "total_count": total, "notes": notes})


class OneNote(Endpoint):
    """/notes/{id}."""

    def get(self, request: Request, pk: str) -> Response:
        """Find a note."""
        found = get_row(Note.objects.select_related("teammate", "customer"), pk)
        return Response(payloads.note(found, customer=found.customer))
