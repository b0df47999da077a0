"""Environment variables that are URLs. Those with a password in them are never shown."""

import os
import re
from importlib.util import find_spec
from typing import Any
from urllib.parse import SplitResult, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from config.environment.variables import read_required, refusal

DATABASE_FORM = "the URL of a PostgreSQL server: postgres://user:password@host/name"
EMAIL_FORM = (
    "smtp://host:port, smtp+tls://user:password@host:port, smtp+ssl://user:password@host:port or anymail://provider"
)
SMTP_SCHEMES = ("smtp", "smtps", "smtp+tls", "smtp+ssl")
# Email that goes nowhere: to the terminal, files or memory.
LOCAL_EMAIL_SCHEMES = ("consolemail", "filemail", "memorymail", "dummymail")
CACHE_SCHEMES = ("redis", "rediss", "unix")
BROKER_SCHEMES = ("redis", "rediss", "sentinel", "amqp", "amqps", "pyamqp", "memory", "files")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
PUBLIC_URL = re.compile(
    r"https?://(?:[\w-]+(?:\.[\w-]+)*\.?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?(?:/[\w.~/-]*)?", re.IGNORECASE
)


def split_url(given: str) -> SplitResult | None:
    """Return the parts of a URL; None if it or its port is malformed."""
    try:
        parts = urlsplit(given.strip())
        _ = parts.port
    except ValueError:
        return None
    return parts


def read_database(name: str, *, default: str) -> dict[str, Any]:
    """Return the settings of the database. An empty value is refused: it would mean the embedded server."""
    given = os.environ.get(name)
    if given is None:
        given = default
    parts = split_url(given)
    if parts is None or parts.scheme not in environ.Env.DB_SCHEMES or len(parts.path.strip("/")) == 0:
        raise refusal(name, f"{DATABASE_FORM}. Leave it out to use the embedded server")
    try:
        found: dict[str, Any] = environ.Env.db_url_config(given)
    except (ImproperlyConfigured, ValueError, KeyError):
        raise refusal(name, DATABASE_FORM) from None
    if found["ENGINE"] != "django.db.backends.postgresql":
        raise refusal(name, DATABASE_FORM)
    return found


def read_email(name: str, *, default: str) -> dict[str, Any]:
    """Return the settings of sending email; EMAIL_BACKEND only if a provider's."""
    given = os.environ.get(name, default)
    parts = split_url(given)
    if parts is not None and parts.scheme == "anymail":
        provider = given.strip().removeprefix("anymail://").strip("/").lower().replace("-", "_")
        if not provider.isidentifier() or find_spec(f"anymail.backends.{provider}") is None:
            raise ImproperlyConfigured(f"{name} names a provider that django-anymail does not know: {provider}")
        return {"EMAIL_BACKEND": f"anymail.backends.{provider}.EmailBackend"}
    if parts is None or not (parts.scheme in LOCAL_EMAIL_SCHEMES or (parts.scheme in SMTP_SCHEMES and parts.hostname)):
        raise refusal(name, EMAIL_FORM)
    found: dict[str, Any] = environ.Env.email_url_config(given)
    if parts.scheme in SMTP_SCHEMES:
        del found["EMAIL_BACKEND"]
    return found


def read_public_url(name: str, *, default: str) -> str:
    """Return a URL with a scheme and a host, without a trailing slash."""
    given = os.environ.get(name, default)
    parts = split_url(given)
    if parts is None or not PUBLIC_URL.fullmatch(given.strip()):
        raise refusal(name, "a URL with its scheme, such as https://outbound.example.com", given)
    return given.strip().rstrip("/")


def read_identity_url(name: str, *, example: str, because: str = "") -> str:
    """Return the URL of an identity provider. Only this machine is trusted without TLS.

    Returns "" if the variable is empty, unless it must be set because of another one.
    """
    given = read_required(name, because=because) if because else os.environ.get(name, "").strip()
    if not given:
        return ""
    parts = split_url(given)
    is_known = parts is not None and PUBLIC_URL.fullmatch(given)
    if not is_known or not (parts and (parts.scheme == "https" or parts.hostname in LOOPBACK)):
        raise refusal(name, f"a URL with https, such as {example}", given)
    return given


def read_service(name: str, schemes: tuple[str, ...], *, example: str) -> str:
    """Return the URL of a service; "" if the variable is empty."""
    given = os.environ.get(name, "").strip()
    # Several brokers are separated by semicolons.
    for one in filter(None, given.split(";")):
        parts = split_url(one)
        if parts is None or parts.scheme not in schemes:
            raise refusal(name, f"a URL such as {example}. It can start with {', '.join(f'{s}://' for s in schemes)}")
    return given
