"""The topics of a customer on the profile: which they get, and the buttons that change it."""

from typing import Any

from django.contrib import messages
from django.db.models import Q
from django.db.models.functions import Lower
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone

from audiences import intake
from audiences.models import Customer, MessageTopic, OptOutSource
from audiences.transactions import retried
from outbound.console.admin import ConsoleAdmin, answer_without_button

PAGES = (("<path:object_id>/topic/", "topic"),)


class TopicPages(ConsoleAdmin):
    """The action on a customer's topics."""

    def topic(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Opt the customer out of the topic in `out`, or back in to the topic in `back`."""
        page = reverse("admin:audiences_customer_change", args=[object_id])
        if request.method != "POST":
            return answer_without_button(request, page)
        customer = self.get_object_or_refuse(request, object_id)
        is_back = "back" in request.POST
        key = request.POST.get("back" if is_back else "out", "")
        topic = get_object_or_404(MessageTopic, pk=key if key.isdecimal() and len(key) < 19 else 0)

        @retried
        def change_topic() -> None:
            if not is_back:
                intake.opt_out_of_topic(customer, topic, source=OptOutSource.STAFF, at=timezone.now())
                self.note(request, customer, f"Opted out of the topic “{topic}”")
            elif intake.opt_in_to_topic(customer, topic, source=OptOutSource.STAFF):
                self.note(request, customer, f"Opted in to the topic “{topic}” again")

        try:
            change_topic()
        except intake.Unknown:
            messages.error(request, "This customer is archived. Restore them first.")
        return HttpResponseRedirect(page)


def topic_rows(customer: Customer) -> list[dict[str, Any]]:
    """Return the topics in use and the archived ones that the customer opted out of, each with its opt-out or None."""
    opt_outs = {row.topic_id: row for row in customer.topic_opt_outs.all()}
    topics = MessageTopic.objects.filter(Q(is_archived=False) | Q(pk__in=opt_outs)).order_by(Lower("name"))
    return [{"topic": topic, "opt_out": opt_outs.get(topic.pk)} for topic in topics]
