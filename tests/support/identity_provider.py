"""A person at an OpenID provider: from our login page, over the provider's page, back to us."""

import re
from html import unescape
from urllib.parse import urlsplit

import requests
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from config.environment import sign_in

CLIENT = {"client_id": "outbound", "secret": "of-outbound", "name": "Acme login"}


def openid_settings(issuer: str, **changes: object) -> dict[str, object]:
    """Return SOCIALACCOUNT_PROVIDERS for an issuer, with other settings of the app."""
    found = sign_in.openid_provider(issuer=issuer, **CLIENT)
    found["openid_connect"]["APPS"][0]["settings"] |= changes
    return found


def login_url(issuer: str) -> str:
    return reverse("openid_connect_login", args=[sign_in.provider_id("oidc", issuer)])


def address_at_provider(client: Client, issuer: str, **form: str) -> str:
    """Press the button of the provider; return the URL to which the page leads."""
    page = client.post(login_url(issuer), {"process": "login", **form})
    assert page.status_code == 200, page
    return unescape(re.search(r'content="0; url=([^"]+)"', page.content.decode())[1])


def callback_of(address: str, *, subject: str) -> str:
    """Log in at the provider as a subject; return the URL to which it sends the browser."""
    answer = requests.post(address, data={"sub": subject}, allow_redirects=False, timeout=10)
    parts = urlsplit(answer.headers["location"])
    return f"{parts.path}?{parts.query}"


def sign_in_at(client: Client, issuer: str, *, subject: str, **form: str) -> HttpResponse:
    """Log in with the provider, from the button to its answer."""
    return client.get(callback_of(address_at_provider(client, issuer, **form), subject=subject))
