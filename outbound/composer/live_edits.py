"""Edits of a message that has been live: its content as a new version, and its audience while it is paused."""

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.utils import timezone

from audiences.models import CustomAttribute
from messaging.models import Message
from outbound.composer import options, saving
from outbound.composer.forms import AudienceForm, VersionForm, audience_of, content_of
from outbound.composer.views import message_url
from outbound.console.admin import ConsoleAdmin, teammate
from outbound.edits import autosave, conflicts
from outbound.edits.forms import AUDIENCE, MESSAGE, form_name


def locked_message(message: Message) -> Message:
    """Lock and reload a message, so that its version can be compared with the page's."""
    return get_object_or_404(Message.objects.select_for_update(no_key=True, of=("self",)), pk=message.pk)


def edit_content(admin: ConsoleAdmin, request: HttpRequest, message: Message) -> HttpResponse:
    """Edit the content of a message that has been live, as a new version."""
    at, author, posted = timezone.now(), teammate(request), request.POST or None
    with transaction.atomic():
        if posted is not None:
            message = locked_message(message)
            current = VersionForm(initial=content_of(message), user=author, message=message)
            posted, conflict = conflicts.resolve(request.POST, current=current)
            if conflict:
                return conflicts.conflict_page(admin, request, conflict, row=message, is_autosaved=True)
        form = VersionForm(posted, initial=content_of(message), user=author, message=message)
        version = None
        if posted is not None and form.is_valid():
            version = saving.save_version(form, by=author, logged_as=author, at=at)
            autosave.close_form(request, form_name(MESSAGE, message), at=at)
    if version:
        messages.success(request, f"Version {version.number} is used for all copies sent from now on.")
        return HttpResponseRedirect(message_url(message))
    opened = autosave.open_form(request, form_name(MESSAGE, message), at=at)
    current = VersionForm(initial=content_of(message), user=author, message=message)
    opened.fill(form)
    return admin.page(
        request,
        "outbound/composer/edit_content.html",
        crumb="Edit content",
        title=message.title,
        form=form,
        open_form=opened,
        seen=opened.seen or conflicts.version_of(current),
        original=message,
        variables=options.variables(CustomAttribute.objects.offered().catalogue()),
    )


def edit_audience(admin: ConsoleAdmin, request: HttpRequest, message: Message) -> HttpResponse:
    """Edit the audience of a paused ongoing message."""
    at, author, posted = timezone.now(), teammate(request), request.POST or None
    with transaction.atomic():
        if posted is not None:
            message = locked_message(message)
            current = AudienceForm(initial=audience_of(message), message=message)
            posted, conflict = conflicts.resolve(request.POST, current=current)
            if conflict:
                return conflicts.conflict_page(admin, request, conflict, row=message, is_autosaved=True)
        form = AudienceForm(posted, initial=audience_of(message), message=message)
        if posted is not None and form.is_valid():
            try:
                saving.save_audience(form, by=author, logged_as=author, at=at)
            except ValidationError as no:
                for sentence in no.messages:
                    messages.error(request, sentence)
            else:
                autosave.close_form(request, form_name(AUDIENCE, message), at=at)
                messages.success(request, "The new filters apply when you resume the message.")
            return HttpResponseRedirect(message_url(message))
    opened = autosave.open_form(request, form_name(AUDIENCE, message), at=at)
    current = AudienceForm(initial=audience_of(message), message=message)
    opened.fill(form)
    return admin.page(
        request,
        "outbound/composer/edit_audience.html",
        crumb="Edit the audience",
        title=message.title,
        form=form,
        open_form=opened,
        seen=opened.seen or conflicts.version_of(current),
        original=message,
        offer=options.rule_builder(form["rules"].value()),
        times=options.window_times(),
        place=form.place if form.is_bound else "",
    )
