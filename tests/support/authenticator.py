"""An authenticator app: codes for a secret."""

import time

from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, hotp_value
from django.contrib.auth.models import User

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def code_of(secret: str = SECRET, *, step: int = 0) -> str:
    """Return the code of an app now, or some steps of 30 seconds later."""
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + step))


def wrong_code(secret: str = SECRET) -> str:
    valid = {code_of(secret, step=step) for step in range(-3, 4)}
    return next(code for code in ("000000", "111111", "222222") if code not in valid)


def set_up_app(user: User) -> Authenticator:
    """Give a teammate an app with SECRET."""
    return TOTP.activate(user, SECRET).instance
