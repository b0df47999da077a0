"""The settings staff keep: senders, tags, attributes, tokens, the workspace, teammates and the schedule."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.admin import PeriodicTaskAdmin as BeatTaskAdmin
from django_celery_beat.admin import PeriodicTaskForm as BeatTaskForm
from django_celery_beat.admin import TaskSelectWidget as BeatTaskSelectWidget
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminPasswordToggleWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from audiences.models import CompanyTag, CustomAttribute, CustomerTag, Integration, Tag, Workspace
from messaging.models import Sender
from outbound.console import ConsoleAdmin, ReadOnlyAdmin
from outbound.people import counting


class SenderAdmin(ConsoleAdmin):
    """Who messages come from."""

    list_display = ("name", "email", "reply_to", "teammate", "shared_with")
    search_fields = ("name", "email")
    ordering = ("name",)
    list_select_related = ("teammate",)
    autocomplete_fields = ("teammate", "users")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Sender]:
        """Senders, with who may use them."""
        return super().get_queryset(request).prefetch_related("users")

    @display(description="Who may use it")
    def shared_with(self, sender: Sender) -> str:
        """The teammates who may write as this sender."""
        users = [user.get_username() for user in sender.users.all()]
        if sender.teammate and sender.teammate.get_username() not in users:
            users.insert(0, sender.teammate.get_username())
        return ", ".join(users) if users else "Everyone"


class TagForm(forms.ModelForm):
    """A tag; when it was made is not typed."""

    class Meta:
        model = Tag
        fields = ("name",)
        widgets = {"name": UnfoldAdminTextInputWidget()}


class TagAdmin(ConsoleAdmin):
    """Tags on customers and companies."""

    form = TagForm
    list_display = ("name", "customers_tagged", "companies_tagged")
    search_fields = ("name",)
    ordering = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tag]:
        """Tags, with how many customers and companies have each."""
        found = super().get_queryset(request)
        return found.annotate(on_customers=counting(CustomerTag, "tag"), on_companies=counting(CompanyTag, "tag"))

    @display(description="Customers")
    def customers_tagged(self, tag: Tag) -> int:
        """How many customers have it."""
        return tag.on_customers  # type: ignore[attr-defined]

    @display(description="Companies")
    def companies_tagged(self, tag: Tag) -> int:
        """How many companies have it."""
        return tag.on_companies  # type: ignore[attr-defined]

    def save_model(self, request: HttpRequest, obj: Tag, form: Any, change: Any) -> None:
        """Note when it was made."""
        obj.created_at = obj.created_at or timezone.now()
        super().save_model(request, obj, form, change)


class CustomAttributeAdmin(ReadOnlyAdmin):
    """The custom attributes there are, with the kind learnt from their first real value."""

    list_display = ("name", "of", "kind", "created_at")
    list_filter = ("scope", "kind")
    search_fields = ("name",)
    ordering = ("scope", "name")

    @display(description="Of", ordering="scope")
    def of(self, attribute: CustomAttribute) -> str:
        """Whose attribute it is."""
        return attribute.get_scope_display()


class IntegrationAdmin(ConsoleAdmin):
    """API tokens: made by a command, which shows them once; deleting one here ends it."""

    list_display = ("name", "token_key", "created", "last_used_at")
    fields = ("name", "token_key", "created", "last_used_at")
    readonly_fields = ("token_key", "created", "last_used_at")
    ordering = ("name",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """A token is shown where it is made, which is the command line."""
        return False


class WorkspaceForm(forms.ModelForm):
    """The workspace; its secret is hidden until asked for."""

    class Meta:
        model = Workspace
        fields = (
            *("name", "zone", "postal_address", "confirm_above", "drift_percent"),
            *("require_user_hash", "identity_secret", "allowed_origins"),
        )
        widgets = {"identity_secret": UnfoldAdminPasswordToggleWidget(render_value=True)}


class WorkspaceAdmin(ConsoleAdmin):
    """One row of settings: it opens straight away, and is never added or deleted."""

    form = WorkspaceForm
    fieldsets = (
        ("Workspace", {"fields": ("name", "zone", "postal_address")}),
        ("Before a message goes live", {"fields": ("confirm_above", "drift_percent")}),
        ("Messenger", {"fields": ("require_user_hash", "identity_secret", "allowed_origins")}),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        """There is one."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Workspace | None = None) -> bool:
        """And it stays."""
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """There is no list of one: go to it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return HttpResponseRedirect(reverse("admin:audiences_workspace_change", args=[Workspace.current().pk]))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The settings, with a warning where anybody could claim to be anybody."""
        if request.method == "GET" and not Workspace.current().require_user_hash:
            messages.warning(
                request, "Identity verification is off: anybody can claim in a browser to be any of your customers."
            )
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "title": "Workspace"})


class StaffAdmin(DjangoUserAdmin, ModelAdmin):
    """Teammates."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "first_name", "last_name", "email", "is_staff", "is_superuser", "last_login")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Those who log in; an integration's own user is none of them."""
        return super().get_queryset(request).exclude(pk__in=Integration.objects.values("user"))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """Whoever is added here is to work here."""
        obj.is_staff = obj.is_staff or not change
        super().save_model(request, obj, form, change)


class RoleAdmin(DjangoGroupAdmin, ModelAdmin):
    """Roles: what teammates may do."""


class TaskSelectWidget(UnfoldAdminSelectWidget, BeatTaskSelectWidget):
    """The tasks there are."""


class ScheduleForm(BeatTaskForm):
    """A task of the schedule."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = TaskSelectWidget()


class ScheduleAdmin(BeatTaskAdmin, ModelAdmin):
    """The schedule beat keeps; what staff change here no restart undoes."""

    form = ScheduleForm


class PlainAdmin(ModelAdmin):
    """A table of the schedule without pages of its own."""
