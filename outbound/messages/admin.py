"""The admin of messages: the composer for drafts, the report for all others."""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone

from delivery.matching import launch_job
from messaging import duplication
from messaging.models import Message, SendType, State
from outbound import actions, roles
from outbound.composer import live_edits, sheet, tags, views
from outbound.console.admin import answer_without_button, teammate
from outbound.messages import left_out, report
from outbound.messages.changelist import OutboundList


class MessageAdmin(OutboundList):
    """The pages and buttons of messages. Adding a message and changing a draft open the composer."""

    own_pages = (
        ("forecast/", "forecast"),
        ("sheet/", "final_sheet"),
        ("preview/", "preview"),
        ("test/", "send_test"),
        ("people/", "find_people"),
        ("values/", "known_values"),
        ("names/", "find_names"),
        ("pictures/", "upload_image"),
        ("segment/", "save_segment"),
        ("tags/", "tag_ticked"),
        ("<path:object_id>/tag/", "tag"),
        ("<path:object_id>/launching/", "launching"),
        ("<path:object_id>/refresh/", "refresh"),
        ("<path:object_id>/left-out/", "left_out"),
        ("<path:object_id>/ongoing/", "make_ongoing"),
        ("<path:object_id>/content/", "edit_content"),
        ("<path:object_id>/audience/", "edit_audience"),
        ("<path:object_id>/duplicate/", "duplicate"),
        ("<path:object_id>/discard/", "discard"),
        ("<path:object_id>/act/<slug:verb>/", "act"),
    )

    def has_delete_permission(self, request: HttpRequest, obj: Message | None = None) -> bool:
        """Return False: drafts are discarded on their own page, and other messages are never deleted."""
        return False

    def has_edit_live_permission(self, request: HttpRequest, obj: Message | None = None) -> bool:
        """Whether the teammate may edit a live message, which needs the permission to set it live."""
        return self.has_change_permission(request, obj) and request.user.has_perm(roles.SET_LIVE)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        return views.compose(self, request, None)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Show the composer for a draft and the report for other messages."""
        message = self.get_object_or_refuse(request, object_id, to="view")
        is_draft = message.state == State.DRAFT and not message.to_customer_id and not message.launching_at
        if request.method == "POST" or (is_draft and self.has_change_permission(request, message)):
            return views.compose(self, request, self.get_object_or_refuse(request, object_id))
        return report.report(self, request, message)

    def forecast(self, request: HttpRequest) -> HttpResponse:
        return views.forecast(self, request)

    def final_sheet(self, request: HttpRequest) -> HttpResponse:
        return views.final_sheet(self, request)

    def preview(self, request: HttpRequest) -> HttpResponse:
        return views.preview(self, request)

    def send_test(self, request: HttpRequest) -> HttpResponse:
        return views.send_test(self, request)

    def find_people(self, request: HttpRequest) -> HttpResponse:
        return views.find_people(self, request)

    def known_values(self, request: HttpRequest) -> HttpResponse:
        return views.known_values(self, request)

    def find_names(self, request: HttpRequest) -> HttpResponse:
        return views.find_names(request)

    def upload_image(self, request: HttpRequest) -> HttpResponse:
        return views.upload_image(self, request)

    def save_segment(self, request: HttpRequest) -> HttpResponse:
        return views.save_segment(self, request)

    def tag(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Add or remove a tag, in every state of the message."""
        if request.method != "POST":
            return answer_without_button(request, reverse("admin:messaging_message_change", args=[object_id]))
        return tags.tag_message(self, request, self.get_object_or_refuse(request, object_id))

    def tag_ticked(self, request: HttpRequest) -> HttpResponse:
        """Add a tag to the messages ticked on an earlier page, or remove it."""
        if request.method != "POST":
            return answer_without_button(request, reverse("admin:messaging_message_changelist"))
        if not self.has_change_permission(request):
            raise PermissionDenied
        ticked = [key for key in request.POST.getlist("pk") if key.isdecimal() and len(key) < 19]
        return tags.tag_messages(
            self, request, list(Message.objects.filter(pk__in=ticked[: tags.MESSAGES_TICKED_MAX + 1]))
        )

    def launching(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the progress of a launch."""
        return views.launch_progress(request, self.get_object_or_refuse(request, object_id, to="view"))

    def refresh(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the report as it is now, for its open page."""
        return report.refreshed_report(self, request, self.get_object_or_refuse(request, object_id, to="view"))

    def left_out(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Count the people whom an ongoing message leaves out now."""
        message = self.get_object_or_refuse(request, object_id, to="view")
        return left_out.show_left_out(request, message, at=timezone.now())

    def edit_content(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Edit the content as a new version, while the message is live or paused."""
        message = self.get_object_or_refuse(request, object_id, to="edit_live")
        if "content" not in report.available_buttons(message):
            return self.back(request, message, "The content can be edited while the message is live or paused.")
        return live_edits.edit_content(self, request, message)

    def edit_audience(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Edit the audience while the message is paused."""
        message = self.get_object_or_refuse(request, object_id, to="edit_live")
        if "audience" not in report.available_buttons(message):
            ongoing = message.send_type == SendType.ONGOING
            why = "Pause this message to edit its audience." if ongoing else report.lock_explanation(message)
            return self.back(request, message, why)
        return live_edits.edit_audience(self, request, message)

    def act(self, request: HttpRequest, object_id: str, verb: str) -> HttpResponse:
        """Perform the act of a button, after a confirmation if the launch is large."""
        if request.method != "POST":
            return answer_without_button(request, reverse("admin:messaging_message_change", args=[object_id]))
        message = self.get_object_or_refuse(request, object_id)
        if verb not in actions.ACTS:
            raise Http404(f"A message has no action “{verb}”.")
        actions.check_permission(request, actions.ACTS[verb])
        if verb in sheet.CONFIRMED_ACTS and message.audience_id and message.state in launch_job.LAUNCHABLE_STATES:
            return sheet.carry_out_confirmed(self, request, message, verb)
        actions.carry_out(request, message, actions.ACTS[verb], at=timezone.now())
        return HttpResponseRedirect(views.message_url(message))

    def duplicate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        said = "This is a new draft with the same content and filters."
        return self.copied(request, object_id, duplication.duplicate, logged="Duplicated", said=said)

    def make_ongoing(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Make an ongoing draft that leaves out the recipients of the sample."""
        said = "This is a new draft. It leaves out everyone who already received the message."
        return self.copied(request, object_id, duplication.make_ongoing, logged="Made from the sample", said=said)

    def copied(
        self, request: HttpRequest, object_id: str, copy_of: Callable[..., Message], *, logged: str, said: str
    ) -> HttpResponse:
        """Make a draft from a message by POST and redirect to it, or redirect back with the reason for a refusal."""
        if request.method != "POST":
            return answer_without_button(request, reverse("admin:messaging_message_change", args=[object_id]))
        message = self.get_object_or_refuse(request, object_id, to="view")
        if not self.has_add_permission(request):
            raise PermissionDenied
        try:
            with transaction.atomic():
                copy = copy_of(message, by=teammate(request), at=timezone.now())
                self.log_addition(request, copy, f"{logged} “{message}”")
        except ValidationError as no:
            return self.back(request, message, " ".join(no.messages))
        messages.success(request, said)
        return HttpResponseRedirect(views.message_url(copy))

    def discard(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if request.method != "POST":
            return answer_without_button(request, reverse("admin:messaging_message_change", args=[object_id]))
        message = self.get_object_or_refuse(request, object_id)
        try:
            with transaction.atomic():
                self.log_deletions(request, Message.objects.filter(pk=message.pk))
                duplication.discard(message)
        except ValidationError as no:
            return self.back(request, message, " ".join(no.messages))
        messages.success(request, f"The draft “{message}” is deleted.")
        return HttpResponseRedirect(reverse("admin:messaging_message_changelist"))

    def back(self, request: HttpRequest, message: Message, why: str) -> HttpResponse:
        """Redirect to the message's page with an error."""
        messages.error(request, why)
        return HttpResponseRedirect(views.message_url(message))
