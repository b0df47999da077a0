"""Subscriptions: whom we tell what happens, and the log of what each was told."""

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone

from audiences import webhook_outbox
from audiences.models import Notification, NotificationState, Subscription, Topic
from audiences.models.workspace import new_secret
from delivery.webhooks import dispatcher, safe_http
from outbound.console.admin import not_done
from outbound.console.change_message import ToldAdmin, changes
from outbound.console.formatting import chip
from outbound.workspace.integration import back

PER_PAGE = 25
TONES: dict[NotificationState, str] = {
    NotificationState.WAITING: "info",
    NotificationState.SENDING: "info",
    NotificationState.DELIVERED: "good",
    NotificationState.FAILED: "bad",
}
TOPICS: dict[str, dict[Topic, str]] = {
    "Conversations": {
        Topic.CONVERSATION_USER_CREATED: "A customer began one",
        Topic.CONVERSATION_USER_REPLIED: "A customer replied",
        Topic.CONVERSATION_ADMIN_REPLIED: "A teammate replied",
        Topic.CONVERSATION_ADMIN_SINGLE_CREATED: "A teammate wrote to one customer",
        Topic.CONVERSATION_ADMIN_ASSIGNED: "One was assigned",
        Topic.CONVERSATION_ADMIN_NOTED: "A note was added",
        Topic.CONVERSATION_ADMIN_CLOSED: "One was closed",
        Topic.CONVERSATION_ADMIN_OPENED: "One was opened again",
        Topic.CONVERSATION_ADMIN_SNOOZED: "One was snoozed",
    },
    "Users": {
        Topic.USER_CREATED: "There is a new one",
        Topic.USER_EMAIL_UPDATED: "An email address changed",
        Topic.USER_UNSUBSCRIBED: "One unsubscribed from emails",
        Topic.USER_TAG_CREATED: "One was tagged",
        Topic.USER_TAG_DELETED: "A tag was taken off",
        Topic.USER_DELETED: "One was archived",
    },
    "Leads": {
        Topic.CONTACT_CREATED: "There is a new one",
        Topic.CONTACT_ADDED_EMAIL: "One gave an email address",
        Topic.CONTACT_SIGNED_UP: "One became a user",
        Topic.CONTACT_TAG_CREATED: "One was tagged",
        Topic.CONTACT_TAG_DELETED: "A tag was taken off",
        Topic.CONTACT_DELETED: "One was archived",
    },
    "Companies and events": {
        Topic.COMPANY_CREATED: "There is a new company",
        Topic.EVENT_CREATED: "An event was recorded",
    },
}
# Sent with a button, whatever is ticked.
NOT_TICKED = (Topic.PING,)


class SubscriptionForm(forms.ModelForm):
    """An address, and what it is told."""

    url = forms.CharField(
        label="Address",
        max_length=safe_http.MAX_URL_LENGTH,
        widget=forms.TextInput(
            {"class": "ob-input", "placeholder": "https://shop.example.com/hooks", "inputmode": "url"}
        ),
        help_text="A POST with JSON arrives there each time. Addresses of private networks are told nothing.",
    )
    topics = forms.MultipleChoiceField(
        label="What it is told",
        choices=[(group, [(topic.value, words) for topic, words in rows.items()]) for group, rows in TOPICS.items()],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Tick at least one thing to be told."},
    )
    active = forms.BooleanField(label="Switched on", required=False, initial=True)

    class Meta:
        model = Subscription
        fields = ("url", "topics", "active")

    def clean_url(self) -> str:
        """Refuse what is no address, and those of private networks unless the settings allow them."""
        url = str(self.cleaned_data["url"])
        try:
            safe_http.check_url(url)
        except safe_http.NotAllowed as wrong:
            raise ValidationError(str(wrong)) from wrong
        return url

    def clean_topics(self) -> list[str]:
        """What is ticked, and what an integration asked for that no box is for."""
        others = [topic for topic in self.instance.topics or [] if topic in NOT_TICKED]
        return [*self.cleaned_data["topics"], *others]

    def groups(self) -> list[tuple[str, list[tuple[str, str, bool]]]]:
        """The boxes to tick, by what they are about."""
        ticked = set(self["topics"].value() or ())
        return [
            (group, [(topic.value, words, topic.value in ticked) for topic, words in rows.items()])
            for group, rows in TOPICS.items()
        ]


