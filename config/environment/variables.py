"""Environment variables that are flags, numbers, words or lists."""

import os
import re
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.x509 import load_pem_x509_certificate
from django.core.exceptions import ImproperlyConfigured

# In seconds: upper bounds of numbers.
HOUR, DAY, WEEK = 3600, 86_400, 7 * 86_400
FLAGS = {
    **dict.fromkeys(("true", "1", "yes", "on", "y", "t", "ok"), True),
    **dict.fromkeys(("false", "0", "no", "off", "n", "f"), False),
}
DOMAIN = r"(?:[a-z0-9-]{1,63}\.)+[a-z0-9-]{1,63}"
EMAIL_ADDRESS = rf"[^@\s<>,;\"]+@{DOMAIN}"
HOST = re.compile(r"\*|\.?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\]")
ORIGIN = re.compile(r"https?://(?:(?:\*\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


def refusal(name: str, allowed: str, given: str | None = None) -> ImproperlyConfigured:
    """Return the error for a wrong value. Leave out `given` if it may contain a password."""
    shown = "" if given is None else f": {given or '(empty)'}"
    return ImproperlyConfigured(f"{name} must be {allowed}{shown}")


def read_flag(name: str, *, default: bool) -> bool:
    given = os.environ.get(name)
    if given is None:
        return default
    if (flag := FLAGS.get(given.strip().lower())) is None:
        raise refusal(name, "true or false", given)
    return flag


def read_number(name: str, *, default: int, least: int = 0, most: int) -> int:
    """Return a whole number from `least` to `most`."""
    given = os.environ.get(name)
    if given is None:
        return default
    number = int(given) if re.fullmatch(r"[0-9]{1,18}", given.strip()) else None
    if number is None or not least <= number <= most:
        raise refusal(name, f"a whole number from {least} to {most}", given)
    return number


def read_text(name: str, *, default: str = "") -> str:
    return os.environ.get(name, default)


def read_required(name: str, *, because: str) -> str:
    """Return the text of a variable that another one needs."""
    given = os.environ.get(name, "").strip()
    if not given:
        raise ImproperlyConfigured(f"{name} must be set if {because} is.")
    return given


def read_certificate(name: str, *, because: str) -> str:
    """Return a certificate in PEM format, given as text or as the path of a file."""
    given = read_required(name, because=because)
    try:
        text = given if "BEGIN CERTIFICATE" in given else Path(given).read_text()
        load_pem_x509_certificate(text.encode())
    except (OSError, ValueError) as problem:
        raise refusal(name, "a certificate in PEM format, or the path of a file with one") from problem
    return text


def read_choice(name: str, choices: Iterable[str], *, default: str) -> str:
    """Return one of the choices, which are compared without regard to case."""
    given, known = os.environ.get(name, default), list(choices)
    found = next((choice for choice in known if choice.lower() == given.strip().lower()), None)
    if found is None:
        raise refusal(name, f"one of {', '.join(known)}", given)
    return found


def read_list(
    name: str, *, default: Iterable[str] = (), entry: re.Pattern[str] | None = None, means: str = ""
) -> list[str]:
    """Return the parts between commas. Each must match `entry`, which `means` describes."""
    given = os.environ.get(name)
    if given is None:
        return list(default)
    parts = [part.strip() for part in given.split(",") if part.strip()]
    if entry is not None and (wrong := [part for part in parts if not entry.fullmatch(part)]):
        raise refusal(name, means, wrong[0])
    return parts


def read_domain(name: str, *, default: str = "", example: str) -> str:
    """Return a domain in lower case; the default if the variable is empty."""
    given = (os.environ.get(name) or default).lower()
    if given and not re.fullmatch(DOMAIN, given):
        raise refusal(name, f"a domain name, such as {example}", given)
    return given


def read_email_address(name: str, *, example: str) -> str:
    """Return an email address in lower case; "" if the variable is empty."""
    given = os.environ.get(name, "").lower()
    if given and not re.fullmatch(EMAIL_ADDRESS, given):
        raise refusal(name, f"an email address, as in {example}", given)
    return given


def read_dns_server(name: str) -> tuple[str, int] | None:
    """Return the IP address and port of a DNS server; None if the variable is empty."""
    given = os.environ.get(name, "")
    if not given:
        return None
    try:
        parts = urlsplit(f"//{given}")
        return str(ip_address(parts.hostname or "")), parts.port or 53
    except ValueError:
        raise refusal(
            name, "an IP address with or without a port, such as 192.0.2.53 or [2001:db8::53]:5353", given
        ) from None


def read_sender(name: str, *, default: str) -> str:
    """Return an email address, with or without a name: "Acme <support@acme.example>"."""
    given = os.environ.get(name, default)
    if not re.fullmatch(rf"{EMAIL_ADDRESS}|[^<>]*<{EMAIL_ADDRESS}>", given.strip(), re.IGNORECASE):
        raise refusal(name, "an email address, with or without a name: Acme <support@example.com>", given)
    return given


def read_secrets(name: str) -> list[str]:
    """Return entries of the form user:password, separated by commas. The values are never shown."""
    parts = [part.strip() for part in os.environ.get(name, "").split(",") if part.strip()]
    if any(not all(part.partition(":")[::2]) for part in parts):
        raise refusal(name, "user:password, or several of them separated by commas")
    return parts
