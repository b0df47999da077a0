"""Email settings: invalid values stop the start."""

import json

import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.support.fresh_settings import execute_settings, load_settings

NAMES = "EMAIL_BACKEND", "INBOUND_DOMAIN", "BOUNCE_DOMAIN", "ANYMAIL", "WEBHOOK_SECRET", "FEEDBACK_ADDRESS"
READ = f"import json; from config import settings as s; print(json.dumps([getattr(s, n) for n in {NAMES}])); "


def test_email_url_names_a_provider_with_its_own_variables():
    printed = load_settings(
        READ,
        EMAIL_URL="anymail://amazon-ses",
        EMAIL_TIMEOUT="7",
        ANYMAIL_POSTMARK_SERVER_TOKEN="secret",
        ANYMAIL_IGNORE_RECIPIENT_STATUS="true",
        INBOUND_DOMAIN="Reply.Acme.example",
        WEBHOOK_SECRET="a:b,c:d",
        FEEDBACK_ADDRESS="FBL@Acme.example",
    )

    backend, inbound, bounce, anymail, secrets, feedback = json.loads(printed.stdout)
    assert (backend, inbound, bounce) == ("anymail.backends.amazon_ses.EmailBackend", "reply.acme.example", "")
    assert anymail == {
        "POSTMARK_SERVER_TOKEN": "secret",
        "IGNORE_RECIPIENT_STATUS": True,
        "WEBHOOK_SECRET": ["a:b", "c:d"],
        "REQUESTS_TIMEOUT": 7,
    }
    assert (secrets, feedback) == (["a:b", "c:d"], "fbl@acme.example")


def test_default_is_smtp_without_inbound_email():
    backend, *rest = json.loads(load_settings(READ).stdout)

    assert (backend, rest[0], rest[1], rest[3]) == ("delivery.channels.smtp.EmailBackend", "", "", [])


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"EMAIL_URL": "anymail://pigeon"}, "EMAIL_URL names a provider that django-anymail does not know: pigeon"),
        ({"EMAIL_URL": "anymail://"}, "EMAIL_URL names a provider"),
        ({"INBOUND_DOMAIN": "ada@acme.example"}, "INBOUND_DOMAIN must be a domain name"),
        ({"BOUNCE_DOMAIN": "localhost"}, "BOUNCE_DOMAIN must be a domain name"),
        ({"FEEDBACK_ADDRESS": "acme.example"}, "FEEDBACK_ADDRESS must be an email address"),
        ({"FEEDBACK_ADDRESS": "a@acme.example,b@acme.example"}, "FEEDBACK_ADDRESS must be an email address"),
    ],
)
def test_invalid_setting_stops_the_start_with_its_name(environment, says):
    with pytest.raises(ImproperlyConfigured) as refused:
        execute_settings(**environment)

    assert str(refused.value).startswith(says)
