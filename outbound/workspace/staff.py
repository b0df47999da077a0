"""Who works here: teammates are invited by email, have a role, choose their own password, and can be deactivated."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect, JsonResponse
from django.middleware.csrf import get_token
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.widgets import UnfoldAdminEmailInputWidget, UnfoldAdminRadioSelectWidget, UnfoldAdminTextInputWidget

from audiences.models import Integration
from outbound import roles
from outbound.console.admin import ReadOnlyAdmin, answer_without_button, column, teammate
from outbound.console.change_message import ChangeLogAdmin, change_text
from outbound.console.formatting import chip
from outbound.roles import DESCRIPTIONS, Role
from outbound.workspace import login

STATES: dict[str, str] = {"Active": "good", "Invited": "info", "Deactivated": "plain"}


def state_of(user: User) -> str:
    """Where a teammate is: invited until they chose a password."""
    if not user.is_active:
        return "Deactivated"
    return "Active" if user.has_usable_password() else "Invited"


def teammates() -> QuerySet[User]:
    """Those who log in; an integration's own user is none of them."""
    return User.objects.exclude(pk__in=Integration.objects.values("user"))


class TeammateForm(forms.ModelForm):
    """Who somebody is, and what they may do."""

    role = forms.ChoiceField(
        choices=Role.choices,
        widget=UnfoldAdminRadioSelectWidget(),
        help_text=" ".join(f"{role.label}: {DESCRIPTIONS[role]}" for role in Role),
    )

    class Meta:
        model = User
        fields = ("email", "first_name", "last_name")
        widgets = {
            "email": UnfoldAdminEmailInputWidget(),
            "first_name": UnfoldAdminTextInputWidget(),
            "last_name": UnfoldAdminTextInputWidget(),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "email" in self.fields:
            self.fields["email"].required = True
        if self.instance.pk and "role" in self.fields:
            found = roles.role_of(self.instance)
            self.initial["role"] = found.value if found else None

    def clean_email(self) -> str:
        """Refuse an address that is a teammate’s already: it is what they log in with."""
        email = str(self.cleaned_data["email"]).strip().lower()
        others = teammates().exclude(pk=self.instance.pk)
        if others.filter(email__iexact=email).exists() or others.filter(username__iexact=email).exists():
            raise ValidationError("There is a teammate with this address.")
        return email

    def clean_role(self) -> str:
        """Keep somebody who can change the settings."""
        role = str(self.cleaned_data["role"])
        was_admin = self.instance.pk and roles.role_of(self.instance) is Role.ADMIN
        if was_admin and role != Role.ADMIN and not other_admins(self.instance).exists():
            raise ValidationError("Nobody else is an Admin. Make somebody one first.")
        return role


def other_admins(user: User) -> QuerySet[User]:
    """Who else can change the settings, and has logged in or could."""
    admins = User.objects.filter(groups__name=Role.ADMIN.value) | User.objects.filter(is_superuser=True)
    return admins.filter(is_active=True, is_staff=True).exclude(pk=user.pk).distinct()


class StaffAdmin(ChangeLogAdmin):
    """Teammates."""

    form = TeammateForm
    fields = ("email", "first_name", "last_name", "role")
    list_display = ("name", "role", "state", "logged_in")
    logged_in = column("last_login", called="Last login")
    nothing_yet = "Invite the people you work with. Each chooses a password of their own."
    list_filter = ("is_active",)
    search_fields = ("username", "first_name", "last_name", "email")
    search_help_text = "Search by name or email"
    ordering = ("-is_active", "first_name", "username")
    actions = None
    change_form_template = "outbound/workspace/teammate.html"
    own_pages = (
        ("session/", "session"),
        ("<path:object_id>/invite/", "invite_again"),
        ("<path:object_id>/deactivate/", "deactivate"),
        ("<path:object_id>/activate/", "activate"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Teammates, with the groups that are their roles."""
        return teammates().prefetch_related("groups").order_by(*self.ordering)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Teammates are deactivated: what they did stays theirs."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody but one of them changes who may do more than any role."""
        by_equal = obj is None or not obj.is_superuser or getattr(request.user, "is_superuser", False)
        return by_equal and super().has_change_permission(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Nobody changes their own role, and who may do everything has no other."""
        return ("role_read",) if obj and (obj == request.user or obj.is_superuser) else ()

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """The form, with the role to read or to choose."""
        role = "role_read" if self.get_readonly_fields(request, obj) else "role"
        return ("email", "first_name", "last_name", role)

    @display(description="Name", ordering="first_name")
    def name(self, user: User) -> SafeString:
        """Name and address."""
        called = user.get_full_name() or user.get_username()
        return format_html('{}<span class="ob-under">{}</span>', called, user.email)

    @display(description="Role")
    def role(self, user: User) -> str:
        """What they may do."""
        found = roles.role_of(user)
        return found.label if found else "None"

    @display(description="Role")
    def role_read(self, user: User) -> str:
        """What they may do, where it cannot be changed here."""
        found = roles.role_of(user)
        return f"{found.label}. {DESCRIPTIONS[found]}" if found else "None"

    @display(description="State")
    def state(self, user: User) -> SafeString:
        """Active, invited or deactivated."""
        found = state_of(user)
        return chip(found, STATES[found])

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:  # noqa: FBT001, FBT002 - Django's own signature
        """The form, without the role where that is only read."""
        form = super().get_form(request, obj, change, **kwargs)
        if self.get_readonly_fields(request, obj):
            form.declared_fields.pop("role", None)
            form.base_fields.pop("role", None)
        return form

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Invite somebody."""
        return super().add_view(request, form_url, {**(extra_context or {}), "title": "Invite a teammate"})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """One teammate, and what can be done about them."""
        user = self.get_object(request, object_id)
        can_change = user is not None and self.has_change_permission(request, user)
        more = {
            "state": state_of(user) if user else "",
            "can_deactivate": can_change and user != request.user,
            "can_change_teammate": can_change,
        }
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **more})

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """Save who it is and their role; somebody new gets their invitation."""
        if not change:
            obj.username, obj.is_staff = obj.email, True
            obj.set_unusable_password()
        elif obj.username == form.initial.get("email"):
            obj.username = obj.email
        super().save_model(request, obj, form, change)
        if "role" in form.cleaned_data:
            roles.give_role(obj, Role(form.cleaned_data["role"]))
        if not change:
            self.mail_invitation(request, obj)

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> HttpResponse:
        """Back to the list; what became of the mail is said there."""
        return HttpResponseRedirect(reverse("admin:auth_user_changelist"))

    def mail_invitation(self, request: HttpRequest, user: User) -> None:
        """Send the link once all is written down, and say where that did not work."""

        def send() -> None:
            try:
                login.invite(user, by=login.by_whom(request))
            except OSError as wrong:
                messages.error(request, f"The invitation to {user.email} could not be mailed: {wrong}. Send it again.")
            else:
                messages.success(request, f"{user.email} has a week to accept the invitation.")

        transaction.on_commit(send)

    def session(self, request: HttpRequest) -> HttpResponse:
        """Answer a page that is still logged in with the token its forms are to send, another one after each login."""
        if request.method != "GET":
            return HttpResponseNotAllowed(["GET"])
        return JsonResponse({"token": get_token(request)})

    def invite_again(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send another invitation; the one before no longer works."""
        return self.do(request, object_id, "Sent the invitation again")

    def deactivate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Log somebody out, for as long as staff leave them so."""
        return self.do(request, object_id, "Deactivated")

    def activate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let somebody in again."""
        return self.do(request, object_id, "Activated")

    def do(self, request: HttpRequest, object_id: str, act: str) -> HttpResponse:
        """Do what a button says, by POST, and log it."""
        if request.method != "POST":
            return answer_without_button(request, reverse("admin:auth_user_change", args=[object_id]))
        user = self.get_object_or_refuse(request, object_id)
        before = state_of(user)
        if refused := WHY_NOT[act](user, teammate(request)):
            messages.error(request, refused)
        else:
            with transaction.atomic():
                if act == "Sent the invitation again":
                    self.mail_invitation(request, user)
                else:
                    user.is_active = act == "Activated"
                    user.save(update_fields=["is_active"])
                    messages.success(request, f"{user.get_full_name() or user.email} is {state_of(user).lower()}.")
                after = state_of(user)
                self.note(request, user, act if before == after else change_text(act, before, after))
        return HttpResponseRedirect(reverse("admin:auth_user_change", args=[user.pk]))


def why_not_invite(user: User, _by: User) -> str:
    """Why no invitation can be sent, if it cannot."""
    return "" if state_of(user) == "Invited" else "Only who was invited and has not accepted yet can be invited again."


def why_not_deactivate(user: User, by: User) -> str:
    """Why somebody has to stay, if they do."""
    if user == by:
        return "Somebody else has to deactivate you."
    return "" if other_admins(user).exists() else "Nobody else is an Admin. Make somebody one first."


def why_not_activate(user: User, _by: User) -> str:
    """Why somebody cannot come back, if they cannot."""
    return "They are active." if user.is_active else ""


WHY_NOT = {
    "Sent the invitation again": why_not_invite,
    "Deactivated": why_not_deactivate,
    "Activated": why_not_activate,
}


class RoleAdmin(ReadOnlyAdmin):
    """The roles there are: what each may do, and how many have it."""

    list_display = ("name", "says", "members")
    list_display_links = None
    actions = None
    ordering = ("pk",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The four."""
        return super().get_queryset(request).filter(name__in=Role.values).prefetch_related("user_set")

    @display(description="May do")
    def says(self, group: Group) -> str:
        """What it may do, in a sentence."""
        return DESCRIPTIONS[Role(group.name)]

    @display(description="Teammates")
    def members(self, group: Group) -> int:
        """How many have it."""
        return len([user for user in group.user_set.all() if user.is_active])

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """There is no page of one: the list says it all."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        self.get_object_or_refuse(request, object_id, to="view")
        return HttpResponseRedirect(reverse("admin:auth_group_changelist"))