class SubscriptionAdmin(ToldAdmin):
    """The page of each subscription; their list is a part of the page Integration."""

    own_pages = (
        ("<path:object_id>/show-secret/", "show_secret"),
        ("<path:object_id>/change-secret/", "change_secret"),
        ("<path:object_id>/ping/", "ping"),
        ("<path:object_id>/again/<int:key>/", "again"),
    )

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """There is a list on another page."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return back("webhooks")

    def response_delete(self, request: HttpRequest, obj_display: str, obj_id: int) -> HttpResponse:
        """Back to that list."""
        messages.success(request, f"{obj_display} is told nothing more.")
        return back("webhooks")

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Subscribe an address, and show the secret that what it is sent is signed with."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        at = timezone.now()
        form = SubscriptionForm(request.POST or None, instance=Subscription(created_at=at, updated_at=at))
        if request.method == "POST" and form.is_valid():
            with transaction.atomic():
                made = form.save()
                self.log_addition(request, made, "Subscribed the address")
            messages.success(request, f"{made} is told from now on. Check what it is sent with its signing secret.")
            return HttpResponseRedirect(self.address(made))
        status = 400 if request.method == "POST" else 200
        return self.page(request, "outbound/subscription.html", title="Add a webhook", status=status, form=form)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """One subscription: its address and topics, its secret, and what it was told."""
        found = self.found(request, object_id, to="view")
        form = SubscriptionForm(request.POST if request.method == "POST" else None, instance=found)
        if request.method == "POST":
            if not self.has_change_permission(request, found):
                raise PermissionDenied
            if form.is_valid():
                with transaction.atomic():
                    form.instance.updated_at = timezone.now()
                    form.save()
                    self.note(request, found, changes(form) or "Saved without a change")
                messages.success(request, "Saved.")
                return HttpResponseRedirect(self.address(found))
            found.refresh_from_db()
        return self.show(request, found, form=form, status=400 if request.method == "POST" else 200)

    def show(self, request: HttpRequest, found: Subscription, *, status: int = 200, **shown: Any) -> HttpResponse:
        """Draw the page of one."""
        rows = Notification.objects.filter(subscription=found).order_by("-pk")
        trouble = request.GET.get("log") == "trouble"
        if trouble:
            rows = rows.exclude(detail="").exclude(state=NotificationState.DELIVERED)
        page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
        return self.page(
            request,
            "outbound/subscription.html",
            title="Webhook",
            status=status,
            **{
                "webhook": found,
                "form": SubscriptionForm(instance=found),
                "can_change": self.has_change_permission(request, found),
                "rows": page,
                "told": [(row, chip(row.get_state_display(), TONES[NotificationState(row.state)])) for row in page],
                "trouble": trouble,
                "log": self.history_of(found),
                **shown,
            },
        )

    def show_secret(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the signing secret, which is in the log."""
        if request.method != "POST":
            return not_done(request, reverse("admin:audiences_subscription_change", args=[object_id]))
        found = self.found(request, object_id)
        self.note(request, found, "Looked at the signing secret")
        return self.show(request, found, secret=found.secret)

    def change_secret(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Sign with another secret from now on, and show it."""
        if request.method != "POST":
            return not_done(request, reverse("admin:audiences_subscription_change", args=[object_id]))
        found = self.found(request, object_id)
        with transaction.atomic():
            found.secret, found.updated_at = new_secret(), timezone.now()
            found.save(update_fields=["secret", "updated_at"])
            self.note(request, found, "Changed the signing secret")
        messages.success(request, "What is sent from now on is signed with another secret.")
        return self.show(request, found, secret=found.secret)

    def ping(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Have a ping sent."""
        if request.method != "POST":
            return not_done(request, reverse("admin:audiences_subscription_change", args=[object_id]))
        found = self.found(request, object_id)
        with transaction.atomic():
            webhook_outbox.ping(found, at=timezone.now())
            self.note(request, found, "Sent a ping")
        self.say(request, found, "A ping is on its way. What came back is in the log in a moment.")
        return HttpResponseRedirect(f"{self.address(found)}#log")

    def again(self, request: HttpRequest, object_id: str, key: int) -> HttpResponse:
        """Send one thing of the log again."""
        if request.method != "POST":
            return not_done(request, reverse("admin:audiences_subscription_change", args=[object_id]))
        found = self.found(request, object_id)
        row = get_object_or_404(Notification, subscription=found, pk=key)
        with transaction.atomic():
            if dispatcher.send_again(row, at=timezone.now()):
                self.note(request, found, f"Sent {row.topic} (notif_{row.pk}) again")
                transaction.on_commit(lambda: webhook_outbox.ring())
                self.say(request, found, "It is sent again. What came back is in the log in a moment.")
            else:
                messages.warning(request, "It is being sent at this moment.")
        return HttpResponseRedirect(f"{self.address(found)}#log")

    def say(self, request: HttpRequest, found: Subscription, words: str) -> None:
        """Say what was asked for; nothing leaves while the subscription is off."""
        if found.active:
            messages.success(request, words)
        else:
            messages.warning(request, "It waits: this webhook is switched off.")

    def address(self, found: Subscription) -> str:
        """Where the page of one is."""
        return reverse("admin:audiences_subscription_change", args=[found.pk])
