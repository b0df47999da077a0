"""Logging in, choosing a password by invitation, and choosing a new one where it is forgotten.

Nobody learns here whether an account exists: a wrong name reads like a wrong password, and asking for a new password
reads the same, and takes as long, whether mail goes out or not.
"""

import threading
from datetime import timedelta
from typing import Any

from axes.handlers.proxy import AxesProxyHandler
from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.admin import site
from django.contrib.auth import views
from django.contrib.auth.forms import PasswordResetForm, SetPasswordForm
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.core import mail, signing
from django.core.exceptions import ValidationError
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
# Within a quarter of an hour: for one name from wherever, and from one address on the network, behind which an office
# may sit. For one name from one address it is fewer (LOGIN_TRIES), so a stranger shuts out nobody but themselves.
WRONG_BY_NAME, WRONG_BY_ADDRESS = 50, 50
RESETS_BY_NAME, RESETS_BY_ADDRESS = 3, 20
TOO_OFTEN = "That was tried too often. Wait a quarter of an hour, then try again."


class Invitations:
    """One-time links for new teammates: each ends when it is used, another is sent, a week is over or they must go."""

    def make_token(self, user: User) -> str:
        """Return what the link of this teammate ends in."""
        return signing.dumps([user.pk, self.key_of(user)], salt=SALT)

    def check_token(self, user: User | None, token: str | None) -> bool:
        """Whether the link still holds."""
        if user is None or not token or not user.is_active or user.has_usable_password():
            return False
        try:
            pk, key = signing.loads(token, salt=SALT, max_age=INVITED_FOR)
        except (signing.BadSignature, ValueError, TypeError):
            return False
        secrets = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
        return pk == user.pk and any(constant_time_compare(key, self.key_of(user, secret=each)) for each in secrets)

    def key_of(self, user: User, *, secret: str | None = None) -> str:
        """What changes with the password, so with each invitation too, and with the address."""
        return salted_hmac(SALT, f"{user.password} {user.email}", secret=secret, algorithm="sha256").hexdigest()


invitations = Invitations()


def link(user: User, *, to: str, token: str) -> str:
    """Return the address of a page that knows this teammate by a token."""
    uid = urlsafe_base64_encode(force_bytes(user.pk))
    return settings.PUBLIC_URL + reverse(f"admin:{to}", args=[uid, token])


def invite(user: User, *, by: str) -> None:
    """Mail a teammate a link to choose their password with; those mailed before no longer work."""
    user.set_unusable_password()
    user.save(update_fields=["password"])
    workspace = Workspace.current().name
    context = {
        "by": by,
        "workspace": workspace,
        "days": INVITED_FOR.days,
        "link": link(user, to="accept_invitation", token=invitations.make_token(user)),
    }
    text = loader.render_to_string("outbound/workspace/mail/invitation.txt", context)
    mail.send_mail(f"{by} invites you to {workspace}", text, settings.DEFAULT_FROM_EMAIL, [user.email])


class LoginForm(AuthenticationForm):
    """The door: so many wrong passwords for one name or from one address, and it stays shut for a while."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = "Email or username"

    def clean(self) -> dict[str, Any]:
        """Let in who knows the password, unless it was tried too often."""
        at, limits, shut = timezone.now(), [], False
        if self.request is not None:
            name = str(self.cleaned_data.get("username", ""))
            limits = [
                ("login-name", name, WRONG_BY_NAME),
                ("login-address", throttle.address_of(self.request), WRONG_BY_ADDRESS),
            ]
        if any(throttle.attempts(what, who, at=at) >= most for what, who, most in limits):
            raise ValidationError(TOO_OFTEN, code="too_often")
        if self.request is not None:
            # Asked before the try: the wrong password that shuts the door was tried as well.
            shut = not AxesProxyHandler.is_allowed(self.request, {"username": name})
        try:
            return super().clean()
        except ValidationError:
            # Whoever is shut out already was not even asked for the password, and so shuts out nobody else.
            if not shut:
                for what, who, _ in limits:
                    throttle.count_attempt(what, who, at=at)
            raise


class ForgottenForm(PasswordResetForm):
    """Where the link to a new password goes."""

    email = forms.EmailField(max_length=254, widget=UnfoldAdminTextInputWidget({"autocomplete": "email"}))

    def send_mail(self, *args: Any, **kwargs: Any) -> None:
        """Send beside the answer: how long it takes must not tell whether the account exists."""
        # Django writes down what could not be sent.
        threading.Thread(target=super().send_mail, args=args, kwargs=kwargs, daemon=True).start()


class Look:
    """What all these pages share: the frame of the login page."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add what the frame needs."""
        return {**site.each_context(self.request), **super().get_context_data(**kwargs)}  # type: ignore[attr-defined, misc]


