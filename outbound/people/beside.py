"""The details of a customer beside their conversation, loaded after the conversation is shown."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from audiences.models import Company
from outbound.console.admin import ConsoleAdmin
from outbound.people.profile import custom_attributes, customer_facts, timeline

PAGES = (("<path:object_id>/beside/", "beside"),)
ROWS_SHOWN_MAX = 10


class BesidePages(ConsoleAdmin):
    """The part of the profile that the inbox shows."""

    def beside(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Render the facts, attributes, companies, tags, latest events and messages of a customer."""
        customer = self.get_object_or_refuse(request, object_id, to="view")
        records = customer.records.filter(sent_at__isnull=False).select_related("message")
        companies = Company.objects.filter(memberships__customer=customer).order_by("name", "pk")
        context: dict[str, Any] = {
            "customer": customer,
            "facts": customer_facts(customer),
            "attributes": custom_attributes(customer.attributes, scope="customer"),
            "companies": companies[:ROWS_SHOWN_MAX],
            "tags": customer.tags.order_by("name"),
            "events": timeline(customer, limit=ROWS_SHOWN_MAX),
            "received": records.order_by("-sent_at", "-pk")[:ROWS_SHOWN_MAX],
        }
        return render(request, "outbound/people/beside.html", context)
