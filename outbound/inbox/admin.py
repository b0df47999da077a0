"""The Inbox: what customers wrote, a conversation beside it, and what is done with it by button, by POST and logged."""

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
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
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
from messaging.content.plain_text import as_text
from outbound.console.admin import ConsoleAdmin, not_done, teammate
from outbound.console.lookups import name_of
from outbound.console.rich_text import RichTextWidget
from outbound.inbox import listing
from outbound.inbox import thread as inbox_thread

LONGEST = 100_000
STALE = "Open the page again."
RELATED = ("customer", "assignee", "record__message__sender", "record__version", "record__customer", "record__company")


class AnswerForm(forms.Form):
    """What a teammate writes: an answer or a note."""

    body = forms.CharField(required=False, max_length=LONGEST, widget=RichTextWidget({"aria-label": "Answer"}))
    ticket = forms.UUIDField(
        widget=forms.HiddenInput(),
        error_messages={"invalid": "Open the page again.", "required": "Open the page again."},
    )


def written(request: HttpRequest, *, or_any: object = None) -> dict[str, Any]:
    """What was written, and the ticket of its form; ValidationError where there is nothing."""
    form = AnswerForm(request.POST)
    if not form.is_valid():
        raise ValidationError([sentence for sentences in form.errors.values() for sentence in sentences])
    if not as_text(form.cleaned_data["body"]) and not or_any:
        raise ValidationError("Write something first.")
    return {"body": form.cleaned_data["body"], "ticket": form.cleaned_data["ticket"]}


def kept(images: list[UploadedFile]) -> list[dict[str, Any]]:
    """The images stored, all or none; Refused where one is none, or there are too many."""
    if len(images) > attachments.MAX_IMAGES:
        raise Refused(f"At most {attachments.MAX_IMAGES} images go with one message.", field="images")
    checked = [attachments.check_image(image) for image in images]
    return [attachments.store_image(image, kind) for image, kind in zip(images, checked, strict=True)]


def they_wrote_meanwhile(found: Conversation, request: HttpRequest) -> bool:
    """Whether the customer said something the page does not show yet; they say nothing more until this is done."""
    conversation_threads.lock_conversation(found)
    upto = request.POST.get("upto", "")
    is_told = upto.isdecimal() and len(upto) < 19
    return is_told and found.parts.filter(by_customer=True, pk__gt=int(upto)).exists()


def reply(found: Conversation, request: HttpRequest, at: datetime) -> str:
    """Answer the customer, and close it where that was asked for too."""
    images = request.FILES.getlist("images")
    said = written(request, or_any=images)
    by = teammate(request)
    is_news = they_wrote_meanwhile(found, request)
    conversation_threads.reply_by_teammate(found, teammate=by, at=at, attachments=kept(images), **said)
    if request.POST.get("then") != "close":
        return "Answered"
    if is_news:
        messages.warning(request, "Sent, and left open: they wrote again meanwhile.")
        return "Answered"
    conversation_threads.close(found, teammate=by, at=at)
    return "Answered and closed"


def note(found: Conversation, request: HttpRequest, at: datetime) -> str:
    """Add what only the team sees."""
    conversation_threads.add_note(found, teammate=teammate(request), at=at, **written(request))
    return "Added a note"


def assign(found: Conversation, request: HttpRequest, at: datetime) -> str:
    """Hand it to a teammate, or to nobody."""
    named = request.POST.get("to", "")
    to = team().filter(pk=named if named.isdecimal() and len(named) < 10 else 0).first() if named else None
    if named and to is None:
        raise ValidationError("This teammate is gone. Choose another.")
    if to == found.assignee:
        return ""
    conversation_threads.assign(found, to=to, teammate=teammate(request), at=at)
    return f"Assigned to {name_of(to)}"


def close(found: Conversation, request: HttpRequest, at: datetime) -> str:
    """Be done with it."""
    if found.state == "closed":
        return ""
    if they_wrote_meanwhile(found, request):
        raise ValidationError("They wrote again meanwhile. Read it before you close this.")
    conversation_threads.close(found, teammate=teammate(request), at=at)
    return "Closed"


def reopen(found: Conversation, request: HttpRequest, at: datetime) -> str:
    """Have it open again."""
    if found.state == "open":
        return ""
    conversation_threads.reopen(found, teammate=teammate(request), at=at)
    return "Opened again"


def snooze(found: Conversation, request: HttpRequest, at: datetime) -> str:
    """Put it away for a while."""
    asked = (request.POST.get("until", ""), request.POST.get("date", ""))
    until = inbox_thread.until(*asked, at=at, zone=Workspace.current().tz)
    if they_wrote_meanwhile(found, request):
        raise ValidationError("They wrote again meanwhile. Read it before you snooze this.")
    conversation_threads.snooze(found, until=until, teammate=teammate(request), at=at)
    return f"Snoozed until {inbox_thread.moment(until)}"