class Forgotten(Look, views.PasswordResetView):
    """Ask for a link to choose a new password."""

    form_class = ForgottenForm
    template_name = "registration/password_reset_form.html"
    email_template_name = "outbound/workspace/mail/new_password.txt"
    subject_template_name = "outbound/workspace/mail/new_password_subject.txt"
    success_url = reverse_lazy("admin:login")
    title = "New password"

    def form_valid(self, form: Any) -> HttpResponse:
        """Answer the same whoever it is, and mail only who there is, and only so often."""
        at, asked = timezone.now(), form.cleaned_data["email"]
        messages.info(
            self.request, f"If {asked} is a teammate’s address, a link to choose a new password is on its way."
        )
        by_address = throttle.count_attempt("reset-address", throttle.address_of(self.request), at=at)
        if throttle.count_attempt("reset-name", asked, at=at) > RESETS_BY_NAME or by_address > RESETS_BY_ADDRESS:
            return HttpResponseRedirect(str(self.success_url))
        self.extra_email_context = {"workspace": Workspace.current().name, "public_url": settings.PUBLIC_URL}
        return super().form_valid(form)


class NewPasswordForm(SetPasswordForm):
    """A password, typed twice."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("new_password1", "new_password2"):
            self.fields[name].widget = UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"})


class AcceptForm(NewPasswordForm):
    """Who somebody new is, and their password."""

    first_name = forms.CharField(max_length=150, widget=UnfoldAdminTextInputWidget({"autocomplete": "given-name"}))
    last_name = forms.CharField(
        max_length=150, required=False, widget=UnfoldAdminTextInputWidget({"autocomplete": "family-name"})
    )
    field_order = ("first_name", "last_name", "new_password1", "new_password2")

    def __init__(self, user: Any, *args: Any, **kwargs: Any) -> None:
        names = {"first_name": getattr(user, "first_name", ""), "last_name": getattr(user, "last_name", "")}
        super().__init__(user, *args, initial=names, **{key: one for key, one in kwargs.items() if key != "initial"})

    def save(self, commit: bool = True) -> Any:  # noqa: FBT001, FBT002 - Django's own signature
        """Take them in, and give them a sender of their own to write as."""
        self.user.first_name, self.user.last_name = self.cleaned_data["first_name"], self.cleaned_data["last_name"]
        user = super().save(commit=commit)
        name = user.get_full_name()
        Sender.objects.get_or_create(teammate=user, defaults={"name": name, "email": user.email})
        return user


class Choose(Look, views.PasswordResetConfirmView):
    """Choose a new password, by a link from a mail."""

    form_class = NewPasswordForm
    template_name = "registration/password_reset_confirm.html"
    reset_url_token = "choose"  # noqa: S105 - what stands in the address in its place
    success_url = reverse_lazy("admin:login")
    title = "Choose a new password"
    token_generator: Any = default_token_generator
    said = "Your new password is set. Log in with it."

    def form_valid(self, form: Any) -> HttpResponse:
        """Set it, and lead to the login."""
        messages.success(self.request, self.said)
        return super().form_valid(form)


class Accept(Choose):
    """Accept an invitation."""

    form_class = AcceptForm
    token_generator = invitations
    reset_url_token = "accept"  # noqa: S105 - as above
    title = "Welcome"
    said = "Welcome. Log in with your email address and the password you chose."


def locked_out(request: HttpRequest, _answer: HttpResponse | None = None, _given: Any = None) -> HttpResponse:
    """Say at the door that it stays shut for a while, to who tried one name too often; whose name it is is not said."""
    wait = settings.AXES_COOLOFF_TIME
    context = {**site.each_context(request), "title": "Try again later", "minutes": int(wait.total_seconds() // 60)}
    answer = render(request, "registration/locked_out.html", context, status=429)
    answer["Retry-After"] = str(int(wait.total_seconds()))
    return answer


def addresses() -> list[URLPattern]:
    """Where these pages are, inside the console's site."""
    return [
        path("password/forgotten/", Forgotten.as_view(), name="admin_password_reset"),
        path("password/<uidb64>/<token>/", Choose.as_view(), name="choose_password"),
        path("invitation/<uidb64>/<token>/", Accept.as_view(), name="accept_invitation"),
    ]


def by_whom(request: HttpRequest) -> str:
    """What whoever invites is called."""
    user = request.user
    return (user.get_full_name() or user.get_username()) if isinstance(user, User) else ""
