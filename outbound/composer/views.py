"""The composer's pages: write a draft, count as one types, set it live."""

from datetime import datetime

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from audiences.models import CustomAttribute
from messaging.models import Message, State
from outbound import acts, once
from outbound.composer import offer
from outbound.composer.forms import AudienceForm, DraftForm, VersionForm, audience_of, content_of, draft_of, is_new
from outbound.composer.review import review
from outbound.console import ConsoleAdmin, teammate

FIELDS = {"title", "channel", "format", "send_type"}


def address(message: Message) -> str:
    """Where a message is."""
    return reverse("admin:messaging_message_change", args=[message.pk])


def compose(admin: ConsoleAdmin, request: HttpRequest, message: Message | None) -> HttpResponse:
    """Show the composer, and do what its buttons say."""
    at = timezone.now()
    if request.method == "POST":
        return posted(admin, request, message, at=at)
    draft = message or Message(**{name: value for name, value in request.GET.items() if name in FIELDS})
    form = DraftForm(initial=draft_of(draft), user=teammate(request), message=draft)
    return show(admin, request, form, ticket="" if message else once.ticket(request.user))


def posted(admin: ConsoleAdmin, request: HttpRequest, message: Message | None, *, at: datetime) -> HttpResponse:
    """Save the draft, and set it live or schedule it where that was asked for."""
    ticket = request.POST.get("ticket", "")
    key = message.pk if message else once.redeem(ticket, request.user)
    with transaction.atomic():
        once.one_at_a_time(key)
        there = Message.objects.select_for_update(of=("self",)).filter(pk=key).first()
        if there and not admin.has_change_permission(request, there):
            raise PermissionDenied
        if message and there is None:
            raise Http404("This draft was deleted.")
        if there and (there.state != State.DRAFT or there.to_customer_id):
            messages.info(request, f"“{there}” is {there.get_state_display().lower()} already. Nothing was changed.")
            return HttpResponseRedirect(address(there))
        form = DraftForm(request.POST, user=teammate(request), message=there or Message(pk=key))
        if not form.is_valid():
            return show(admin, request, form, ticket="" if message else ticket)
        draft = form.save(by=teammate(request), at=at)
        if there is None:
            admin.log_addition(request, draft, "Saved a draft")
        else:
            admin.note(request, draft, "Edited the draft")
    act = request.POST.get("act", "save")
    if act not in acts.AFTER_SAVING:
        messages.success(request, f"“{draft}” is saved as a draft.")
        return HttpResponseRedirect(address(draft))
    asked = {"sample": form.cleaned_data["sample"], "scheduled_for": form.cleaned_data["scheduled_for"]}
    acts.carry_out(admin, request, draft, acts.AFTER_SAVING[act], at=at, **asked)
    return HttpResponseRedirect(address(draft))


def show(admin: ConsoleAdmin, request: HttpRequest, form: DraftForm, *, ticket: str) -> HttpResponse:
    """Draw the composer."""
    message = form.message
    new = is_new(message)
    return admin.page(
        request,
        "outbound/composer.html",
        title="New message" if new else message.title,
        crumb="New message" if new else "",
        form=form,
        original=None if new else message,
        ticket=ticket,
        variables=offer.variables(CustomAttribute.objects.catalogue()),
        offer=offer.rule_builder(),
        times=offer.times(),
        place=form.place if form.is_bound else "",
        can_discard=not new,
    )


def forecast(admin: ConsoleAdmin, request: HttpRequest) -> HttpResponse:
    """Answer the summary and the review of what is on the page right now; nothing is saved."""
    if not (admin.has_add_permission(request) or admin.has_change_permission(request)):
        raise PermissionDenied
    form = DraftForm(request.POST or None, user=teammate(request), message=Message())
    form.is_valid()
    draft = form.preview() if form.is_bound else Message()
    wrong = [str(sentence) for name, found in form.errors.items() if name in IN_REVIEW for sentence in found]
    problems = [*wrong, *(draft.problems() if not wrong else [])]
    found = review(draft, at=timezone.now(), problems=list(dict.fromkeys(problems)))
    return render(request, "outbound/composer_review.html", {"review": found, "draft": draft})


IN_REVIEW = ("subject", "body", "text", "rules", "window")


def edit_content(admin: ConsoleAdmin, request: HttpRequest, message: Message) -> HttpResponse:
    """Edit what a message that has been live says, as a new version."""
    form = VersionForm(request.POST or None, initial=content_of(message), user=teammate(request), message=message)
    if request.method == "POST" and form.is_valid():
        before = message.version_id
        with transaction.atomic():
            version = form.save(by=teammate(request), at=timezone.now())
            words = f"Edited the content: version {version.number}" if version.pk != before else "Edited name or sender"
            admin.note(request, message, words)
        messages.success(request, f"Version {version.number} goes to whoever gets it from now on.")
        return HttpResponseRedirect(address(message))
    return admin.page(
        request,
        "outbound/edit_content.html",
        crumb="Edit content",
        title=message.title,
        form=form,
        original=message,
        variables=offer.variables(CustomAttribute.objects.catalogue()),
    )


def edit_audience(admin: ConsoleAdmin, request: HttpRequest, message: Message) -> HttpResponse:
    """Edit whom a paused ongoing message asks for."""
    form = AudienceForm(request.POST or None, initial=audience_of(message), message=message)
    if request.method == "POST" and form.is_valid():
        try:
            with transaction.atomic():
                form.save(by=teammate(request), at=timezone.now())
                admin.note(request, message, "Edited the audience")
        except ValidationError as no:
            for sentence in no.messages:
                messages.error(request, sentence)
        else:
            messages.success(request, "The new filters count from the moment you resume it.")
        return HttpResponseRedirect(address(message))
    return admin.page(
        request,
        "outbound/edit_audience.html",
        crumb="Edit the audience",
        title=message.title,
        form=form,
        original=message,
        offer=offer.rule_builder(),
        times=offer.times(),
        place=form.place if form.is_bound else "",
    )
