"""“Send a message”: the composer for a message to one customer, opened from their profile (behaviour 4.12)."""

from typing import Any

from csp.constants import SELF
from csp.decorators import csp_replace
from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from audiences.models import Company, CustomAttribute, Customer, Workspace
from audiences.models.consent import has_not_confirmed
from audiences.transactions import retried
from delivery import tasks
from delivery.matching import direct
from delivery.models import DeliveryRecord
from messaging import authoring, content
from messaging.models import Channel, Format, Message, Sender
from outbound import roles
from outbound.composer import options
from outbound.composer.forms import OPENS_THE_APP
from outbound.console import idempotency
from outbound.console.admin import ConsoleAdmin, teammate
from outbound.console.rich_text import MessageTextWidget
from outbound.edits import autosave
from outbound.edits.forms import DIRECT_MESSAGE, form_name

CHAT, ANNOUNCEMENT = "chat", "announcement"
SENT = "Sent"
OTHER_CHANNELS = [channel for channel in Channel if channel != Channel.IN_APP]
WAYS: dict[str, tuple[Channel, str]] = {
    CHAT: (Channel.IN_APP, Format.CHAT),
    ANNOUNCEMENT: (Channel.IN_APP, Format.ANNOUNCEMENT),
    **{channel.value: (channel, "") for channel in OTHER_CHANNELS},
}
LABELS: dict[str, str] = {
    CHAT: "In-app chat",
    ANNOUNCEMENT: "In-app announcement",
    **{channel.value: str(channel.label) for channel in OTHER_CHANNELS},
}


