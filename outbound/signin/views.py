"""Login, invitations and passwords: allauth's views, with our answers.

The pages do not reveal whether an account exists. An unknown name gets the same error as a wrong password. A request
for a new password gets the same answer, in the same time, whether or not an email is sent.
"""

from datetime import timedelta
from typing import Any

from allauth.account import views
from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.reauthentication import STATE_SESSION_KEY
from allauth.mfa.base import views as mfa_views
from allauth.mfa.models import Authenticator
from allauth.mfa.totp import views as app_views
from allauth.mfa.webauthn import views as passkey_views
from axes.helpers import get_cool_off
from django.contrib import messages
from django.contrib.admin import site
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse, reverse_lazy
from django.utils import timezone
from django.utils.http import int_to_base36, urlsafe_base64_decode

from outbound.console import throttle
from outbound.console.admin import answer_without_button, teammate
from outbound.signin import enrolment, identities, second_factor, sessions
from outbound.signin.forms import AcceptForm
from outbound.signin.second_factor_forms import refuse_used_code

# Links to set up a second factor that a teammate is sent in 15 minutes.
LINKS_SENT_MOST = 3


class LoginView(views.LoginView):
    """The login page."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Log out a user who is no teammate any more: the console would send them here again and again."""
        if request.user.is_authenticated and not getattr(request.user, "is_staff", False):
            get_adapter().logout(request)
        if request.method == "POST" and request.POST.get("act") == "abort":
            # Forget the password that was right, and ask for the account again.
            get_adapter().logout(request)
            return HttpResponseRedirect(reverse("account_login"))
        return super().dispatch(request, *args, **kwargs)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {**super().get_context_data(**kwargs), "providers": identities.providers_for(self.request)}


class ForgottenView(views.PasswordResetView):
    """Ask for a link to choose a new password."""

    success_url = reverse_lazy("admin:login")

    def form_valid(self, form: Any) -> HttpResponse:
        """Give the same answer for every address."""
        answer: HttpResponse = super().form_valid(form)
        if answer.status_code == 302:
            asked = form.cleaned_data["email"]
            text = f"If {asked} belongs to a teammate, an email with a link to choose a new password is on its way."
            messages.info(self.request, text)
        return answer


class ChoosePasswordView(views.PasswordResetFromKeyView):
    """Choose a new password with a link from an email."""

    reset_url_key = "choose"
    success_url = reverse_lazy("admin:login")
    success_message = "Your new password is saved. Log in with it."

    def form_valid(self, form: Any) -> HttpResponse:
        messages.success(self.request, self.success_message)
        answer: HttpResponse = super().form_valid(form)
        enrolment.confirm_mailbox(self.request, self.reset_user, at=timezone.now())
        return answer


class AcceptInvitationView(ChoosePasswordView):
    """Accept an invitation: name and password."""

    reset_url_key = "accept"
    success_message = "Welcome. Log in with your email address and the password you chose."

    def dispatch(self, request: HttpRequest, uidb64: str, key: str, **kwargs: Any) -> HttpResponseBase:
        """Translate the key of the teammate to allauth's form."""
        try:
            uid = int_to_base36(int(urlsafe_base64_decode(uidb64)))
        except ValueError:
            uid = "0"
        self.kwargs = {"uidb36": uid, "key": key}
        return super().dispatch(request, uid, key, **kwargs)

    def get_form_class(self) -> type[AcceptForm]:
        return AcceptForm

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {**super().get_context_data(**kwargs), "providers": identities.providers_for(self.request)}


class AccountView(mfa_views.IndexView):
    """How a teammate logs in: password, second factor, sessions."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        due, at = getattr(self.request, "second_factor_due", None), timezone.now()
        return {
            **super().get_context_data(**kwargs),
            "is_overdue": due is not None and due <= at,
            "needs_link": enrolment.needs_link(self.request, teammate(self.request), at=at),
            "providers": identities.providers_for(self.request, teammate(self.request)),
            "sessions": sessions.list_sessions(teammate(self.request), current=self.request.session.session_key),
        }


@login_required
def end_sessions(request: HttpRequest) -> HttpResponse:
    """End one of the teammate's own sessions, or all but the present one."""
    if request.method != "POST":
        return answer_without_button(request, reverse("mfa_index"))
    user, pk = teammate(request), request.POST.get("session")
    if pk is None:
        ended = sessions.end_sessions(user, at=timezone.now(), but=request.session.session_key)
    else:
        ended = sessions.end_session(user, pk)
    text = f"{sessions.ended_text(ended)} ended." if ended else "The session has ended already."
    messages.success(request, text)
    return HttpResponseRedirect(reverse("mfa_index"))


