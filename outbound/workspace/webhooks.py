"""Webhooks: the addresses that receive notifications, their topics and secrets, and a log of deliveries."""

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone

from audiences import webhook_outbox
from audiences.models import Notification, NotificationState, Subscription, Topic
from audiences.models.workspace import new_secret
from delivery.webhooks import dispatcher, safe_http
from delivery.webhooks.notification import standard_secret
from outbound.console.admin import answer_without_button
from outbound.console.change_message import changes
from outbound.console.formatting import chip
from outbound.edits import autosave, conflicts
from outbound.edits.admin import ChangeLogAdmin
from outbound.edits.forms import form_name
from outbound.workspace.integration import back_to_section

PER_PAGE = 25
TONES: dict[NotificationState, str] = {
    NotificationState.WAITING: "info",
    NotificationState.SENDING: "info",
    NotificationState.DELIVERED: "good",
    NotificationState.FAILED: "bad",
}
TOPICS: dict[str, dict[Topic, str]] = {
    "Everything": {
        Topic.ALL: "All topics, also those that a later version adds",
    },
    "Messages": {
        Topic.MESSAGE_SENT: "A copy of a message was sent",
        Topic.MESSAGE_OPENED: "A customer opened a message",
        Topic.MESSAGE_CLICKED: "A customer clicked a link in a message",
        Topic.MESSAGE_REPLIED: "A customer replied to a message",
        Topic.MESSAGE_BOUNCED: "An email bounced",
        Topic.MESSAGE_COMPLAINED: "A customer marked an email as spam",
        Topic.MESSAGE_UNSUBSCRIBED: "A customer unsubscribed through an email",
        Topic.MESSAGE_FAILED: "A copy of a message could not be sent",
        Topic.MESSAGE_UNCERTAIN: "A copy may or may not have been sent",
    },
    "Conversations": {
        Topic.CONVERSATION_USER_CREATED: "A customer started a conversation",
        Topic.CONVERSATION_USER_REPLIED: "A customer replied",
        Topic.CONVERSATION_ADMIN_REPLIED: "A teammate replied",
        Topic.CONVERSATION_ADMIN_SINGLE_CREATED: "A teammate sent a message to one customer",
        Topic.CONVERSATION_ADMIN_ASSIGNED: "A conversation was assigned",
        Topic.CONVERSATION_ADMIN_NOTED: "A note was added to a conversation",
        Topic.CONVERSATION_ADMIN_CLOSED: "A conversation was closed",
        Topic.CONVERSATION_ADMIN_OPENED: "A conversation was reopened",
        Topic.CONVERSATION_ADMIN_SNOOZED: "A conversation was snoozed",
    },
    "Users": {
        Topic.USER_CREATED: "A user was created",
        Topic.USER_EMAIL_UPDATED: "A user’s email address changed",
        Topic.USER_UNSUBSCRIBED: "A user unsubscribed from emails",
        Topic.USER_TAG_CREATED: "A tag was added to a user",
        Topic.USER_TAG_DELETED: "A tag was removed from a user",
        Topic.USER_DELETED: "A user was archived",
    },
    "Leads": {
        Topic.CONTACT_CREATED: "A lead was created",
        Topic.CONTACT_ADDED_EMAIL: "A lead gave an email address",
        Topic.CONTACT_SIGNED_UP: "A lead became a user",
        Topic.CONTACT_TAG_CREATED: "A tag was added to a lead",
        Topic.CONTACT_TAG_DELETED: "A tag was removed from a lead",
        Topic.CONTACT_DELETED: "A lead was archived",
    },
    "Companies and events": {
        Topic.COMPANY_CREATED: "A company was created",
        Topic.EVENT_CREATED: "An event was recorded",
    },
}
# Sent by a button, so it has no checkbox.
TOPICS_WITHOUT_CHECKBOX = (Topic.PING,)


class SubscriptionForm(forms.ModelForm):
    """The address and topics of a webhook."""

    url = forms.CharField(
        label="URL",
        max_length=safe_http.MAX_URL_LENGTH,
        widget=forms.TextInput(
            {"class": "ob-input", "placeholder": "https://shop.example.com/hooks", "inputmode": "url"}
        ),
        help_text="Outbound sends a POST with JSON to this URL. Addresses in private networks are not allowed.",
    )
    topics = forms.MultipleChoiceField(
        label="Topics",
        choices=[(group, [(topic.value, words) for topic, words in rows.items()]) for group, rows in TOPICS.items()],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one topic."},
    )
    active = forms.BooleanField(label="Switched on", required=False, initial=True)

    class Meta:
        model = Subscription
        fields = ("url", "topics", "active")

    def clean_url(self) -> str:
        """Refuse invalid URLs, and private networks unless the settings allow them."""
        url = str(self.cleaned_data["url"])
        try:
            safe_http.check_url(url)
        except safe_http.NotAllowed as wrong:
            raise ValidationError(str(wrong)) from wrong
        return url

    def clean_topics(self) -> list[str]:
        """Keep topics without a checkbox, which an integration subscribed to by the API."""
        others = [topic for topic in self.instance.topics or [] if topic in TOPICS_WITHOUT_CHECKBOX]
        return [*self.cleaned_data["topics"], *others]

    def groups(self) -> list[tuple[str, list[tuple[str, str, bool]]]]:
        """Return the checkboxes by group."""
        ticked = set(self["topics"].value() or ())
        return [
            (group, [(topic.value, words, topic.value in ticked) for topic, words in rows.items()])
            for group, rows in TOPICS.items()
        ]


