"""Teammates: invitation by email, roles, deactivation. Teammates choose their own passwords."""

from typing import Any

from allauth.account.adapter import get_adapter
from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect, JsonResponse
from django.middleware.csrf import get_token
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.widgets import UnfoldAdminEmailInputWidget, UnfoldAdminRadioSelectWidget, UnfoldAdminTextInputWidget

from outbound import roles
from outbound.console.admin import answer_without_button, column, teammate
from outbound.console.change_message import change_text
from outbound.console.formatting import chip
from outbound.edits.admin import ChangeLogAdmin
from outbound.roles import DESCRIPTIONS, Role
from outbound.signin import invitations, sessions
from outbound.signin.accounts import state_of, teammates
from outbound.signin.adapter import ADDRESS_CHANGED

STATES: dict[str, str] = {"Active": "good", "Invited": "info", "Deactivated": "plain"}


class TeammateForm(forms.ModelForm):
    """The name, email address and role of a teammate."""

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
        """The address must be unique: teammates log in with it."""
        email = str(self.cleaned_data["email"]).strip().lower()
        others = teammates().exclude(pk=self.instance.pk)
        if others.filter(email__iexact=email).exists() or others.filter(username__iexact=email).exists():
            raise ValidationError("A teammate with this address already exists.")
        return email

    def clean_role(self) -> str:
        """Refuse to remove the last Admin."""
        role = str(self.cleaned_data["role"])
        was_admin = self.instance.pk and roles.role_of(self.instance) is Role.ADMIN
        if was_admin and role != Role.ADMIN and not other_admins(self.instance).exists():
            raise ValidationError("This is the only Admin. Give another teammate the Admin role first.")
        return role


def other_admins(user: User) -> QuerySet[User]:
    """Return the other active Admins."""
    admins = User.objects.filter(groups__name=Role.ADMIN.value) | User.objects.filter(is_superuser=True)
    return admins.filter(is_active=True, is_staff=True).exclude(pk=user.pk).distinct()


