"""SAML with an identity provider that signs: links, logins, forged responses."""

import base64
import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape

import pytest
from allauth.socialaccount.models import SocialAccount
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from onelogin.saml2.constants import OneLogin_Saml2_Constants

from outbound.signin import saml
from tests.support.fresh_settings import execute_settings, load_settings
from tests.support.saml_provider import OURS, SamlProvider, instant, request_id_of

pytestmark = pytest.mark.django_db
PASSWORD = "correct-horse-7"
LOGIN = "/admin/login/saml/idp/"


@pytest.fixture(scope="module")
def provider() -> SamlProvider:
    return SamlProvider()


@pytest.fixture(autouse=True)
def configured(settings, provider) -> None:
    settings.SOCIALACCOUNT_PROVIDERS = provider.settings()


@pytest.fixture
def grace(provider) -> User:
    """A teammate with the linked subject g-1."""
    user = User.objects.create_user("grace", "grace@acme.example", PASSWORD, is_staff=True)
    client = Client()
    client.post("/admin/login/", {"username": "grace", "password": PASSWORD})
    post(client, signed(provider, begin(client, process="connect"), subject="g-1"))
    assert SocialAccount.objects.get().uid == "g-1"
    return user


def begin(client: Client, **form: str) -> str:
    """Press the button; return the ID of the request to the provider."""
    page = client.post(LOGIN, {"process": "login", **form}).content.decode()
    return request_id_of(unescape(re.search(r'content="0; url=([^"]+)"', page)[1]))


def signed(provider: SamlProvider, request_id: str, *, subject: str, **changes: str) -> str:
    assertion = provider.sign(provider.assertion(subject=subject, request_id=request_id, **changes))
    return provider.response(assertion, request_id=request_id)


def post(client: Client, response: str):
    """Let the provider's page post a response, as a browser does, and open the next page."""
    packed = base64.b64encode(response.encode()).decode()
    next_page = client.post(f"{LOGIN}acs/", {"SAMLResponse": packed}).url
    return client.get(next_page)


