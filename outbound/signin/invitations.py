"""Invitations of new teammates: one-time links by email."""

from datetime import timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.core import mail, signing
from django.http import HttpRequest
from django.template import loader
from django.urls import reverse
from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from audiences.models import Workspace
from outbound.signin.accounts import state_of

INVITED_FOR = timedelta(days=7)
SALT = "outbound.invitation"


class Invitations:
    """Tokens of invitations. One expires after use, a newer invitation, a week, or deactivation."""

    def make_token(self, user: User) -> str:
        return signing.dumps([user.pk, self.key_of(user)], salt=SALT)

    def check_token(self, user: User | None, token: str | None) -> bool:
        if user is None or not token or state_of(user) != "Invited":
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


def link_for(user: User) -> str:
    """Return the URL at which a teammate accepts the invitation."""
    uid = urlsafe_base64_encode(force_bytes(user.pk))
    return settings.PUBLIC_URL + reverse("account_accept_invitation", args=[uid, invitations.make_token(user)])


def send_invitation(user: User, *, by: str) -> None:
    """Email a teammate a link to choose a password. Earlier links stop working."""
    user.set_unusable_password()
    user.save(update_fields=["password"])
    workspace = Workspace.current().name
    context = {"by": by, "workspace": workspace, "days": INVITED_FOR.days, "link": link_for(user)}
    text = loader.render_to_string("outbound/workspace/mail/invitation.txt", context)
    mail.send_mail(f"{by} invites you to {workspace}", text, settings.DEFAULT_FROM_EMAIL, [user.email])


def inviter_name(request: HttpRequest) -> str:
    user = request.user
    return (user.get_full_name() or user.get_username()) if isinstance(user, User) else ""
