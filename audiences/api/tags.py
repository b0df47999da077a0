"""Endpoints of tags: create, rename, add, remove, list and delete (wire 5.13)."""

from typing import Any

from django.db import transaction
from django.utils import timezone
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from audiences import intake
from audiences.api import payloads
from audiences.api.base.endpoint import Endpoint, body
from audiences.api.base.lookups import get_row
from audiences.intake import Conflict, Refused
from audiences.intake.attributes.fields import read_entries, read_flag
from audiences.models import Audience, Company, Customer, Tag
from audiences.models.audience import TAG_ATTRIBUTES

MAX_TAGGED = 50


class Tags(Endpoint):
    """/tags."""

    def post(self, request: Request) -> Response:
        """Create a tag, rename one (by `id`), or add it to or remove it from users or companies."""
        facts = body(request)
        if facts.get("users") and facts.get("companies"):
            raise Refused("Tag users or companies, not both at once.", field="companies")
        with transaction.atomic():
            label = tag_from_request(facts)
            for field, find in (("users", intake.find_customer), ("companies", intake.find_company)):
                things = read_entries(facts.get(field), field)
                if len(things) > MAX_TAGGED:
                    raise Refused(f"Tag at most {MAX_TAGGED} at once.", field=field)
                to_tag: list[Customer | Company] = []
                to_untag: list[Customer | Company] = []
                for thing in things:
                    (to_untag if read_flag(thing.get("untag"), "untag") else to_tag).append(find(thing))
                intake.add_tag(label, to_tag, at=timezone.now())
                intake.remove_tag(label, to_untag, at=timezone.now())
        return Response(payloads.tag(label))

    def get(self, request: Request) -> Response:
        """List the tags by name."""
        return Response(payloads.tags(Tag.objects.all()))


class OneTag(Endpoint):
    """/tags/{id}."""

    def delete(self, request: Request, pk: str) -> Response:
        """Delete a tag. A tag that rules refer to cannot be deleted."""
        label = get_row(Tag.objects.all(), pk)
        if Audience.objects.with_rule_about(label, *TAG_ATTRIBUTES).exists():
            raise Conflict(f"The tag “{label.name}” is used by a message or a segment.", field="id")
        label.delete()
        return Response(status=status.HTTP_200_OK)


def tag_from_request(facts: dict[str, Any]) -> Tag:
    """Return the tag with the request's id, renamed if the request has a name; without an id, the tag of this name."""
    if facts.get("id") is None:
        return intake.find_or_make_tag(facts.get("name"), at=timezone.now())
    label = get_row(Tag.objects.all(), facts["id"])
    if "name" in facts:
        intake.rename_tag(label, facts["name"])
    return label
