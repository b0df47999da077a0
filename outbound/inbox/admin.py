"""The inbox: the pages of conversations, and the actions on a conversation. Actions need a POST and are logged."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import uuid4

from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from audiences.intake import Refused
from audiences.models import Workspace
from audiences.transactions import retried
from delivery.conversations import attachments
from delivery.conversations import threads as conversation_threads
from delivery.models import Conversation
from messaging.content import ContentError
from messaging.content.plain_text import html_to_text
from outbound import roles
from outbound.console.admin import ConsoleAdmin, answer_without_button, teammate
from outbound.console.lookups import teammate_name
from outbound.console.rich_text import RichTextWidget
from outbound.console.search import TOO_LONG, is_too_long
from outbound.edits import autosave
from outbound.edits.forms import ANSWER, form_name
from outbound.inbox import listing, saved_replies
from outbound.inbox import thread as inbox_thread

MAX_BODY_LENGTH = 100_000
RELATED = ("customer", "assignee", "record__message__sender", "record__version", "record__customer", "record__company")


class AnswerForm(forms.Form):
    """An answer or an internal note."""

    body = forms.CharField(required=False, max_length=MAX_BODY_LENGTH, widget=RichTextWidget({"aria-label": "Answer"}))
    # An answer that is restored as a note, or a note as an answer, would reach the wrong reader.
    kind = forms.ChoiceField(choices=[("reply", "Reply"), ("note", "Note")], required=False, widget=forms.HiddenInput())
    ticket = forms.UUIDField(
        widget=forms.HiddenInput(),
        error_messages={"invalid": "Reload the page and try again.", "required": "Reload the page and try again."},
    )


def read_answer(request: HttpRequest, *, attachments: object = None) -> dict[str, Any]:
    """Return the text and the idempotency key of the form. Raises ValidationError if the text is empty."""
    form = AnswerForm(request.POST)
    if not form.is_valid():
        raise ValidationError([sentence for sentences in form.errors.values() for sentence in sentences])
    if not html_to_text(form.cleaned_data["body"]) and not attachments:
        raise ValidationError("Write a message first.")
    return {"body": form.cleaned_data["body"], "ticket": form.cleaned_data["ticket"]}


def store_images(images: list[UploadedFile]) -> list[dict[str, Any]]:
    """Store the images, all or none. Raises Refused if one is not an image or there are too many."""
    if len(images) > attachments.MAX_IMAGES:
        raise Refused(f"A message can have at most {attachments.MAX_IMAGES} images.", field="images")
    checked = [attachments.check_image(image) for image in images]
    return [attachments.store_image(image, kind) for image, kind in zip(images, checked, strict=True)]


def has_new_message(found: Conversation, request: HttpRequest) -> bool:
    """Lock the conversation and tell whether the customer wrote something that the page does not show yet."""
    conversation_threads.lock_conversation(found)
    upto = request.POST.get("upto", "")
    is_valid = upto.isdecimal() and len(upto) < 19
    return is_valid and found.parts.filter(by_customer=True, pk__gt=int(upto)).exists()


def send_reply(found: Conversation, request: HttpRequest, at: datetime) -> str:
    """Send an answer and, if asked to, close the conversation."""
    images = request.FILES.getlist("images")
    answer = read_answer(request, attachments=images)
    by = teammate(request)
    has_news = has_new_message(found, request)
    conversation_threads.reply_by_teammate(found, teammate=by, at=at, attachments=store_images(images), **answer)
    if request.POST.get("then") != "close":
        return "Answered"
    if has_news:
        messages.warning(
            request, "Your answer was sent. The conversation stays open: the customer wrote again in the meantime."
        )
        return "Answered"
    conversation_threads.close(found, teammate=by, at=at)
    return "Answered and closed"


def add_note(found: Conversation, request: HttpRequest, at: datetime) -> str:
    conversation_threads.add_note(found, teammate=teammate(request), at=at, **read_answer(request))
    return "Added a note"


def assign_to_teammate(found: Conversation, request: HttpRequest, at: datetime) -> str:
    chosen = request.POST.get("to", "")
    to = team().filter(pk=chosen if chosen.isdecimal() and len(chosen) < 10 else 0).first() if chosen else None
    if chosen and to is None:
        raise ValidationError("This teammate is no longer active. Choose another one.")
    if to == found.assignee:
        return ""
    conversation_threads.assign(found, to=to, teammate=teammate(request), at=at)
    return f"Assigned to {teammate_name(to)}"


def close_conversation(found: Conversation, request: HttpRequest, at: datetime) -> str:
    if found.state == "closed":
        return ""
    if has_new_message(found, request):
        raise ValidationError(
            "The customer wrote again in the meantime. Read the new message before you close the conversation."
        )
    conversation_threads.close(found, teammate=teammate(request), at=at)
    return "Closed"


def reopen_conversation(found: Conversation, request: HttpRequest, at: datetime) -> str:
    if found.state == "open":
        return ""
    conversation_threads.reopen(found, teammate=teammate(request), at=at)
    return "Reopened"


def snooze_conversation(found: Conversation, request: HttpRequest, at: datetime) -> str:
    asked = (request.POST.get("until", ""), request.POST.get("date", ""))
    until = inbox_thread.snooze_until(*asked, at=at, zone=Workspace.current().tz)
    if has_new_message(found, request):
        raise ValidationError(
            "The customer wrote again in the meantime. Read the new message before you snooze the conversation."
        )
    conversation_threads.snooze(found, until=until, teammate=teammate(request), at=at)
    return f"Snoozed until {inbox_thread.format_moment(until)}"


# Each action returns its log entry, or an empty string if nothing changed.
ACTIONS: dict[str, Callable[[Conversation, HttpRequest, datetime], str]] = {
    "reply": send_reply,
    "note": add_note,
    "assign": assign_to_teammate,
    "close": close_conversation,
    "reopen": reopen_conversation,
    "snooze": snooze_conversation,
}
WITH_TEXT = ("reply", "note")


def team() -> QuerySet[User]:
    return User.objects.filter(is_staff=True, is_active=True).order_by("first_name", "username")


class ConversationAdmin(ConsoleAdmin):
    """The inbox page: the list of conversations and one of them beside it."""

    own_pages = (
        ("news/", "news"),
        ("<path:object_id>/seen/", "seen"),
        ("<path:object_id>/replies/", "saved_replies"),
        ("<path:object_id>/act/<slug:verb>/", "act"),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Conversations start with a message or with a customer."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Conversation | None = None) -> bool:
        """Conversations are not deleted."""
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        return super().get_queryset(request).select_related(*RELATED)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return self.page(request, "outbound/inbox/inbox.html", title="Inbox", **self.page_context(request, None))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return self.thread_page(request, self.get_object_or_refuse(request, object_id, to="view"))

    def thread_page(
        self, request: HttpRequest, found: Conversation, *, wrong: str = "", status: int = 200
    ) -> HttpResponse:
        """Render one conversation. `wrong` is the reason why an action failed."""
        title, bound = str(found.customer), request.POST if wrong else None
        form = AnswerForm(bound, initial={"ticket": uuid4(), "kind": "reply"})
        opened = autosave.open_form(request, form_name(ANSWER, found), at=timezone.now())
        opened.fill(form)
        context = {**self.page_context(request, found), "form": form, "wrong": wrong, "open_form": opened}
        return self.page(request, "outbound/inbox/inbox.html", title=title, crumb=title, status=status, **context)

    def page_context(self, request: HttpRequest, found: Conversation | None) -> dict[str, Any]:
        """Return the template context of the page and of its updates."""
        at, asked, me = timezone.now(), listing.ListQuery.from_address(request.GET), teammate(request)
        # Computed before the data is read, so that a later change makes the tag stale.
        context = {"tag": listing.etag(asked, found, me=me, at=at), **listing.list_context(asked, me=me, at=at)}
        if found is None:
            return context
        can_answer = self.has_change_permission(request, found)
        return {
            **context,
            **inbox_thread.thread_context(found, whole="all" in request.GET),
            "can_answer": can_answer,
            "can_use_replies": can_answer and request.user.has_perm("messaging.view_savedreply"),
            "can_add_replies": request.user.has_perm("messaging.add_savedreply"),
            "can_see_customer": request.user.has_perm("audiences.view_customer"),
            "can_write": request.user.has_perm(roles.WRITE_TO_ONE),
            "team": [(user.pk, teammate_name(user)) for user in team()] if can_answer else [],
            "offers": inbox_thread.snooze_options(at=at, zone=Workspace.current().tz) if can_answer else [],
            "me": me,
        }

    def news(self, request: HttpRequest) -> HttpResponse:
        """Return the list and the conversation `of` for an open page. Answers 304 if nothing changed."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        of = request.GET.get("of", "")
        found = self.get_object_or_refuse(request, of, to="view") if of else None
        tag = listing.etag(listing.ListQuery.from_address(request.GET), found, me=teammate(request), at=timezone.now())
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if tag in request.headers.get("If-None-Match", ""):
            return HttpResponse(status=304, headers=headers)
        context = self.page_context(request, found)
        headers["ETag"] = context["tag"]
        return TemplateResponse(request, "outbound/inbox/news.html", context, headers=headers)

    def saved_replies(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Find saved replies by words, filled in for the customer of the conversation."""
        found = self.get_object_or_refuse(request, object_id)
        if not request.user.has_perm("messaging.view_savedreply"):
            raise PermissionDenied
        words = request.GET.get("q", "")
        if is_too_long(words):
            return JsonResponse({"wrong": TOO_LONG}, status=400)
        return JsonResponse({"replies": saved_replies.find_replies(words, customer=found.customer)})

    def seen(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Mark the conversation as read by the team."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        conversation_threads.mark_seen(self.get_object_or_refuse(request, object_id))
        return HttpResponse(status=204)

    def act(self, request: HttpRequest, object_id: str, verb: str) -> HttpResponse:
        """Run an action, then show the conversation."""
        if request.method != "POST":
            return answer_without_button(request, conversation_url(request, object_id))
        found = self.get_object_or_refuse(request, object_id)
        if verb not in ACTIONS:
            raise Http404(f"There is no action “{verb}” for a conversation.")

        @retried
        def carry_out() -> None:
            logged = ACTIONS[verb](found, request, timezone.now())
            if logged:
                self.note(request, found, logged)
            if verb in WITH_TEXT:
                autosave.close_form(request, form_name(ANSWER, found), at=timezone.now())

        try:
            carry_out()
        except (ValidationError, Refused, ContentError) as no:
            wrong = " ".join(no.messages) if isinstance(no, ValidationError) else str(no)
            if verb in WITH_TEXT:
                # Show the form again with the text, so that it is not lost.
                return self.thread_page(request, self.get_object_or_refuse(request, object_id), wrong=wrong, status=422)
            messages.error(request, wrong)
        return HttpResponseRedirect(conversation_url(request, object_id))


def conversation_url(request: HttpRequest, object_id: str) -> str:
    """Return the URL of a conversation in the list it was opened from."""
    page = reverse("admin:delivery_conversation_change", args=[object_id])
    return page + listing.ListQuery.from_address(request.GET).address()
