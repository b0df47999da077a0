"""The forms of sign-in: allauth's, with the console's fields and texts."""

from typing import Any

from allauth.account import forms as allauth_forms
from allauth.account.adapter import get_adapter
from django import forms
from django.contrib.auth.models import User
from unfold.widgets import UnfoldAdminEmailInputWidget, UnfoldAdminPasswordWidget, UnfoldAdminTextInputWidget

from messaging.models import Sender
from outbound.signin.accounts import state_of, teammates
from outbound.signin.invitations import invitations

WIDGETS: dict[str, type[forms.TextInput]] = {
    "text": UnfoldAdminTextInputWidget,
    "email": UnfoldAdminEmailInputWidget,
    "password": UnfoldAdminPasswordWidget,
}


class ConsoleFields:
    """Mixin: gives the fields of a form the console's look, and labels."""

    labels: dict[str, str] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        fields: dict[str, forms.Field] = self.fields  # type: ignore[attr-defined]
        for name, field in fields.items():
            attrs = {key: value for key, value in field.widget.attrs.items() if key != "placeholder"}
            kind = attrs.pop("type", getattr(field.widget, "input_type", ""))
            if kind in WIDGETS:
                field.widget = WIDGETS[kind](attrs=attrs)
                # The pages link to the form for a forgotten password themselves.
                field.help_text = ""
            field.label = self.labels.get(name, field.label)


class LoginForm(ConsoleFields, allauth_forms.LoginForm):
    """The login form. `login_limits` limits failed logins."""

    labels = {"login": "Email or username"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["login"].widget.attrs |= {"autocomplete": "username", "autocapitalize": "none", "autofocus": True}

    def add_prefix(self, field_name: str) -> str:
        """Post the login as “username”, the name that password managers and django-axes know."""
        return super().add_prefix("username" if field_name == "login" else field_name)


class ForgottenForm(ConsoleFields, allauth_forms.ResetPasswordForm):
    """The form that asks for a link to choose a new password."""

    users: list[User]

    def clean_email(self) -> str:
        """Find the teammate. An invited one has a link already."""
        email = str(self.cleaned_data["email"])
        found = teammates().filter(email__iexact=email, is_staff=True)
        # PostgreSQL also takes different letters for equal; the email goes to the address that was typed.
        self.users = [user for user in found if user.email.lower() == email and state_of(user) == "Active"]
        return email


class LinkForm(allauth_forms.UserTokenForm):
    """The token of a link: an invitation for an invited teammate, otherwise one to choose a new password."""

    def _get_user(self, uidb36: str) -> User | None:
        user: User | None = super()._get_user(uidb36)
        if user is not None and state_of(user) == "Invited":
            self.token_generator = invitations
        return user if user is not None and user.is_active else None


class NewPasswordForm(ConsoleFields, allauth_forms.ResetPasswordKeyForm):
    """A new password, typed twice."""

    labels = {"password1": "New password", "password2": "New password again"}


class AcceptForm(NewPasswordForm):
    """The name and password of a new teammate."""

    labels = {"password1": "Password", "password2": "Password again"}
    field_order = ("first_name", "last_name", "password1", "password2")
    first_name = forms.CharField(max_length=150, widget=forms.TextInput({"autocomplete": "given-name"}))
    last_name = forms.CharField(max_length=150, required=False, widget=forms.TextInput({"autocomplete": "family-name"}))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        user = kwargs.get("user")
        names = {"first_name": getattr(user, "first_name", ""), "last_name": getattr(user, "last_name", "")}
        super().__init__(*args, **{**kwargs, "initial": names})

    def save(self) -> None:
        """Save the account, and create a sender for the teammate."""
        self.user.first_name, self.user.last_name = self.cleaned_data["first_name"], self.cleaned_data["last_name"]
        super().save()
        create_sender(self.user)


def create_sender(user: User) -> None:
    Sender.objects.get_or_create(teammate=user, defaults={"name": user.get_full_name(), "email": user.email})


class ChangePasswordForm(ConsoleFields, allauth_forms.ChangePasswordForm):
    """The present password, and a new one."""

    labels = {"oldpassword": "Current password", "password1": "New password", "password2": "New password again"}

    def clean_oldpassword(self) -> str:
        """Check the password as at the login, so that django-axes counts wrong ones."""
        password = str(self.cleaned_data["oldpassword"])
        if not get_adapter().reauthenticate(self.user, password):
            raise get_adapter().validation_error("enter_current_password")
        return password


class SetPasswordForm(ConsoleFields, allauth_forms.SetPasswordForm):
    """The first password of a teammate who has none."""

    labels = {"password1": "Password", "password2": "Password again"}


class ReauthenticateForm(ConsoleFields, allauth_forms.ReauthenticateForm):
    """The password once more, before a change of the sign-in."""