class StaffAdmin(ChangeLogAdmin):
    """The list of teammates, and a page for each."""

    form = TeammateForm
    fields = ("email", "first_name", "last_name", "role")
    list_display = ("name", "role", "state", "logged_in")
    logged_in = column("last_login", called="Last login")
    nothing_yet = "Invite your teammates. They choose their own passwords."
    list_filter = ("is_active",)
    search_fields = ("username", "first_name", "last_name", "email")
    search_help_text = "Search by name or email"
    ordering = ("-is_active", "first_name", "username")
    actions = None
    change_form_template = "outbound/workspace/teammate.html"
    own_pages = (
        ("session/", "session"),
        ("<path:object_id>/invite/", "invite_again"),
        ("<path:object_id>/end-sessions/", "end_sessions"),
        ("<path:object_id>/deactivate/", "deactivate"),
        ("<path:object_id>/activate/", "activate"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return teammates().prefetch_related("groups", "socialaccount_set").order_by(*self.ordering)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Teammates are deactivated, because the log and messages refer to them."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only a superuser can change a superuser."""
        by_equal = obj is None or not obj.is_superuser or getattr(request.user, "is_superuser", False)
        return by_equal and super().has_change_permission(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Teammates cannot change their own role, and superusers have no other role."""
        return ("role_text",) if obj and (obj == request.user or obj.is_superuser) else ()

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        role = "role_text" if self.get_readonly_fields(request, obj) else "role"
        return ("email", "first_name", "last_name", role)

    @display(description="Name", ordering="first_name")
    def name(self, user: User) -> SafeString:
        name = user.get_full_name() or user.get_username()
        return format_html('{}<span class="ob-under">{}</span>', name, user.email)

    @display(description="Role")
    def role(self, user: User) -> str:
        found = roles.role_of(user)
        return found.label if found else "None"

    @display(description="Role")
    def role_text(self, user: User) -> str:
        """Show the role as text if it cannot be changed."""
        found = roles.role_of(user)
        return f"{found.label}. {DESCRIPTIONS[found]}" if found else "None"

    @display(description="State")
    def state(self, user: User) -> SafeString:
        found = state_of(user)
        return chip(found, STATES[found])

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:  # noqa: FBT001, FBT002 - Django's own signature
        form = super().get_form(request, obj, change, **kwargs)
        if self.get_readonly_fields(request, obj):
            form.declared_fields.pop("role", None)
            form.base_fields.pop("role", None)
        return form

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        return super().add_view(request, form_url, {**(extra_context or {}), "title": "Invite a teammate"})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        user = self.get_object(request, object_id)
        can_change = user is not None and self.has_change_permission(request, user)
        more = {
            "state": state_of(user) if user else "",
            "can_deactivate": can_change and user != request.user,
            "can_change_teammate": can_change,
            "sessions": sessions.list_sessions(user, current=request.session.session_key)
            if can_change and user
            else (),
        }
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **more})

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """Save the teammate and their role; invite a new one."""
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
        elif "email" in form.changed_data and (before := form.initial.get("email")):
            send = get_adapter(request).send_notification_mail
            transaction.on_commit(lambda: send(ADDRESS_CHANGED, obj, email=before))

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> HttpResponse:
        """Redirect to the list, where the result of the invitation is shown."""
        return HttpResponseRedirect(reverse("admin:auth_user_changelist"))

    def mail_invitation(self, request: HttpRequest, user: User) -> None:
        """Email the invitation after the commit, and report a failure on the page."""

        def send() -> None:
            try:
                invitations.send_invitation(user, by=invitations.inviter_name(request))
            except OSError as wrong:
                messages.error(request, f"The invitation to {user.email} could not be emailed: {wrong}. Send it again.")
            else:
                messages.success(request, f"An invitation is on its way to {user.email}. It is valid for a week.")

        transaction.on_commit(send)

    def session(self, request: HttpRequest) -> HttpResponse:
        """Return the current CSRF token to a page that is still open. It changes with each login."""
        if request.method != "GET":
            return HttpResponseNotAllowed(["GET"])
        return JsonResponse({"token": get_token(request)})

    def invite_again(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.apply_action(request, object_id, "Sent the invitation again")

    def deactivate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.apply_action(request, object_id, "Deactivated")

    def activate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.apply_action(request, object_id, "Activated")

    def end_sessions(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """End one session of a teammate, or all of them. The own ones are ended on the own page."""
        page = reverse("admin:auth_user_change", args=[object_id])
        if request.method != "POST":
            return answer_without_button(request, page)
        user, pk = self.get_object_or_refuse(request, object_id), request.POST.get("session")
        if user == request.user:
            return HttpResponseRedirect(reverse("mfa_index"))
        ended = sessions.end_session(user, pk) if pk is not None else sessions.end_sessions(user, at=timezone.now())
        if ended:
            self.note(request, user, f"Ended {sessions.ended_text(ended)}")
        messages.success(request, f"{sessions.ended_text(ended)} of {user.get_full_name() or user.email} ended.")
        return HttpResponseRedirect(page)

    def apply_action(self, request: HttpRequest, object_id: str, act: str) -> HttpResponse:
        """Carry out an action, unless it is refused, and log it."""
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
                    if not user.is_active:
                        # Otherwise they would go on once the teammate is active again.
                        sessions.end_sessions(user, at=timezone.now())
                    messages.success(request, f"{user.get_full_name() or user.email} is {state_of(user).lower()}.")
                after = state_of(user)
                self.note(request, user, act if before == after else change_text(act, before, after))
        return HttpResponseRedirect(reverse("admin:auth_user_change", args=[user.pk]))


def why_not_invite(user: User, _by: User) -> str:
    """Return why the invitation cannot be sent again, or an empty string."""
    return (
        ""
        if state_of(user) == "Invited"
        else "Only teammates who have not accepted their invitation yet can be invited again."
    )


def why_not_deactivate(user: User, by: User) -> str:
    """Return why the teammate cannot be deactivated, or an empty string."""
    if user == by:
        return "You cannot deactivate yourself. Ask another Admin."
    return "" if other_admins(user).exists() else "This is the only Admin. Give another teammate the Admin role first."


def why_not_activate(user: User, _by: User) -> str:
    """Return why the teammate cannot be activated, or an empty string."""
    return "This teammate is already active." if user.is_active else ""


WHY_NOT = {
    "Sent the invitation again": why_not_invite,
    "Deactivated": why_not_deactivate,
    "Activated": why_not_activate,
}