# What each button does; returns what the log says, nothing where it was so already.
ACTS: dict[str, Callable[[Conversation, HttpRequest, datetime], str]] = {
    "reply": reply,
    "note": note,
    "assign": assign,
    "close": close,
    "reopen": reopen,
    "snooze": snooze,
}
WRITTEN = ("reply", "note")


def team() -> QuerySet[User]:
    """Whom a conversation can be handed to."""
    return User.objects.filter(is_staff=True, is_active=True).order_by("first_name", "username")


class ConversationAdmin(ConsoleAdmin):
    """The list, and one conversation beside it."""

    own_pages = (
        ("news/", "news"),
        ("<path:object_id>/seen/", "seen"),
        ("<path:object_id>/act/<slug:verb>/", "act"),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Messages and customers begin conversations."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Conversation | None = None) -> bool:
        """What was said stays."""
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        """Conversations, with all that one shows of itself."""
        return super().get_queryset(request).select_related(*RELATED)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list alone."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return self.page(request, "outbound/inbox.html", title="Inbox", **self.seen_by(request, None))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """One conversation, the list beside it."""
        return self.thread(request, self.found(request, object_id, to="view"))

    def thread(self, request: HttpRequest, found: Conversation, *, wrong: str = "", status: int = 200) -> HttpResponse:
        """Draw one conversation; `wrong` says why what was asked for was not done."""
        title, bound = str(found.customer), request.POST if wrong else None
        form = AnswerForm(bound, initial={"ticket": uuid4()})
        context = {**self.seen_by(request, found), "form": form, "wrong": wrong}
        return self.page(request, "outbound/inbox.html", title=title, crumb=title, status=status, **context)

    def seen_by(self, request: HttpRequest, found: Conversation | None) -> dict[str, Any]:
        """What the page and its news show this teammate."""
        at, asked, me = timezone.now(), listing.Asked.of(request.GET), teammate(request)
        # Before anything is read: what comes meanwhile is news.
        context = {"tag": listing.tag(asked, found, me=me, at=at), **listing.listed(asked, me=me, at=at)}
        if found is None:
            return context
        can_answer = self.has_change_permission(request, found)
        return {
            **context,
            **inbox_thread.thread_context(found, whole="all" in request.GET),
            "can_answer": can_answer,
            "team": [(user.pk, name_of(user)) for user in team()] if can_answer else [],
            "offers": inbox_thread.offers(at=at, zone=Workspace.current().tz) if can_answer else [],
            "me": me,
        }

    def news(self, request: HttpRequest) -> HttpResponse:
        """What the page shows now: the list, and the conversation `of`; 304 while both are as they were."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        of = request.GET.get("of", "")
        found = self.found(request, of, to="view") if of else None
        tag = listing.tag(listing.Asked.of(request.GET), found, me=teammate(request), at=timezone.now())
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if tag in request.headers.get("If-None-Match", ""):
            return HttpResponse(status=304, headers=headers)
        context = self.seen_by(request, found)
        headers["ETag"] = context["tag"]
        return TemplateResponse(request, "outbound/inbox_news.html", context, headers=headers)

    def seen(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Note that somebody who answers has looked at what is newest."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        conversation_threads.mark_seen(self.found(request, object_id))
        return HttpResponse(status=204)

    def act(self, request: HttpRequest, object_id: str, verb: str) -> HttpResponse:
        """Do what a button says, and show the conversation as it is then."""
        if request.method != "POST":
            return not_done(request, page_of(request, object_id))
        found = self.found(request, object_id)
        if verb not in ACTS:
            raise Http404(f"A conversation cannot be {verb}.")

        @retried
        def carry_out() -> None:
            logged = ACTS[verb](found, request, timezone.now())
            if logged:
                self.note(request, found, logged)

        try:
            carry_out()
        except (ValidationError, Refused, ContentError) as no:
            wrong = " ".join(no.messages) if isinstance(no, ValidationError) else str(no)
            if verb in WRITTEN:
                # What was written stays in its field.
                return self.thread(request, self.found(request, object_id), wrong=wrong, status=422)
            messages.error(request, wrong)
        return HttpResponseRedirect(page_of(request, object_id))


def page_of(request: HttpRequest, object_id: str) -> str:
    """Where a conversation is, within the list it was opened from."""
    page = reverse("admin:delivery_conversation_change", args=[object_id])
    return page + listing.Asked.of(request.GET).address()
