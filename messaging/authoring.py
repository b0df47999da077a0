"""Authoring: changes to a message's content and audience (behaviour 4.2).

A draft is changed in place, and its template may have errors. Once a message has been live, each change adds a version.
"""

from datetime import datetime

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import models, transaction

from audiences import compiler, segment_copies
from audiences.models import CustomAttribute, Workspace
from audiences.rules import RuleError
from messaging import content, delivery_window
from messaging.models import Channel, Locked, Message, MessageVersion, SendingDomain, SendType, State

NO_SENDER = "Choose who the message is from."
ENDS_TOO_EARLY = "“Stop showing on” must be later than the time when it goes live."


def content_problems(message: Message, *, subject: str, body: str, link: str = "") -> dict[str, list[str]]:
    """Return the problems of a subject, a body and a push link by field, each with its line and reason."""
    catalogue = CustomAttribute.objects.catalogue()
    found = {}
    for name, text in (("subject", subject), ("body", body), ("link", link)):
        problems = content.check_text(
            text, custom_attributes=catalogue.customer.keys(), company_attributes=catalogue.company.keys()
        )
        if problems:
            found[name] = [str(problem) for problem in problems]
    if "\n" in subject or "\r" in subject:
        found.setdefault("subject", []).append("The subject must be one line.")
    if link and "link" not in found and not content.is_push_link(link):
        found["link"] = [content.INVALID_PUSH_LINK]
    if found or not message.is_locked or message.to_customer_id:
        return found
    if message.per_company != content.uses_company(subject, body, link):
        first_or_last = "remove the last" if message.per_company else "add the first"
        found.setdefault("body", []).append(
            f"This would {first_or_last} company variable, which changes how often the message is sent."
            " This message has been live, so duplicate it instead."
        )
    return found


def revise(
    message: Message, *, subject: str, body: str, by: User | None, at: datetime, link: str = ""
) -> MessageVersion:
    """Change the content: in place in a draft, as a new version once live. Raise ValidationError by field.

    A draft to an audience may have problems; they are refused when it goes live.
    """
    try:
        body = content.sanitise(body)
    except content.ContentError as wrong:
        raise ValidationError({"body": f"Line {wrong.line}: {wrong}"}) from wrong
    link = link.strip() if message.channel == Channel.PUSH else ""
    with transaction.atomic():
        lock_for_edit(message)
        # Going live checks a draft to an audience again, so it can be saved half-written.
        is_strict = message.is_locked or message.to_customer_id
        if is_strict and (problems := content_problems(message, subject=subject, body=body, link=link)):
            raise ValidationError(problems)
        current = message.version
        same_layout = current is not None and (not message.is_locked or current.layout == message.layout)
        if current and same_layout and (current.subject, current.body, current.link) == (subject, body, link):
            return current
        if current and not message.is_locked:
            current.subject, current.body, current.link = subject, body, link
            current.author, current.created_at = by, at
            current.save()
            return current
        return add_version(message, subject=subject, body=body, link=link, by=by, at=at)


def lock_for_edit(message: Message) -> None:
    """Lock and reload the row. Raise Locked if the message went live after the caller loaded it as a draft."""
    was_draft = not message.is_locked
    message.lock_row()
    if was_draft and message.is_locked:
        raise Locked("This message has gone live in the meantime. Open it again to see what can still be changed.")


def add_version(
    message: Message, *, subject: str, body: str, by: User | None, at: datetime, link: str = ""
) -> MessageVersion:
    """Add a version and make it the current one."""
    with transaction.atomic():
        message.lock_row()
        numbers = MessageVersion.objects.filter(message=message.pk)
        last = numbers.aggregate(last=models.Max("number"))["last"] or 0
        message.version = MessageVersion.objects.create(
            message_id=message.pk,
            number=last + 1,
            subject=subject,
            body=body,
            link=link,
            layout=message.layout if message.is_locked else {},
            rules=message.audience.rules if message.audience else {},
            author=by,
            created_at=at,
        )
        Message.objects.filter(pk=message.pk).update(version=message.version, updated_at=at)
    return message.version