class SubscriptionAdmin(ChangeLogAdmin):
    """The page of a webhook. The list is part of the integration page."""

    own_pages = (
        ("<path:object_id>/show-secret/", "show_secret"),
        ("<path:object_id>/change-secret/", "change_secret"),
        ("<path:object_id>/ping/", "ping"),
        ("<path:object_id>/again/<int:key>/", "again"),
    )

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Redirect to the integration page, which has the list."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return back_to_section("webhooks")

    def response_delete(self, request: HttpRequest, obj_display: str, obj_id: int) -> HttpResponse:
        messages.success(request, f"{obj_display} no longer receives notifications.")
        return back_to_section("webhooks")

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        at = timezone.now()
        form = SubscriptionForm(request.POST or None, instance=Subscription(created_at=at, updated_at=at))
        if request.method == "POST" and form.is_valid():
            with transaction.atomic():
                made = form.save()
                self.log_addition(request, made, "Added the webhook")
            messages.success(request, f"{made} now receives notifications. Verify them with the signing secret.")
            return HttpResponseRedirect(self.webhook_url(made))
        status = 400 if request.method == "POST" else 200
        return self.page(request, "outbound/workspace/webhook.html", title="Add a webhook", status=status, form=form)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Show or save a webhook."""
        if request.method != "POST":
            return self.render_page(request, self.get_object_or_refuse(request, object_id, to="view"))
        self.get_object_or_refuse(request, object_id)
        with transaction.atomic():
            found = self.get_locked_object(request, object_id)
            if found is None:
                raise Http404("This webhook was deleted.")
            request.POST, conflict = conflicts.resolve(request.POST, current=SubscriptionForm(instance=found))
            if conflict:
                return conflicts.conflict_page(self, request, conflict, row=found)
            form = SubscriptionForm(request.POST, instance=found)
            if form.is_valid():
                form.instance.updated_at = timezone.now()
                form.save()
                self.note(request, found, changes(form) or "Saved without changes")
                autosave.note_saved(request, form_name("subscription", found), at=timezone.now())
                messages.success(request, "Saved.")
                return HttpResponseRedirect(self.webhook_url(found))
        found.refresh_from_db()
        return self.render_page(request, found, form=form, status=400)

    def render_page(
        self, request: HttpRequest, found: Subscription, *, status: int = 200, **shown: Any
    ) -> HttpResponse:
        rows = Notification.objects.filter(subscription=found).order_by("-pk")
        failures_only = request.GET.get("log") == "trouble"
        if failures_only:
            rows = rows.exclude(detail="").exclude(state=NotificationState.DELIVERED)
        can_change = self.has_change_permission(request, found)
        page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
        return self.page(
            request,
            "outbound/workspace/webhook.html",
            title="Webhook",
            status=status,
            **{
                "webhook": found,
                # Shown only beside the secret.
                "standard_secret": standard_secret(found.secret),
                "form": SubscriptionForm(instance=found),
                "can_change": can_change,
                "open_form": autosave.open_form(request, form_name("subscription", found), at=timezone.now())
                if can_change
                else None,
                "seen": conflicts.version_of(SubscriptionForm(instance=found)),
                "rows": page,
                "told": [(row, chip(row.get_state_display(), TONES[NotificationState(row.state)])) for row in page],
                "trouble": failures_only,
                "log": self.history_of(found),
                **shown,
            },
        )

    def show_secret(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the signing secret. The log records it."""
        if request.method != "POST":
            return answer_without_button(request, reverse("admin:audiences_subscription_change", args=[object_id]))
        found = self.get_object_or_refuse(request, object_id)
        self.note(request, found, "Viewed the signing secret")
        return self.render_page(request, found, secret=found.secret)

    def change_secret(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Replace the signing secret and show it."""
        if request.method != "POST":
            return answer_without_button(request, reverse("admin:audiences_subscription_change", args=[object_id]))
        found = self.get_object_or_refuse(request, object_id)
        with transaction.atomic():
            found.secret, found.updated_at = new_secret(), timezone.now()
            found.save(update_fields=["secret", "updated_at"])
            self.note(request, found, "Changed the signing secret")
        messages.success(request, "The signing secret has been changed. Update your server now.")
        return self.render_page(request, found, secret=found.secret)

    def ping(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if request.method != "POST":
            return answer_without_button(request, reverse("admin:audiences_subscription_change", args=[object_id]))
        found = self.get_object_or_refuse(request, object_id)
        with transaction.atomic():
            webhook_outbox.announce_ping(found, at=timezone.now())
            self.note(request, found, "Sent a ping")
        self.confirm(request, found, "A ping is on its way. The answer will appear in the log.")
        return HttpResponseRedirect(f"{self.webhook_url(found)}#log")

    def again(self, request: HttpRequest, object_id: str, key: int) -> HttpResponse:
        """Send a notification again."""
        if request.method != "POST":
            return answer_without_button(request, reverse("admin:audiences_subscription_change", args=[object_id]))
        found = self.get_object_or_refuse(request, object_id)
        row = get_object_or_404(Notification, subscription=found, pk=key)
        with transaction.atomic():
            if dispatcher.send_again(row, at=timezone.now()):
                self.note(request, found, f"Sent {row.topic} (notif_{row.pk}) again")
                transaction.on_commit(lambda: webhook_outbox.nudge_dispatcher())
                self.confirm(request, found, "The notification is being sent again. The answer will appear in the log.")
            else:
                messages.warning(request, "This notification is being sent right now.")
        return HttpResponseRedirect(f"{self.webhook_url(found)}#log")

    def confirm(self, request: HttpRequest, found: Subscription, text: str) -> None:
        """Confirm a request, or warn that nothing is sent while the webhook is off."""
        if found.active:
            messages.success(request, text)
        else:
            messages.warning(request, "Not sent yet: this webhook is switched off.")

    def webhook_url(self, found: Subscription) -> str:
        return reverse("admin:audiences_subscription_change", args=[found.pk])
