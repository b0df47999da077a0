"""Messages from JSON: the forms of the composer check and save them, and their errors name the keys of the request."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from rest_framework.request import Request

from audiences.attributes import BY_NAME
from audiences.intake import Conflict, Refused
from audiences.intake.attributes.fields import quoted_value, read_flag, read_mapping, read_moment, read_text
from audiences.intake.tags import read_tag_name
from audiences.models import Integration, MessageTopic
from audiences.rules import Kind
from delivery.conversations.payloads import MESSAGE_PREFIX
from messaging.content import paragraphs_html
from messaging.content.plain_text import html_to_text
from messaging.models import Channel, Message, Sender, State
from outbound.composer import saving
from outbound.composer.forms import AudienceForm, DraftForm, VersionForm, audience_of, content_of, draft_of
from outbound.messages import report

MAX_BODY_LENGTH = 100_000
MAX_TAGS = 50
CONTENT_KEYS = ("title", "sender", "style", "subject", "body", "link", "shown_until")
AUDIENCE_KEYS = ("rules", "window", "window_zone", "during_quiet_hours", "checking")
# Set once, in a draft.
DRAFT_KEYS = ("channel", "format", "send_type", "same_inbox_once", "only_new_matches", "topic")
WRITABLE_KEYS = (*CONTENT_KEYS, *AUDIENCE_KEYS, *DRAFT_KEYS)
MESSAGE_ID = re.compile(rf"{MESSAGE_PREFIX}(\d{{1,18}})")
CONTENT_IS_LOCKED = "The content can be edited while the message is live or paused."


def callers(request: Request) -> tuple[User, User]:
    """Return the author of changes and the user in the log, which is the token.

    The author is the teammate for whom the token acts, or the token if that teammate may not write messages.
    """
    integration = request.auth
    assert isinstance(integration, Integration)  # noqa: S101 - only integrations call the API
    teammate = integration.acting_teammate()
    author = teammate if teammate is not None and teammate.has_perm("messaging.add_message") else integration.user
    return author, integration.user


def create_draft(sent: Mapping[str, Any], *, by: User, logged_as: User, at: datetime) -> Message:
    """Create a draft, by default an ongoing email to everyone from the teammate's own sender."""
    blank = Message(sender=Sender.objects.default_sender_of(by))
    form = DraftForm({**draft_of(blank), **form_values(sent, channel=blank.channel)}, user=by, message=blank)
    check_form(form)
    return saving.save_draft(form, by=by, logged_as=logged_as, at=at)


def edit(message: Message, sent: Mapping[str, Any], *, by: User, logged_as: User, at: datetime) -> None:
    """Change what may be changed in the message's state. The caller has locked the row of a draft."""
    try:
        save_changes(message, sent, by=by, logged_as=logged_as, at=at)
    except ValidationError as late:
        # The message has changed since it was checked.
        raise refusal_from(late) from late


def save_changes(message: Message, sent: Mapping[str, Any], *, by: User, logged_as: User, at: datetime) -> None:
    """Check the changes by the forms of the composer and save them."""
    if message.state == State.DRAFT and not message.launching_at and not message.to_customer_id:
        form = DraftForm({**draft_of(message), **values_for(message, sent)}, user=by, message=message)
        check_form(form)
        saving.save_draft(form, by=by, logged_as=logged_as, at=at)
        return
    refuse_keys(sent, DRAFT_KEYS, because=report.lock_explanation(message) or "Only a draft can be edited.")
    available = report.available_buttons(message)
    if any(key in sent for key in CONTENT_KEYS):
        if "content" not in available:
            refuse_keys(sent, CONTENT_KEYS, because=CONTENT_IS_LOCKED)
        version = VersionForm({**content_of(message), **values_for(message, sent)}, user=by, message=message)
        check_form(version)
        saving.save_version(version, by=by, logged_as=logged_as, at=at)
    if any(key in sent for key in AUDIENCE_KEYS):
        if "audience" not in available:
            because = report.lock_explanation(message) or "Pause this message to edit its audience."
            refuse_keys(sent, AUDIENCE_KEYS, because=because)
        audience = AudienceForm({**audience_of(message), **values_for(message, sent)}, message=message)
        check_form(audience)
        saving.save_audience(audience, by=by, logged_as=logged_as, at=at)


def refuse_keys(sent: Mapping[str, Any], keys: tuple[str, ...], *, because: str) -> None:
    """Refuse the first of these keys that is sent."""
    if field := next((key for key in keys if key in sent), ""):
        raise Conflict(because, field=field)