def is_in(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def test_linked_identity_logs_in(grace, provider):
    client = Client()

    there = post(client, signed(provider, begin(client, next="/admin/account/"), subject="g-1"))

    assert there.url == "/admin/account/"
    assert is_in(client)
    assert SocialAccount.objects.get().provider.startswith("saml-")


def test_unknown_subject_logs_in_nobody(grace, provider):
    client = Client()
    answer = post(client, signed(provider, begin(client), subject=grace.email))

    assert "is not linked to a teammate" in answer.content.decode()
    assert not is_in(client)
    assert SocialAccount.objects.count() == 1


def unsigned(provider: SamlProvider, request_id: str) -> str:
    return provider.response(provider.assertion(subject="g-1", request_id=request_id), request_id=request_id)


def of_another_key(provider: SamlProvider, request_id: str) -> str:
    return signed(SamlProvider(), request_id, subject="g-1")


def changed_after_signing(provider: SamlProvider, request_id: str) -> str:
    return signed(provider, request_id, subject="e-1").replace(">e-1<", ">g-1<")


def signature_wrapped(provider: SamlProvider, request_id: str) -> str:
    """A forged assertion in front, and the signed one behind it."""
    true = provider.sign(provider.assertion(subject="e-1", request_id=request_id))
    forged = provider.assertion(subject="g-1", request_id=request_id, id="_forged")
    return provider.response(forged + true, request_id=request_id)


def signature_moved(provider: SamlProvider, request_id: str) -> str:
    """A forged assertion that contains the signature of another one."""
    true = provider.sign(provider.assertion(subject="e-1", request_id=request_id))
    signature = re.search(r"<ds:Signature.*</ds:Signature>", true, re.DOTALL)[0]
    forged = provider.assertion(subject="g-1", request_id=request_id)
    return provider.response(forged.replace("<saml:Subject>", f"{signature}<saml:Subject>"), request_id=request_id)


def message_signed_only(provider: SamlProvider, request_id: str) -> str:
    """A signed message around an assertion without a signature of its own."""
    return provider.sign(unsigned(provider, request_id))


def altered(provider: SamlProvider, request_id: str, pattern: str, new: str) -> str:
    """An assertion that the provider signed with other parts than it should have."""
    assertion, count = re.subn(pattern, new, provider.assertion(subject="g-1", request_id=request_id))
    assert count == 1
    return provider.response(provider.sign(assertion), request_id=request_id)


def for_another_request(provider: SamlProvider, request_id: str) -> str:
    """An assertion of an earlier login, in a new message that names our request."""
    earlier = provider.sign(provider.assertion(subject="g-1", request_id="_earlier"))
    return provider.response(earlier, request_id=request_id)


def begun_at_the_provider(provider: SamlProvider, request_id: str) -> str:
    """An assertion for no request, in a message that names our request."""
    unasked = provider.sign(provider.assertion(subject="g-1", request_id=""))
    return provider.response(unasked, request_id=request_id)


def without_audience(provider: SamlProvider, request_id: str) -> str:
    part = "<saml:AudienceRestriction>.*</saml:AudienceRestriction>"
    return altered(provider, request_id, part, "<saml:OneTimeUse/>")


def signed_with_sha1(provider: SamlProvider, request_id: str) -> str:
    weak = provider.sign(
        provider.assertion(subject="g-1", request_id=request_id),
        OneLogin_Saml2_Constants.RSA_SHA1,
        OneLogin_Saml2_Constants.SHA1,
    )
    return provider.response(weak, request_id=request_id)


FORGERIES: dict[str, Callable[[SamlProvider, str], str]] = {
    **{
        forged.__name__: forged
        for forged in (
            *(unsigned, of_another_key, changed_after_signing),
            *(signature_wrapped, signature_moved, message_signed_only, signed_with_sha1),
            *(for_another_request, begun_at_the_provider, without_audience),
        )
    },
    "of another issuer": lambda p, asked: signed(p, asked, subject="g-1", issuer="https://evil.example"),
    "for another audience": lambda p, asked: signed(p, asked, subject="g-1", audience="https://other.example"),
    "for another recipient": lambda p, asked: signed(p, asked, subject="g-1", recipient="https://other.example"),
    "for a longer URL": lambda p, asked: signed(p, asked, subject="g-1", recipient=f"https://evil.example/?{OURS}acs/"),
    "for no recipient": lambda p, asked: altered(p, asked, ' Recipient="[^"]*"', ""),
    "without an end": lambda p, asked: altered(p, asked, ' NotOnOrAfter="[^"]*" Recipient', " Recipient"),
    "not valid yet": lambda p, asked: altered(p, asked, 'NotBefore="[^"]*"', f'NotBefore="{instant(10)}"'),
    "expired": lambda p, asked: signed(p, asked, subject="g-1", until=instant(-10)),
    "for another destination": lambda p, asked: signed(p, asked, subject="g-1").replace(
        f'Destination="{OURS}acs/"', 'Destination="https://other.example"'
    ),
    "that nobody asked for": lambda p, _: signed(p, "", subject="g-1"),
    "to an unknown request": lambda p, _: signed(p, "_unknown", subject="g-1"),
    "no XML": lambda *_: "<samlp:Response",
    "empty": lambda *_: "",
    "another document": lambda *_: "<a/>",
    "with an entity": lambda p, asked: f'<!DOCTYPE a [<!ENTITY x "g-1">]>{signed(p, asked, subject="g-1")}',
}


def test_forged_responses_are_refused(grace, provider):
    let_in = {}
    for name, forge in FORGERIES.items():
        client = Client()
        answer = post(client, forge(provider, begin(client)))
        if answer.status_code != 401 or "did not work" not in answer.content.decode() or is_in(client):
            let_in[name] = answer

    assert let_in == {}


def test_comment_in_a_subject_does_not_shorten_it(grace, provider):
    client = Client()
    response = signed(provider, begin(client), subject="g-1x").replace(">g-1x<", ">g-1<!-- -->x<")

    post(client, response)

    assert not is_in(client)


def test_login_leads_to_no_other_website(grace, provider):
    for next_page in ("https://evil.example/", "//evil.example/", "/\\evil.example/", "javascript:alert(1)"):
        client = Client()
        request_id = begin(client, next=next_page)
        packed = base64.b64encode(signed(provider, request_id, subject="g-1").encode()).decode()
        stored = client.post(f"{LOGIN}acs/", {"SAMLResponse": packed, "RelayState": next_page})
        assert client.get(stored.url).url == "/admin/", next_page


def test_response_is_valid_once_and_in_its_browser(grace, provider):
    client, other = Client(), Client()
    response = signed(provider, begin(client), subject="g-1")
    begin(other)

    assert post(other, response).status_code == 401
    assert post(client, response).status_code == 302
    client.post("/admin/logout/")
    assert post(client, response).status_code == 401
    assert not is_in(client)


def test_broken_requests_have_clear_answers(provider, settings):
    client = Client()
    answers = [
        client.get(f"{LOGIN}acs/"),
        client.get(f"{LOGIN}acs/finish/"),
        client.post(f"{LOGIN}acs/finish/"),
        client.post(f"{LOGIN}acs/", {"SAMLResponse": "x" * 300_000}),
        client.get(f"{LOGIN}logout/", {"SAMLRequest": "x"}),
        client.get("/admin/login/saml/other/"),
        client.post("/admin/login/saml/other/acs/"),
        client.get("/admin/login/saml/other/metadata/"),
    ]
    not_base64 = client.get(client.post(f"{LOGIN}acs/", {"SAMLResponse": "é~"}).url)
    missing = client.get(client.post(f"{LOGIN}acs/").url)

    assert [answer.status_code for answer in answers] == [405, 401, 405, 404, 404, 404, 404, 404]
    assert (not_base64.status_code, missing.status_code) == (401, 401)
    settings.SOCIALACCOUNT_PROVIDERS = {}
    assert client.post(LOGIN).status_code == 404


def test_metadata_and_the_command_name_our_urls(capsys):
    metadata = Client().get(f"{LOGIN}metadata/").content.decode()
    call_command("identity_providers")

    assert f'Location="{OURS}acs/"' in metadata
    assert "/admin/login/saml/idp/acs/" in capsys.readouterr().out


def test_cookie_of_a_response_is_http_only(provider):
    client = Client()
    client.post(f"{LOGIN}acs/", {"SAMLResponse": "x"})

    assert client.cookies["saml-acs-session"]["httponly"]


def test_responses_of_a_stranger_are_stored_briefly_and_limited(monkeypatch):
    monkeypatch.setattr(saml, "RESPONSES_MOST", 2)

    answers = [Client().post(f"{LOGIN}acs/", {"SAMLResponse": "x"}).status_code for _ in range(3)]

    assert answers == [302, 302, 429]
    assert Client(REMOTE_ADDR="192.0.2.7").post(f"{LOGIN}acs/", {"SAMLResponse": "x"}).status_code == 302
    ends = set(Session.objects.values_list("expire_date", flat=True))
    assert len(ends) == 3
    assert max(ends) < timezone.now() + timedelta(minutes=6)


WITHOUT_LIBRARY = "import sys; sys.modules['onelogin'] = None; "


def test_settings_without_the_library_stop_the_start_with_the_command_to_run():
    refused = load_settings(WITHOUT_LIBRARY, SAML_ENTITY_ID="https://idp.acme.example")

    assert refused.returncode == 1
    assert "ImproperlyConfigured: SAML_ENTITY_ID is set, but" in refused.stderr
    assert "python -m pip install --require-hashes -r requirements-saml.lock" in refused.stderr
    assert load_settings(WITHOUT_LIBRARY).returncode == 0


def test_settings_of_a_provider_are_read_from_the_environment(provider, tmp_path):
    file = tmp_path / "idp.pem"
    file.write_text(provider.certificate)
    given = {"SAML_ENTITY_ID": "https://idp.acme.example", "SAML_SSO_URL": "https://idp.acme.example/sso"}

    for certificate in (provider.certificate, str(file)):
        (app,) = execute_settings(**given, SAML_CERTIFICATE=certificate)["SOCIALACCOUNT_PROVIDERS"]["saml"]["APPS"]
        assert app["settings"]["idp"]["x509cert"].strip() == provider.certificate.strip()
    for wrong, text in (
        ({"SAML_CERTIFICATE": "nonsense"}, "SAML_CERTIFICATE must be a certificate in PEM format"),
        ({"SAML_CERTIFICATE": ""}, "SAML_CERTIFICATE must be set if SAML_ENTITY_ID is"),
        ({"SAML_SSO_URL": "http://idp.acme.example/sso"}, "SAML_SSO_URL must be a URL with https"),
        ({"SAML_SSO_URL": ""}, "SAML_SSO_URL must be set if SAML_ENTITY_ID is"),
    ):
        with pytest.raises(ImproperlyConfigured, match=text):
            execute_settings(**{**given, "SAML_CERTIFICATE": provider.certificate, **wrong})