class DirectMessageForm(forms.Form):
    """A message to one customer."""

    way = forms.ChoiceField(choices=list(LABELS.items()), widget=forms.RadioSelect, initial=CHAT, label="Send as")
    sender = forms.ModelChoiceField(
        Sender.objects.none(),
        label="From",
        empty_label="Choose a sender",
        widget=UnfoldAdminSelectWidget(),
        error_messages={
            "required": authoring.NO_SENDER,
            "invalid_choice": "You may not write as this sender. Choose another one.",
        },
    )
    subject = forms.CharField(required=False, max_length=255, widget=UnfoldAdminTextInputWidget())
    body = forms.CharField(required=False, label="Text", widget=MessageTextWidget())
    text = forms.CharField(required=False, label="Text", widget=UnfoldAdminTextareaWidget({"rows": 4}))
    link = forms.CharField(required=False, max_length=1000, widget=UnfoldAdminTextInputWidget(OPENS_THE_APP))
    company = forms.ModelChoiceField(
        Company.objects.none(),
        required=False,
        label="About which company",
        empty_label="Choose a company",
        widget=UnfoldAdminSelectWidget(),
    )

    def __init__(self, *args: Any, user: User, customer: Customer, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["sender"].queryset = Sender.objects.usable_by(user).order_by("name")  # type: ignore[attr-defined]
        self.fields["sender"].initial = Sender.objects.default_sender_of(user)
        queryset = Company.objects.present().filter(memberships__customer=customer).order_by("name")
        self.fields["company"].queryset = queryset  # type: ignore[attr-defined]

    @property
    def way_chosen(self) -> str:
        return str(self["way"].value() or CHAT)

    def send(self, customer: Customer, *, by: User, key: int, at: Any) -> DeliveryRecord:
        """Send the message. Raises ValidationError with the fields of this form."""
        data = self.cleaned_data
        channel, format_ = WAYS[data["way"]]
        is_push = channel == Channel.PUSH
        try:
            return direct.send_to_one(
                customer,
                channel=channel,
                format=format_,
                sender=data["sender"],
                subject="" if data["way"] == CHAT else data["subject"].strip(),
                body=content.paragraphs_html(data["text"]) if is_push else data["body"],
                by=by,
                at=at,
                company=data["company"],
                reserved=key,
                link=data["link"].strip() if is_push else "",
            )
        except content.ContentError as wrong:
            raise ValidationError({"text" if is_push else "body": str(wrong)}) from wrong
        except ValidationError as wrong:
            raise ValidationError(errors_by_field(wrong, text="text" if is_push else "body")) from wrong


def errors_by_field(wrong: ValidationError, *, text: str) -> dict[str, list[str]]:
    """Return the errors by field of this form. Errors about no field go to the field `text`."""
    names = {"channel": "way", "body": text, **{name: name for name in ("subject", "link", "company", "sender")}}
    if not hasattr(wrong, "error_dict"):
        return {text: wrong.messages}
    found: dict[str, list[str]] = {}
    for field, sentences in wrong.message_dict.items():
        found.setdefault(names.get(field, text), []).extend(sentences)
    return found


def is_in_sheet(request: HttpRequest) -> bool:
    """Whether the page is shown as a sheet over another page of the console."""
    return "sheet" in request.GET


def allow_in_sheet(request: HttpRequest, answer: HttpResponse) -> None:
    """Let pages of the console, and no others, show this answer in a frame."""
    answer.headers["X-Frame-Options"] = "SAMEORIGIN"
    csp_replace({"frame-ancestors": [SELF]})(lambda _request: answer)(request)


def message_page(admin: ConsoleAdmin, request: HttpRequest, customer: Customer) -> HttpResponse:
    """Show the form, and send a valid message."""
    answer = answer_form(admin, request, customer)
    if is_in_sheet(request):
        allow_in_sheet(request, answer)
    return answer


def answer_form(admin: ConsoleAdmin, request: HttpRequest, customer: Customer) -> HttpResponse:
    if not request.user.has_perm(roles.WRITE_TO_ONE):
        raise PermissionDenied
    form = DirectMessageForm(request.POST or None, user=teammate(request), customer=customer)
    name, at = form_name(DIRECT_MESSAGE, customer), timezone.now()
    ticket = request.POST.get("ticket", "") or idempotency.issue_ticket(request.user)
    if request.method == "POST" and form.is_valid():
        key = idempotency.redeem_ticket(ticket, request.user)
        try:
            send_once(admin, request, customer, form, key=key)
        except ValidationError as no:
            for field, sentences in no.message_dict.items():
                for sentence in sentences:
                    form.add_error(field, sentence)
        else:
            autosave.close_form(request, name, at=at)
            sent = success_message(customer, form.cleaned_data["way"])
            if is_in_sheet(request):
                return admin.page(
                    request,
                    "outbound/people/message_sent.html",
                    title=SENT,
                    sent=sent,
                    original=customer,
                    is_popup=True,
                )
            messages.success(request, sent)
            return HttpResponseRedirect(reverse("admin:audiences_customer_change", args=[customer.pk]))
    opened = autosave.open_form(request, name, at=at)
    opened.fill(form)
    return admin.page(
        request,
        "outbound/people/send_message.html",
        open_form=opened,
        title=f"Message to {customer}",
        original=customer,
        is_popup=is_in_sheet(request),
        form=form,
        ticket=ticket,
        ways=send_options(customer),
        variables=options.variables(CustomAttribute.objects.offered().catalogue()),
    )


@retried
def send_once(
    admin: ConsoleAdmin, request: HttpRequest, customer: Customer, form: DirectMessageForm, *, key: int
) -> None:
    """Send and log the message once, even if the form is submitted several times."""
    idempotency.lock_key(key)
    if Message.objects.filter(pk=key).exists():
        return
    record = form.send(customer, by=teammate(request), key=key, at=timezone.now())
    admin.note(request, customer, f"Sent a message: “{record.message}”")
    transaction.on_commit(tasks.enqueue_dispatch)


def send_options(customer: Customer) -> list[dict[str, str]]:
    """Return the ways to send, each with the reason why it is unavailable or a warning. Push needs a device."""
    found = []
    for way, label in LABELS.items():
        reason = direct.unreachable_reason(customer, channel=WAYS[way][0])
        if way == Channel.PUSH and reason:
            continue
        why_not = direct.UNREACHABLE_ERRORS[reason].format(customer=customer) if reason else ""
        obstacle = email_obstacle(customer) if way == Channel.EMAIL and not why_not else ""
        warning = f"{customer} {obstacle}. Write only if they would want to receive this email." if obstacle else ""
        found.append({"name": way, "label": label, "why_not": why_not, "warning": warning})
    return found


def email_obstacle(customer: Customer) -> str:
    """Return why the customer gets no emails to an audience although a direct message reaches them; "" if they do."""
    if customer.unsubscribed_from_emails:
        return "unsubscribed from emails"
    has_not = has_not_confirmed(customer) and Workspace.current().double_opt_in
    return "has not confirmed their address" if has_not else ""


def success_message(customer: Customer, way: str) -> str:
    if WAYS[way][0] == Channel.IN_APP:
        return f"{customer} will see the message as soon as they are in your app."
    return f"The message is on its way to {customer}."
