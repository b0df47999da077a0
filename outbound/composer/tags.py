"""Tags of messages: added and removed on the page of a message, in the Outbound list, and by the API.

They are for staff, so a change of them is not an edit of the message.
"""

from collections.abc import Iterable
from datetime import datetime

from django.contrib import messages
from django.contrib.auth.models import User
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from audiences import intake
from audiences.intake.tags import find_tag
from audiences.models import Tag
from messaging.models import Message
from outbound.console import audit
from outbound.console.admin import ConsoleAdmin, teammate
from outbound.console.wording import counted

TAGS_OFFERED_MAX = 500
MESSAGES_TICKED_MAX = 1000


def add_tag(chosen: Iterable[Message], label: Tag, *, logged_as: User) -> int:
    """Add a tag to messages, with an entry in the log of each; return how many did not have it."""
    chosen = list(chosen)
    tagged = tagged_keys(chosen, label)
    new = [message for message in chosen if message.pk not in tagged]
    label.message_set.add(*new)
    audit.log_changes(logged_as, new, f"Added the tag “{label}”")
    return len(new)


def remove_tag(chosen: Iterable[Message], label: Tag, *, logged_as: User) -> int:
    """Remove a tag from messages, with an entry in the log of each; return how many had it."""
    chosen = list(chosen)
    keys = tagged_keys(chosen, label)
    tagged = [message for message in chosen if message.pk in keys]
    label.message_set.remove(*tagged)
    audit.log_changes(logged_as, tagged, f"Removed the tag “{label}”")
    return len(tagged)


def tagged_keys(chosen: list[Message], label: Tag) -> set[int]:
    return set(label.message_set.filter(pk__in=[message.pk for message in chosen]).values_list("pk", flat=True))


def set_tags(message: Message, names: Iterable[str], *, logged_as: User, at: datetime) -> None:
    """Give a message exactly the tags with these names; a new name creates a tag."""
    wanted = [intake.find_or_make_tag(name, at=at) for name in names]
    for label in message.tags.exclude(pk__in=[label.pk for label in wanted]):
        remove_tag([message], label, logged_as=logged_as)
    for label in wanted:
        add_tag([message], label, logged_as=logged_as)


def offered_names() -> list[str]:
    return list(Tag.objects.order_by("name").values_list("name", flat=True)[:TAGS_OFFERED_MAX])


def tag_message(admin: ConsoleAdmin, request: HttpRequest, message: Message) -> HttpResponse:
    """Add the tag that was typed, or remove the one whose cross was pressed; show the tags again."""
    by, off, wrong = teammate(request), request.POST.get("off", ""), ""
    try:
        with transaction.atomic():
            message.lock_row()
            if off:
                label = message.tags.filter(pk=off if off.isdecimal() and len(off) < 19 else 0).first()
                if label:
                    remove_tag([message], label, logged_as=by)
            else:
                label = intake.find_or_make_tag(request.POST.get("tag", ""), at=timezone.now())
                add_tag([message], label, logged_as=by)
    except intake.Refused as no:
        wrong = str(no)
    if request.headers.get("HX-Request"):
        context = {"original": message, "can_tag": True, "all_tags": offered_names(), "wrong_tag": wrong, "typed": True}
        return render(request, "outbound/messages/tags.html", context)
    if wrong:
        messages.error(request, wrong)
    return HttpResponseRedirect(reverse("admin:messaging_message_change", args=[message.pk]))


def tag_messages(admin: ConsoleAdmin, request: HttpRequest, chosen: list[Message]) -> HttpResponse:
    """Ask for a tag, then add it to these messages or remove it. Refuse too many of them."""
    if len(chosen) > MESSAGES_TICKED_MAX:
        messages.error(request, f"Nothing was changed: choose at most {MESSAGES_TICKED_MAX:,} messages at once.")
        return HttpResponseRedirect(reverse("admin:messaging_message_changelist"))
    name, how, wrong = request.POST.get("tag", "").strip(), request.POST.get("how", ""), ""
    if how:
        if how not in TAG_ACTIONS:
            raise Http404("A tag is added or removed.")
        try:
            with transaction.atomic():
                said = TAG_ACTIONS[how](request, chosen, name)
        except intake.Refused as no:
            wrong = str(no)
        else:
            messages.success(request, said)
            return HttpResponseRedirect(reverse("admin:messaging_message_changelist"))
    return admin.page(
        request,
        "outbound/people/tag.html",
        title="Add or remove a tag",
        crumb="Add or remove a tag",
        address=reverse("admin:message_tag_ticked"),
        back=reverse("admin:messaging_message_changelist"),
        ticked=[message.pk for message in chosen],
        who=counted(len(chosen), "message", "messages"),
        name=name,
        wrong=wrong,
        tags=offered_names(),
    )


def add_named(request: HttpRequest, chosen: list[Message], name: str) -> str:
    label = intake.find_or_make_tag(name, at=timezone.now())
    count = add_tag(chosen, label, logged_as=teammate(request))
    return f"Added the tag “{label}” to {counted(count, 'message', 'messages')}."


def remove_named(request: HttpRequest, chosen: list[Message], name: str) -> str:
    label = find_tag(name) if name else None
    if label is None:
        raise intake.Refused(f"The tag “{name}” does not exist." if name else "Choose a tag.")
    count = remove_tag(chosen, label, logged_as=teammate(request))
    return f"Removed the tag “{label}” from {counted(count, 'message', 'messages')}."


TAG_ACTIONS = {"add": add_named, "remove": remove_named}