class FirstFactor:
    """Mixin: the first second factor ends the sessions that began without one, except the present one."""

    def form_valid(self, form: Any) -> HttpResponse:
        request: HttpRequest = self.request  # type: ignore[attr-defined]
        user = teammate(request)
        is_first = not second_factor.has_second_factor(user)
        answer: HttpResponse = super().form_valid(form)  # type: ignore[misc]
        if is_first:
            # A stolen cookie of the present session ends too.
            request.session.cycle_key()
            sessions.end_sessions(user, at=timezone.now(), but=request.session.session_key)
        return answer


class SetUpAppView(FirstFactor, app_views.ActivateTOTPView):
    """Set up an authenticator app."""

    def form_valid(self, form: Any) -> HttpResponse:
        apps = Authenticator.objects.filter(user=teammate(self.request), type=Authenticator.Type.TOTP)
        with transaction.atomic():
            # Two requests at the same time wait for each other.
            User.objects.select_for_update().get(pk=teammate(self.request).pk)
            if apps.exists():
                return HttpResponseRedirect(reverse("mfa_index"))
            answer = super().form_valid(form)
            refuse_used_code(apps.get(), form.cleaned_data["code"])
        return answer


class AddPasskeyView(FirstFactor, passkey_views.AddWebAuthnView):
    """Add a passkey."""


@login_required
def send_enrolment_link(request: HttpRequest) -> HttpResponse:
    """Email a teammate whose deadline is over the link that lets them set up a second factor."""
    page = reverse("mfa_index")
    if request.method != "POST":
        return answer_without_button(request, page)
    user, at = teammate(request), timezone.now()
    if not enrolment.needs_link(request, user, at=at):
        messages.info(request, "You need no link. Set up your second factor below.")
    elif not user.email:
        messages.error(request, "Your account has no email address. Ask the administrator of this server for a link.")
    elif throttle.count_attempt("enrolment-link", str(user.pk), at=at) > LINKS_SENT_MOST:
        messages.error(request, "Several links are on their way already. Wait a few minutes.")
    else:
        get_adapter().send_enrolment_link(user)
        messages.success(request, f"A link is on its way to {user.email}. It is valid for an hour.")
    return HttpResponseRedirect(page)


@login_required
def open_enrolment_link(request: HttpRequest, token: str) -> HttpResponse:
    """Let this browser set up a second factor, if the link is one for its teammate."""
    user = teammate(request)
    if enrolment.is_link_valid(user, token):
        enrolment.confirm_mailbox(request, user, at=timezone.now())
        messages.success(request, "Thank you. Now set up your second factor.")
    else:
        messages.error(request, "This link is no longer valid. Ask for a new one.")
    return HttpResponseRedirect(reverse("mfa_index"))


class WithoutResumption:
    """Mixin: forget the change that allauth held back until the teammate confirms that it is them.

    It is in the session, so another person who stole the session may have asked for it.
    """

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        request.session.pop(STATE_SESSION_KEY, None)
        answer: HttpResponseBase = super().dispatch(request, *args, **kwargs)  # type: ignore[misc]
        return answer


class ConfirmView(WithoutResumption, views.ReauthenticateView):
    """Confirm with the password."""


class ConfirmByCodeView(WithoutResumption, mfa_views.ReauthenticateView):
    """Confirm with a code of the app, or a recovery code."""


class ConfirmByPasskeyView(WithoutResumption, passkey_views.ReauthenticateWebAuthnView):
    """Confirm with a passkey."""


class WithoutAdminPage:
    """Mixin: the console's header must not link to an admin page of the row, as there is none."""

    success_url = reverse_lazy("mfa_index")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**kwargs)  # type: ignore[misc]
        return {**context, "passkey": context["object"].wrap(), "object": None}


class RenamePasskeyView(WithoutAdminPage, passkey_views.EditWebAuthnView):
    """Rename a passkey."""


class RemovePasskeyView(WithoutAdminPage, passkey_views.RemoveWebAuthnView):
    """Remove a passkey, after a question."""


def locked_out(request: HttpRequest, _answer: HttpResponse | None = None, _given: Any = None) -> HttpResponse:
    """Show that the login is locked, without revealing whether the account exists."""
    wait = get_cool_off(request) or timedelta()
    context = {**site.each_context(request), "title": "Try again later", "minutes": int(wait.total_seconds() // 60)}
    answer = render(request, "registration/locked_out.html", context, status=429)
    answer["Retry-After"] = str(int(wait.total_seconds()))
    return answer
