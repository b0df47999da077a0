"""Messages in the console: the list, the composer while it is a draft, the report from then on."""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone

from messaging import duplication
from messaging.models import Message, SendType, State
from outbound import actions, roles
from outbound.composer import views
from outbound.console.admin import not_done, teammate
from outbound.messages import progress as send_progress
from outbound.messages import report
from outbound.messages.changelist import OutboundList


class MessageAdmin(OutboundList):
    """Everything about messages: adding is composing, and so is changing a draft."""

    own_pages = (
        ("forecast/", "forecast"),
        ("preview/", "preview"),
        ("test/", "send_test"),
        ("people/", "find_people"),
        ("values/", "known_values"),
        ("names/", "find_names"),
        ("pictures/", "upload_image"),
        ("segment/", "save_segment"),
        ("<path:object_id>/launching/", "launching"),
        ("<path:object_id>/progress/", "progress"),
        ("<path:object_id>/ongoing/", "make_ongoing"),
        ("<path:object_id>/content/", "edit_content"),
        ("<path:object_id>/audience/", "edit_audience"),
        ("<path:object_id>/duplicate/", "duplicate"),
        ("<path:object_id>/discard/", "discard"),
        ("<path:object_id>/act/<slug:verb>/", "act"),
    )

    def has_delete_permission(self, request: HttpRequest, obj: Message | None = None) -> bool:
        """Drafts are discarded from their own page; what has been live is kept."""
        return False

    def has_edit_live_permission(self, request: HttpRequest, obj: Message | None = None) -> bool:
        """What is live already reaches people by itself: only who may set live edits it."""
        return self.has_change_permission(request, obj) and request.user.has_perm(roles.SET_LIVE)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Compose a new message."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        return views.compose(self, request, None)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The composer for a draft, the report for all else."""
        message = self.found(request, object_id, to="view")
        is_draft = message.state == State.DRAFT and not message.to_customer_id and not message.launching_at
        if request.method == "POST" or (is_draft and self.has_change_permission(request, message)):
            return views.compose(self, request, self.found(request, object_id))
        return report.report(self, request, message)

    def forecast(self, request: HttpRequest) -> HttpResponse:
        """Count who would get what is on the page right now."""
        return views.forecast(self, request)

    def preview(self, request: HttpRequest) -> HttpResponse:
        """Show how what is on the page reads to a customer."""
        return views.preview(self, request)

    def send_test(self, request: HttpRequest) -> HttpResponse:
        """Mail what is on the page to whoever writes it."""
        return views.send_test(self, request)

    def find_people(self, request: HttpRequest) -> HttpResponse:
        """Find customers to preview as."""
        return views.find_people(self, request)

    def known_values(self, request: HttpRequest) -> HttpResponse:
        """Complete the value of a rule."""
        return views.known_values(self, request)

    def find_names(self, request: HttpRequest) -> HttpResponse:
        """Find what a rule is to name."""
        return views.find_names(request)

    def upload_image(self, request: HttpRequest) -> HttpResponse:
        """Keep a picture for a message."""
        return views.upload_image(self, request)

    def save_segment(self, request: HttpRequest) -> HttpResponse:
        """Keep the rules on the page as a segment."""
        return views.save_segment(self, request)

    def launching(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Say how far going live is, and reload the page once it is done."""
        return views.going_live(request, self.found(request, object_id, to="view"))

    def progress(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Say how far sending is, and how fast it goes."""
        return send_progress.page(request, self.found(request, object_id, to="view"))

    def edit_content(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Edit what it says, as a new version."""
        message = self.found(request, object_id, to="edit_live")
        if "content" not in report.offers(message):
            return self.back(request, message, "What it says can be edited while it is live or paused.")
        return views.edit_content(self, request, message)

    def edit_audience(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Edit whom it asks for, while it is paused."""
        message = self.found(request, object_id, to="edit_live")
        if "audience" not in report.offers(message):
            ongoing = message.send_type == SendType.ONGOING
            why = "Pause this message to change whom it goes to." if ongoing else report.locked_why(message)
            return self.back(request, message, why)
        return views.edit_audience(self, request, message)

    def act(self, request: HttpRequest, object_id: str, verb: str) -> HttpResponse:
        """Do what a button says."""
        if request.method != "POST":
            return not_done(request, reverse("admin:messaging_message_change", args=[object_id]))
        message = self.found(request, object_id)
        if verb not in actions.ACTS:
            raise Http404(f"A message cannot {verb}.")
        actions.may(request, actions.ACTS[verb])
        going = views.confirm(self, request, message, verb) if verb in ("live", "rest") else actions.NOBODY_COUNTED
        if isinstance(going, HttpResponse):
            return going
        actions.carry_out(self, request, message, actions.ACTS[verb], at=timezone.now(), going=going)
        return HttpResponseRedirect(views.address(message))

    def duplicate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Make a draft of the same content and filters."""
        said = "This is a new draft with the same content and filters."
        return self.copied(request, object_id, duplication.duplicate, logged="Duplicated", said=said)

    def make_ongoing(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Make a draft that goes on where a sample left off."""
        said = "This is a new draft. It leaves out everybody who already got the message."
        return self.copied(request, object_id, duplication.make_ongoing, logged="Made from the sample", said=said)

    def copied(
        self, request: HttpRequest, object_id: str, copy_of: Callable[..., Message], *, logged: str, said: str
    ) -> HttpResponse:
        """Make a draft of a message by POST, and lead to it; where there can be none, say why."""
        if request.method != "POST":
            return not_done(request, reverse("admin:messaging_message_change", args=[object_id]))
        message = self.found(request, object_id, to="view")
        if not self.has_add_permission(request):
            raise PermissionDenied
        try:
            with transaction.atomic():
                copy = copy_of(message, by=teammate(request), at=timezone.now())
                self.log_addition(request, copy, f"{logged} “{message}”")
        except ValidationError as no:
            return self.back(request, message, " ".join(no.messages))
        messages.success(request, said)
        return HttpResponseRedirect(views.address(copy))

    def discard(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Delete a draft."""
        if request.method != "POST":
            return not_done(request, reverse("admin:messaging_message_change", args=[object_id]))
        message = self.found(request, object_id)
        try:
            with transaction.atomic():
                self.log_deletions(request, Message.objects.filter(pk=message.pk))
                duplication.discard(message)
        except ValidationError as no:
            return self.back(request, message, " ".join(no.messages))
        messages.success(request, f"The draft “{message}” is deleted.")
        return HttpResponseRedirect(reverse("admin:messaging_message_changelist"))

    def back(self, request: HttpRequest, message: Message, why: str) -> HttpResponse:
        """Return to the message's page with the reason why not."""
        messages.error(request, why)
        return HttpResponseRedirect(views.address(message))