def change_audience(message: Message, *, rules: object, by: User | None, at: datetime) -> None:
    """Change the audience's rules. Once live, only for a paused ongoing message, as a new version; otherwise Locked."""
    with transaction.atomic():
        lock_for_edit(message)
        if message.audience is None:
            raise Locked("A direct message has no audience.")
        if message.is_locked and message.send_type == SendType.ONE_OFF:
            raise Locked("This one-off has been live. Its audience can no longer be changed.")
        if message.is_locked and message.state != State.PAUSED:
            raise Locked("Pause this message to change its audience.")
        message.audience.rules = rules
        message.audience.save()
        if message.is_locked and message.version:
            message.audience.rules = segment_copies.freeze(
                message.audience.tree, on=at.astimezone(Workspace.current().tz)
            ).as_json()
            message.audience.save()
            last = message.version
            add_version(message, subject=last.subject, body=last.body, link=last.link, by=by, at=at)


def launch_problems(message: Message, *, at: datetime) -> list[str]:
    """Return the reasons why the message cannot go live at this time, one sentence each."""
    return [sentence for sentences in launch_problems_by_field(message, at=at).values() for sentence in sentences]


def launch_problems_by_field(message: Message, *, at: datetime) -> dict[str, list[str]]:
    """Return the reasons why the message cannot go live at this time, one sentence each, by the field to change."""
    version = message.version
    found = lacking_texts(message)
    if problem := sender_problem(message):
        found["sender"] = [problem]
    if version:
        texts = {"subject": version.subject, "body": version.body, "link": version.link}
        for field, lines in content_problems(message, **texts).items():
            found.setdefault(field, []).extend(lines)
        if message.to_customer_id and not message.to_company_id and content.uses_company(*texts.values()):
            found["company"] = ["The text uses a company variable: choose which company it is about."]
    if message.audience:
        try:
            compiler.compile_tree(message.audience.tree)
        except RuleError as wrong:
            found["rules"] = [str(wrong)]
    # A sampled message keeps its topic for the rest.
    if message.topic and message.topic.is_archived and not message.is_locked:
        found["topic"] = [f"The topic “{message.topic}” is archived. Choose another topic, or none."]
    if problem := window_problem(message, Workspace.current().quiet_hours):
        found["window"] = [problem]
    if message.has_ended(at=at):
        found["shown_until"] = [ENDS_TOO_EARLY]
    return found


def lacking_texts(message: Message) -> dict[str, list[str]]:
    """Return a sentence for each text that the message needs and does not have."""
    found: dict[str, list[str]] = {}
    version = message.version
    if version is None or not version.body.strip():
        found["body"] = ["The message has no text yet."]
    if version and message.channel == Channel.EMAIL and not version.subject.strip():
        found["subject"] = ["An email needs a subject."]
    return found


def window_problem(message: Message, quiet: delivery_window.QuietHours | None) -> str:
    """Return why the message could never be delivered, or ""."""
    if quiet is None or message.open_window(quiet) != delivery_window.NEVER:
        return ""
    return (
        "The delivery times lie within the quiet hours of the workspace"
        f" ({delivery_window.describe_quiet_hours(quiet, '')}), so nothing could be sent. Change the delivery times, or"
        " tick “Also during quiet hours”."
    )


def sender_problem(message: Message) -> str:
    """Return why the message cannot go live from its sender, or ""."""
    if message.sender is None:
        return NO_SENDER
    domain = domain_of_sender(message)
    return domain.launch_problem if domain else ""


def domain_of_sender(message: Message) -> SendingDomain | None:
    """Return the checked domain that an email to an audience comes from; None for others, and if it was not checked."""
    if message.channel != Channel.EMAIL or message.to_customer_id or message.sender is None:
        return None
    return SendingDomain.objects.filter(pk=message.sender.domain).first()


def freeze_audience(message: Message, *, at: datetime) -> None:
    """Copy the rules of referenced segments into the audience, and save rules and email layout in the version."""
    if message.audience is None or message.version is None:
        return
    tree = segment_copies.freeze(message.audience.tree, on=at.astimezone(Workspace.current().tz))
    message.audience.rules = message.version.rules = tree.as_json()
    message.version.layout = message.layout
    message.audience.save()
    message.version.save()