def values_for(message: Message, sent: Mapping[str, Any]) -> dict[str, Any]:
    return form_values(sent, channel=message.channel)


def form_values(sent: Mapping[str, Any], *, channel: str) -> dict[str, Any]:
    """Return the values for the composer's forms, which expect texts, as a browser posts them."""
    values: dict[str, Any] = {}
    for key in ("title", "channel", "format", "style", "subject", "link", "window_zone", "checking", "send_type"):
        if key in sent:
            values[key] = read_text(sent[key], key, most=2000)
    if "body" in sent:
        written = read_text(sent["body"], "body", most=MAX_BODY_LENGTH)
        is_html = "<" in written and ">" in written
        if values.get("channel", channel) == Channel.PUSH:
            values["text"] = html_to_text(written) if is_html else written
        else:
            values["body"] = written if is_html else paragraphs_html(written)
    if "sender" in sent:
        given = sent["sender"]
        values["sender"] = read_text(given.get("id") if isinstance(given, dict) else given, "sender")
    if "rules" in sent:
        values["rules"] = json_text(read_mapping(sent["rules"], "rules"), "rules", convert=with_message_keys)
    if "window" in sent:
        values["window"] = json_text([] if sent["window"] is None else sent["window"], "window")
    if "shown_until" in sent:
        values["shown_until"] = read_end(sent["shown_until"], channel=values.get("channel", channel))
    if "topic" in sent:
        values["topic"] = read_topic(sent["topic"])
    flags = ("same_inbox_once", "only_new_matches", "during_quiet_hours")
    return {**values, **{key: bool(read_flag(sent[key], key)) for key in flags if key in sent}}


def read_tag_names(value: object) -> list[str]:
    """Read tags as the API returns them, `{"tags": [{"name": "Launch"}]}`, or as an array of these or of names."""
    found = value.get("tags") if isinstance(value, dict) else value
    if found is None:
        return []
    if not isinstance(found, list) or len(found) > MAX_TAGS:
        raise Refused(f"tags must be an array of at most {MAX_TAGS} names.", field="tags")
    return [read_tag_name(one.get("name") if isinstance(one, dict) else one, "tags") for one in found]


def read_topic(value: object) -> int | None:
    """Return the key of the topic with this name."""
    name = read_text(value, "topic")
    if not name:
        return None
    found = MessageTopic.objects.filter(name__iexact=name).first()
    if found is None:
        raise Refused(f"The topic {quoted_value(value)} does not exist.", field="topic")
    return found.pk


def read_end(value: object, *, channel: str) -> datetime | None:
    """Read the moment when an in-app message stops being shown."""
    end = read_moment(value, "shown_until")
    if end and channel != Channel.IN_APP:
        raise Refused("Only an in-app message stops being shown at a time.", field="shown_until")
    return end


def json_text(value: Any, field: str, *, convert: Callable[[Any], Any] = lambda value: value) -> str:
    try:
        return json.dumps(convert(value))
    except RecursionError:
        raise Refused(f"{field} is nested too deep.", field=field) from None


def with_message_keys(rules: Any) -> Any:
    """Return rules with the stored keys of messages instead of their ids."""
    if isinstance(rules, list):
        return [with_message_keys(rule) for rule in rules]
    if not isinstance(rules, dict):
        return rules
    attribute, value = BY_NAME.get(str(rules.get("attribute"))), rules.get("value")
    if (
        attribute
        and attribute.kind is Kind.MESSAGE
        and isinstance(value, str)
        and (found := MESSAGE_ID.fullmatch(value))
    ):
        return {**rules, "value": int(found[1])}
    return {key: with_message_keys(inner) if key == "rules" else inner for key, inner in rules.items()}


def check_form(form: forms.Form) -> None:
    """Raise Refused with the first error of the form, by the key of the request."""
    form.is_valid()
    if isinstance(form, DraftForm):
        form.require_valid_content()
    if form.errors:
        field, sentences = next(iter(form.errors.items()))
        raise Refused(str(sentences[0]), field={"text": "body", "__all__": ""}.get(field, field))


def refusal_from(no: ValidationError) -> Refused:
    """Convert the refusal of an act: 409 if the state does not allow it, 400 if the message is not ready."""
    if hasattr(no, "error_dict"):
        field, sentences = next(iter(no.message_dict.items()))
        return Refused(" ".join(sentences), field=field)
    return Conflict(" ".join(no.messages), field="state")
