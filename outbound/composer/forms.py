"""The forms of the composer. A valid form can be saved; errors appear at their fields."""

import json
from datetime import datetime
from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from audiences.models import Audience
from messaging import authoring, content
from messaging.content.plain_text import html_to_text
from messaging.models import Channel, Format, Message, MessageVersion, Sender, SendType, Style
from outbound.composer.audience_fields import AudienceFields
from outbound.composer.confirm import MAX_SAMPLE
from outbound.composer.fields import TopicField
from outbound.console.rich_text import MessageTextWidget

UNTITLED = "Untitled message"
OPENS_THE_APP = {"placeholder": "For example: https://www.example.com/orders or myapp://orders", "inputmode": "url"}

# For a teammate who opens a colleague's message.
KEPT_SENDER = "You cannot choose {} for messages of your own. This message may keep it."


# Values of inputs for a local day and time.
LOCAL_TIME_FORMATS = ("%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S")


class ContentForm(forms.Form):
    """Step 1: channel, sender and content."""

    title = forms.CharField(
        required=False,
        max_length=200,
        label="Name",
        help_text="Only your team sees it.",
        widget=UnfoldAdminTextInputWidget({"placeholder": "For example: Welcome"}),
    )
    channel = forms.ChoiceField(choices=Channel, widget=forms.RadioSelect({"x-model": "channel"}))
    format = forms.ChoiceField(
        choices=Format,
        widget=forms.RadioSelect({"x-model": "format"}),
        required=False,
        error_messages={"invalid_choice": "Choose a form."},
    )
    style = forms.ChoiceField(choices=Style, widget=forms.RadioSelect, required=False)
    sender = forms.ModelChoiceField(
        Sender.objects.none(),
        required=False,
        label="From",
        empty_label="Choose a sender",
        widget=UnfoldAdminSelectWidget(),
        error_messages={"invalid_choice": "You cannot send as this sender. Choose another."},
    )
    subject = forms.CharField(required=False, max_length=255, widget=UnfoldAdminTextInputWidget())
    body = forms.CharField(required=False, label="Text", widget=MessageTextWidget())
    # Push is written as plain text and stored as HTML paragraphs.
    text = forms.CharField(required=False, label="Text", widget=UnfoldAdminTextareaWidget({"rows": 5}))
    link = forms.CharField(required=False, max_length=1000, widget=UnfoldAdminTextInputWidget(OPENS_THE_APP))

    shown_until = forms.DateTimeField(
        required=False,
        label="Stop showing on",
        help_text="In the workspace’s time zone. From then on it no longer appears on pages, and it is stopped.",
        input_formats=LOCAL_TIME_FORMATS,
        error_messages={"invalid": "Enter a day and a time for “Stop showing on”."},
        widget=forms.DateTimeInput({"type": "datetime-local", "class": "ob-input"}, format=LOCAL_TIME_FORMATS[0]),
    )

    def __init__(self, *args: Any, user: User, message: Message, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.message, self.user = message, user
        senders = Sender.objects.usable_by(user)
        # A teammate who edits a colleague's message may leave a sender that they cannot use themselves.
        self.fields["sender"].queryset = (  # type: ignore[attr-defined]
            senders | Sender.objects.filter(pk=message.sender_id).distinct() if message.sender_id else senders
        )
        if not message.sender_id and not senders.exists():
            self.fields["sender"].help_text = no_sender(user)
        elif message.sender and not senders.filter(pk=message.sender.pk).exists():
            self.fields["sender"].help_text = KEPT_SENDER.format(message.sender.name)

    def clean(self) -> dict[str, Any]:
        """Sanitize the text and report errors of the template with their lines."""
        data = super().clean() or {}
        channel = data.get("channel") or self.message.channel
        self.problems = {}
        is_push = channel == Channel.PUSH
        how = data.get("format") if "format" in self.fields else self.message.format
        if channel == Channel.IN_APP and how != Format.ANNOUNCEMENT:
            # A chat has no subject; the hidden field may still hold an earlier one.
            data["subject"] = ""
        source = content.paragraphs_html(data.get("text", "")) if is_push else data.get("body", "")
        field = "text" if is_push else "body"
        data["source"] = source
        try:
            problems = authoring.content_problems(
                self.message,
                subject=data.get("subject", ""),
                body=content.sanitise(source),
                link=data.get("link", "").strip() if is_push else "",
            )
        except content.ContentError as wrong:
            problems = {}
            self.add_error(field, str(wrong))
        self.problems = {field if name == "body" else name: sentences for name, sentences in problems.items()}
        if channel != Channel.IN_APP or self.message.to_customer_id:
            data["shown_until"] = None
        data["style"] = data.get("style") or self.message.style
        data["format"] = (data.get("format") or Format.CHAT) if channel == Channel.IN_APP else ""
        return data

    def require_valid_content(self) -> None:
        """Add the problems of the text as errors: only a draft is saved with them."""
        for name, sentences in self.problems.items():
            for sentence in sentences:
                self.add_error(name, sentence)

    def title_or_first_words(self) -> str:
        """Return the name, or the subject or the first words if no name was entered."""
        given = self.cleaned_data["title"].strip() or content.fill_in(self.cleaned_data.get("subject", "").strip())
        words = given or content.fill_in(" ".join(html_to_text(self.cleaned_data["source"]).split()))[:80]
        return words[:200] or UNTITLED


# Fields of a draft that are saved as they were entered.
DRAFT_FIELDS = (
    *("channel", "format", "style", "sender", "send_type", "window_zone", "checking", "same_inbox_once"),
    "during_quiet_hours",
    "only_new_matches",
    "shown_until",
    "topic",
)


class DraftForm(AudienceFields, ContentForm):
    """The form of the composer page."""

    send_type = forms.ChoiceField(
        choices=SendType,
        label="How it sends",
        widget=forms.RadioSelect({"x-model": "kind"}),
        error_messages={"required": "Choose Ongoing or One-off."},
    )
    same_inbox_once = forms.BooleanField(
        required=False,
        label="One copy to each inbox",
        help_text="Customers who share an email address get one copy.",
        widget=forms.CheckboxInput,
    )
    only_new_matches = forms.BooleanField(
        required=False,
        label="Only people who start to match after it goes live",
        help_text="The people who match now are left out, also if they stop and start to match again.",
    )
    topic = TopicField()
    scheduled_for = forms.DateTimeField(required=False, input_formats=LOCAL_TIME_FORMATS)
    sample = forms.IntegerField(required=False, min_value=1, max_value=MAX_SAMPLE)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["topic"].offer(kept=self.message.topic_id)  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        """Validate both steps and the fields that the pressed button needs."""
        data = super().clean()
        if data.get("send_type") != SendType.ONGOING:
            # The hidden field may still be ticked.
            data["only_new_matches"] = False
        act = self.data.get("act", "save")
        if act == "schedule" and not data.get("scheduled_for") and "scheduled_for" not in self.errors:
            self.add_error("scheduled_for", "Choose a day and a time.")
        if act == "sample" and not data.get("sample") and "sample" not in self.errors:
            self.add_error("sample", "Enter how many people should get it first.")
        return data

    def save(self, *, by: User, at: datetime) -> Message:
        """Save the draft. The caller has locked its row or its key."""
        message, data = self.message, self.cleaned_data
        for name in DRAFT_FIELDS:
            setattr(message, name, data[name])
        message.title = self.title_or_first_words()
        message.window = data["window"]
        message.clean()
        if is_new(message):
            message.audience = Audience.objects.create(rules=data["rules"])
            message.created_by = by
            message.save(force_insert=True)
        else:
            message.save(update_fields=("title", *DRAFT_FIELDS, "window", "updated_at"))
            authoring.change_audience(message, rules=data["rules"], by=by, at=at)
        authoring.revise(
            message, subject=data.get("subject", ""), body=data["source"], link=data.get("link", ""), by=by, at=at
        )
        return message

    def preview(self) -> Message:
        """Return the message as an unsaved instance."""
        data = self.cleaned_data
        readable = not {"subject", "body", "text", "link"} & self.errors.keys()
        return Message(
            channel=data.get("channel") or Channel.EMAIL,
            format=data.get("format", ""),
            style=data.get("style") or Style.PLAIN,
            send_type=data.get("send_type") or SendType.ONGOING,
            sender=data.get("sender"),
            window=data.get("window", []),
            same_inbox_once=data.get("same_inbox_once", True),
            only_new_matches=data.get("only_new_matches", False),
            shown_until=data.get("shown_until"),
            topic=data.get("topic"),
            window_zone=data["window_zone"],
            during_quiet_hours=data["during_quiet_hours"],
            checking=data["checking"],
            audience=Audience(rules=data.get("rules", {})),
            version=MessageVersion(
                subject=data.get("subject", "") if readable else "",
                body=content.sanitise(data["source"]) if readable else "",
                link=data.get("link", "").strip() if readable and data.get("channel") == Channel.PUSH else "",
            ),
        )


class VersionForm(ContentForm):
    """The content of a message that has been live, as a new version; its channel and format are locked."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self.fields["channel"], self.fields["format"]

    def clean_shown_until(self) -> datetime | None:
        """Refuse a new time that is over: the message would stop without the question that “Stop” asks."""
        end: datetime | None = self.cleaned_data["shown_until"]
        if end and end != self.message.shown_until and end <= timezone.now():
            raise ValidationError("The time must be in the future. To end the message now, stop it.")
        return end

    def clean(self) -> dict[str, Any]:
        """Refuse a text with problems, because copies are sent with it."""
        data = super().clean()
        self.require_valid_content()
        return data

    def save(self, *, by: User, at: datetime) -> MessageVersion:
        """Save the name, the sender and the style, and a new version if the content changed."""
        message = self.message
        message.title, message.sender = self.title_or_first_words(), self.cleaned_data["sender"]
        message.style, message.shown_until = self.cleaned_data["style"], self.cleaned_data["shown_until"]
        message.save(update_fields=("title", "sender", "style", "shown_until", "updated_at"))
        data = self.cleaned_data
        return authoring.revise(
            message, subject=data.get("subject", ""), body=data["source"], link=data.get("link", ""), by=by, at=at
        )


class AudienceForm(AudienceFields):
    """The rules and delivery times of a paused ongoing message."""

    def __init__(self, *args: Any, message: Message, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.message = message

    def save(self, *, by: User, at: datetime) -> None:
        """Save the rules as a logged version, and the delivery times."""
        authoring.change_audience(self.message, rules=self.cleaned_data["rules"], by=by, at=at)
        names = ("window", "window_zone", "during_quiet_hours", "checking")
        for name in names:
            setattr(self.message, name, self.cleaned_data[name])
        self.message.clean()
        self.message.save(update_fields=(*names, "updated_at"))


def no_sender(user: User) -> str:
    """Return the help text for a teammate without an available sender."""
    if not user.has_perm("messaging.add_sender"):
        return "No sender is available to you yet. Ask an admin to add one."
    return format_html(
        'No sender is available to you yet. <a href="{}">Add a sender</a>',
        reverse("admin:messaging_sender_add"),
    )


def is_new(message: Message) -> bool:
    """Whether the message is unsaved; its primary key may already be reserved."""
    return bool(message._state.adding)  # noqa: SLF001 - what Django's own forms ask


def content_of(message: Message) -> dict[str, Any]:
    """Return the initial values of the content form."""
    version = message.version
    body = version.body if version else ""
    is_push = message.channel == Channel.PUSH
    return {
        "title": "" if is_new(message) else message.title,
        "channel": message.channel,
        "format": message.format or Format.CHAT,
        "style": message.style,
        "sender": message.sender_id,
        "subject": version.subject if version else "",
        "body": "" if is_push else body,
        "text": html_to_text(body) if is_push else "",
        "link": version.link if version else "",
        "shown_until": message.shown_until,
    }


def audience_of(message: Message) -> dict[str, Any]:
    """Return the initial values of the audience form."""
    return {
        "rules": json.dumps(message.audience.rules if message.audience else {}),
        "window": json.dumps(message.window),
        "window_zone": message.window_zone,
        "during_quiet_hours": message.during_quiet_hours,
        "checking": message.checking,
    }


def draft_of(message: Message) -> dict[str, Any]:
    """Return the initial values of the composer."""
    when = message.scheduled_for
    return {
        **content_of(message),
        **audience_of(message),
        "send_type": message.send_type,
        "same_inbox_once": message.same_inbox_once,
        "only_new_matches": message.only_new_matches,
        "topic": message.topic_id,
        "scheduled_for": timezone.localtime(when) if when else None,
    }
