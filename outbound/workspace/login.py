"""Login, invitations and password reset.

The pages do not reveal whether an account exists. An unknown name gets the same error as a wrong password. A request
for a new password gets the same answer, in the same time, whether or not an email is sent.
"""

import threading
from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.admin import site
from django.contrib.auth import views
from django.contrib.auth.forms import PasswordResetForm, SetPasswordForm
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.core import mail, signing
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.template import loader
from django.urls import URLPattern, path, reverse, reverse_lazy
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from unfold.forms import AuthenticationForm
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextInputWidget

from audiences.models import Workspace
from messaging.models import Sender
from outbound.console import throttle

INVITED_FOR = timedelta(days=7)
SALT = "outbound.invitation"
# Limits per 15 minutes: for one name from all IP addresses, and for one IP address, which a whole office may share.
RESETS_BY_NAME, RESETS_BY_ADDRESS = 3, 20


class Invitations:
    """One-time links for new teammates. A link expires after use, a newer invitation, a week, or deactivation."""

    def make_token(self, user: User) -> str:
        return signing.dumps([user.pk, self.key_of(user)], salt=SALT)

    def check_token(self, user: User | None, token: str | None) -> bool:
        if user is None or not token or not user.is_active or user.has_usable_password():
            return False
        try:
            pk, key = signing.loads(token, salt=SALT, max_age=INVITED_FOR)
        except (signing.BadSignature, ValueError, TypeError):
            return False
        secrets = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
        return pk == user.pk and any(constant_time_compare(key, self.key_of(user, secret=each)) for each in secrets)

    def key_of(self, user: User, *, secret: str | None = None) -> str:
        """Return a hash that changes with the password, and so with each invitation, and with the address."""
        return salted_hmac(SALT, f"{user.password} {user.email}", secret=secret, algorithm="sha256").hexdigest()


invitations = Invitations()


def link_for(user: User, *, to: str, token: str) -> str:
    """Return the URL of a page that identifies this teammate by a token."""
    uid = urlsafe_base64_encode(force_bytes(user.pk))
    return settings.PUBLIC_URL + reverse(f"admin:{to}", args=[uid, token])


def send_invitation(user: User, *, by: str) -> None:
    """Email a teammate a link to choose a password. Earlier links stop working."""
    user.set_unusable_password()
    user.save(update_fields=["password"])
    workspace = Workspace.current().name
    context = {
        "by": by,
        "workspace": workspace,
        "days": INVITED_FOR.days,
        "link": link_for(user, to="accept_invitation", token=invitations.make_token(user)),
    }
    text = loader.render_to_string("outbound/workspace/mail/invitation.txt", context)
    mail.send_mail(f"{by} invites you to {workspace}", text, settings.DEFAULT_FROM_EMAIL, [user.email])


class LoginForm(AuthenticationForm):
    """The login form. `login_limits` limits failed logins."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = "Email or username"


class ForgottenForm(PasswordResetForm):
    """The form that asks for a password reset email."""

    email = forms.EmailField(max_length=254, widget=UnfoldAdminTextInputWidget({"autocomplete": "email"}))

    def send_mail(self, *args: Any, **kwargs: Any) -> None:
        """Send the email in a thread: the time of the answer must not reveal whether the account exists."""
        # Django logs a failure to send.
        threading.Thread(target=super().send_mail, args=args, kwargs=kwargs, daemon=True).start()


class LoginLayout:
    """Base of these pages: adds the context of the login page's layout."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {**site.each_context(self.request), **super().get_context_data(**kwargs)}  # type: ignore[attr-defined, misc]


class ForgottenView(LoginLayout, views.PasswordResetView):
    """Ask for a link to choose a new password."""

    form_class = ForgottenForm
    template_name = "registration/password_reset_form.html"
    email_template_name = "outbound/workspace/mail/new_password.txt"
    subject_template_name = "outbound/workspace/mail/new_password_subject.txt"
    success_url = reverse_lazy("admin:login")
    title = "New password"

    def form_valid(self, form: Any) -> HttpResponse:
        """Give the same answer for every address. Send an email only to an existing account, with a rate limit."""
        at, asked = timezone.now(), form.cleaned_data["email"]
        messages.info(
            self.request,
            f"If {asked} belongs to a teammate, an email with a link to choose a new password is on its way.",
        )
        by_address = throttle.count_attempt("reset-address", throttle.address_of(self.request), at=at)
        if throttle.count_attempt("reset-name", asked, at=at) > RESETS_BY_NAME or by_address > RESETS_BY_ADDRESS:
            return HttpResponseRedirect(str(self.success_url))
        self.extra_email_context = {"workspace": Workspace.current().name, "public_url": settings.PUBLIC_URL}
        return super().form_valid(form)


class NewPasswordForm(SetPasswordForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("new_password1", "new_password2"):
            self.fields[name].widget = UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"})


class AcceptForm(NewPasswordForm):
    """The name and password of a new teammate."""

    first_name = forms.CharField(max_length=150, widget=UnfoldAdminTextInputWidget({"autocomplete": "given-name"}))
    last_name = forms.CharField(
        max_length=150, required=False, widget=UnfoldAdminTextInputWidget({"autocomplete": "family-name"})
    )
    field_order = ("first_name", "last_name", "new_password1", "new_password2")

    def __init__(self, user: Any, *args: Any, **kwargs: Any) -> None:
        names = {"first_name": getattr(user, "first_name", ""), "last_name": getattr(user, "last_name", "")}
        super().__init__(user, *args, initial=names, **{key: one for key, one in kwargs.items() if key != "initial"})

    def save(self, commit: bool = True) -> Any:  # noqa: FBT001, FBT002 - Django's own signature
        """Save the account, and create a sender for the teammate."""
        self.user.first_name, self.user.last_name = self.cleaned_data["first_name"], self.cleaned_data["last_name"]
        user = super().save(commit=commit)
        name = user.get_full_name()
        Sender.objects.get_or_create(teammate=user, defaults={"name": name, "email": user.email})
        return user


class ChoosePasswordView(LoginLayout, views.PasswordResetConfirmView):
    """Choose a new password with a link from an email."""

    form_class = NewPasswordForm
    template_name = "registration/password_reset_confirm.html"
    reset_url_token = "choose"  # noqa: S105 - replaces the token in the address
    success_url = reverse_lazy("admin:login")
    title = "Choose a new password"
    token_generator: Any = default_token_generator
    success_message = "Your new password is saved. Log in with it."

    def form_valid(self, form: Any) -> HttpResponse:
        messages.success(self.request, self.success_message)
        return super().form_valid(form)


class AcceptInvitationView(ChoosePasswordView):
    form_class = AcceptForm
    token_generator = invitations
    reset_url_token = "accept"  # noqa: S105 - as above
    title = "Welcome"
    success_message = "Welcome. Log in with your email address and the password you chose."


def locked_out(request: HttpRequest, _answer: HttpResponse | None = None, _given: Any = None) -> HttpResponse:
    """Show that the login is locked, without revealing whether the account exists."""
    wait = settings.AXES_COOLOFF_TIME
    context = {**site.each_context(request), "title": "Try again later", "minutes": int(wait.total_seconds() // 60)}
    answer = render(request, "registration/locked_out.html", context, status=429)
    answer["Retry-After"] = str(int(wait.total_seconds()))
    return answer


def login_urls() -> list[URLPattern]:
    return [
        path("password/forgotten/", ForgottenView.as_view(), name="admin_password_reset"),
        path("password/<uidb64>/<token>/", ChoosePasswordView.as_view(), name="choose_password"),
        path("invitation/<uidb64>/<token>/", AcceptInvitationView.as_view(), name="accept_invitation"),
    ]


def inviter_name(request: HttpRequest) -> str:
    user = request.user
    return (user.get_full_name() or user.get_username()) if isinstance(user, User) else ""
