"""The integration page: tokens, snippets, the identity secret, websites and webhooks."""

import json
import re
from datetime import UTC, datetime

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.cache import cache
from django.urls import reverse
from rest_framework.test import APIClient

from audiences.models import Integration, Notification, NotificationState, Subscription, Topic, Workspace
from audiences.models.workspace import TokenRight
from delivery.messenger import origins
from delivery.webhooks import dispatcher
from delivery.webhooks.notification import standard_secret
from outbound.workspace.webhooks import TONES, TOPICS, TOPICS_WITHOUT_CHECKBOX

pytestmark = pytest.mark.django_db
AT = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)
PAGE = "/admin/audiences/integration/"


@pytest.fixture(autouse=True)
def _asked_anew():
    cache.delete(origins.CACHE_KEY)


@pytest.fixture
def hook() -> Subscription:
    return Subscription.objects.create(
        url="https://shop.example/hooks", topics=["user.created"], created_at=AT, updated_at=AT
    )


def create_notification(hook: Subscription, **facts: object) -> Notification:
    return Notification.objects.create(
        subscription=hook, topic=Topic.PING, created_at=AT, due_at=AT, **{"attempts": 1, **facts}
    )


def press(console, name: str, /, *args: object, **fields: object):
    return console.post(reverse(f"admin:{name}", args=args), fields, follow=True)


def latest_log_entry() -> str:
    return LogEntry.objects.order_by("-pk").first().change_message


def page_text(answer) -> str:
    return answer.content.decode()


def client_with(token: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def asked_with(token: str) -> int:
    return client_with(token).get("/api/me").status_code


def writes_with(token: str) -> int:
    return client_with(token).post("/api/users", {"user_id": "ann"}, format="json").status_code


def test_token_is_shown_once_works_and_is_revoked_separately(console):
    shown = page_text(press(console, "integration_make_token", name="The shop", rights=TokenRight.values))
    token = re.search(r'id="token"[^>]*>([^<]+)<', shown)[1]
    made = Integration.objects.get(name="The shop")

    assert asked_with(token) == 200
    assert token not in page_text(console.get(PAGE))
    assert "The shop" in page_text(console.get(PAGE))
    user = made.user_id
    press(console, "audiences_integration_delete", made.pk, post="yes")
    assert asked_with(token) == 401
    assert not User.objects.filter(pk=user).exists()


def test_token_is_limited_to_the_chosen_rights(console):
    page = page_text(console.get(PAGE))
    assert len(re.findall(r'<input type="checkbox" name="rights" [^>]*checked', page)) == 3
    assert "Choose at least one right." in page_text(press(console, "integration_make_token", name="Nothing"))

    shown = page_text(press(console, "integration_make_token", name="The report", rights=["read"]))
    token = re.search(r'id="token"[^>]*>([^<]+)<', shown)[1]

    assert asked_with(token) == 200
    assert Integration.objects.get().rights == ["read"]
    assert re.search(r"ob-rights[^>]*>Read data<", shown)
    assert latest_log_entry() == "Created the token. Rights: Read data"


def test_rights_of_a_token_are_changed_and_logged_and_the_token_stays(console):
    made, token = Integration.issue(name="The report", rights=["read"])
    assert writes_with(token) == 403

    press(console, "integration_change_rights", made.pk, rights=["read", "write"])

    assert writes_with(token) == 200
    assert latest_log_entry() == "Rights: from Read data to Read data, Write data"
    refused = page_text(press(console, "integration_change_rights", made.pk))
    assert "Choose at least one right. To end a token, revoke it." in refused
    assert Integration.objects.get().rights == ["read", "write"]


def test_wrong_change_of_rights_is_refused_and_changes_nothing(console):
    made, _ = Integration.issue(name="The report", rights=["read"])

    answer = press(console, "integration_change_rights", made.pk, rights=["read", "root"])
    unknown = {
        (pk, page): console.post(f"{PAGE}{pk}/{page}/", {"rights": "send", "post": "yes"}).status_code
        for pk in ("0", "nobody", "a%00b", "%ED%A0%80", "9" * 2000)
        for page in ("change-rights", "delete")
    }

    assert "root is not one of the available choices" in page_text(answer)
    assert [case for case, status in unknown.items() if status not in {302, 404}] == []
    assert Integration.objects.get().rights == ["read"]


def test_page_that_revokes_a_token_names_it_and_the_consequence(console, boss):
    token, _ = Integration.objects.create(user=boss, name="The shop")

    page = page_text(console.get(reverse("admin:audiences_integration_delete", args=[token.pk])))

    assert "Revoke the token “The shop”?" in page
    assert "The API then refuses all requests with this token." in page


def test_revoking_a_token_of_a_teammate_keeps_the_teammate(console, boss):
    token, _ = Integration.objects.create(user=boss, name="Mine")

    press(console, "audiences_integration_delete", token.pk, post="yes")

    assert not Integration.objects.exists()
    assert User.objects.filter(pk=boss.pk).exists()


def test_page_with_a_token_or_secret_is_not_cached(console):
    assert "no-store" in press(console, "integration_make_token", name="The shop")["Cache-Control"]
    assert "no-store" in press(console, "integration_show_secret")["Cache-Control"]


def test_token_names_are_unique(console):
    press(console, "integration_make_token", name="The shop", rights=TokenRight.values)
    again = press(console, "integration_make_token", name="the SHOP", rights=TokenRight.values)

    assert "A token named" in page_text(again)
    assert Integration.objects.count() == 1


def test_last_use_of_a_token_is_shown(console):
    Integration.issue(name="The shop")
    assert "Never" in page_text(console.get(PAGE))

    Integration.objects.update(last_used_at=AT)

    assert "4 May 2026, 10:00" in page_text(console.get(PAGE))


def test_snippets_with_and_without_user_hash_are_shown(console, settings):
    settings.PUBLIC_URL = "https://hello.acme.example"
    page = page_text(console.get(PAGE))
    users, visitors = re.findall(r"<pre[^>]*>(.*?)</pre>", page, re.DOTALL)

    assert "https://hello.acme.example/messenger/messenger.js" in users
    assert "user_hash" in users
    assert "https://hello.acme.example/messenger/messenger.js" in visitors
    assert "user_hash" not in visitors


def test_provider_urls_are_shown_without_the_secret(console, settings):
    settings.INBOUND_DOMAIN, settings.PUBLIC_URL = "reply.acme.example", "https://hello.acme.example"
    settings.WEBHOOK_SECRET = []
    assert "once <code>WEBHOOK_SECRET</code> is set" in page_text(console.get(PAGE))

    settings.WEBHOOK_SECRET = ["provider:hush-hush"]
    settings.EMAIL_BACKEND = "anymail.backends.mailgun.EmailBackend"
    page = page_text(console.get(PAGE))

    assert "reply.acme.example" in page
    assert "https://user:password@hello.acme.example/webhooks/anymail/mailgun/inbound/" in page
    assert "hush" not in page


def test_viewing_the_identity_secret_is_logged(console):
    secret = Workspace.current().identity_secret

    assert secret not in page_text(console.get(PAGE))
    assert console.get(reverse("admin:integration_show_secret")).status_code == 303
    assert secret in page_text(press(console, "integration_show_secret"))
    assert latest_log_entry() == "Viewed the identity secret"


def test_changed_identity_secret_invalidates_old_hashes(console):
    old = Workspace.current().identity_secret

    answer = page_text(press(console, "integration_change_secret"))

    assert Workspace.current().identity_secret not in ("", old)
    assert Workspace.current().identity_secret in answer
    assert latest_log_entry() == "Changed the identity secret"
    assert old not in latest_log_entry()


def test_identity_verification_off_shows_a_warning(console):
    assert "Identity verification is off" not in page_text(console.get(PAGE))

    assert "Identity verification is off" in page_text(press(console, "integration_require_hash", on=0))
    assert not Workspace.current().require_user_hash
    assert latest_log_entry() == "Identity verification: from on to off"
    assert "Identity verification is off" not in page_text(press(console, "integration_require_hash", on=1))


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("https://www.acme.example", "https://www.acme.example"),
        (" https://WWW.Acme.example/ ", "https://www.acme.example"),
        ("https://acme.example:443", "https://acme.example"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_website_is_normalised_and_allowed_immediately(console, typed, kept):
    assert not origins.is_registered(kept)

    press(console, "integration_add_origin", origin=typed)

    assert Workspace.current().allowed_origins == [kept]
    assert origins.is_registered(kept)
    assert latest_log_entry() == f"Allowed the messenger on {kept}"


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("", "This field is required"),
        ("www.acme.example", "must begin with https://"),
        ("javascript:alert(1)", "must begin with https://"),
        ("https://", "Enter a host"),
        ("https://acme.example/shop", "Remove the path: enter https://acme.example."),
        ("https://*.acme.example", "Wildcards are not supported"),
        ("https://me:secret@acme.example", "user name and password"),
        ("https://acme.example:99999", "Enter a valid URL"),
        ("https://acme example", "is not a valid host name"),
        ("null", "must begin with https://"),
    ],
)
def test_invalid_website_shows_field_error(console, typed, why):
    answer = press(console, "integration_add_origin", origin=typed)

    assert why in page_text(answer)
    assert answer.context["origin_form"].errors["origin"]
    assert Workspace.current().allowed_origins == []


def test_website_is_added_once_and_removed(console):
    for _ in range(2):
        press(console, "integration_add_origin", origin="https://acme.example")
    press(console, "integration_add_origin", origin="https://acme.example:8443")
    assert Workspace.current().allowed_origins == ["https://acme.example", "https://acme.example:8443"]

    press(console, "integration_remove_origin", origin="https://acme.example")

    assert Workspace.current().allowed_origins == ["https://acme.example:8443"]
    assert not origins.is_registered("https://acme.example")
    assert latest_log_entry() == "Removed the messenger from https://acme.example"


def test_webhook_is_added_and_shows_its_secret_on_request(console):
    page = page_text(
        press(
            console,
            "audiences_subscription_add",
            url="https://shop.example/hooks",
            topics=["user.created", "event.created"],
            active="on",
        )
    )
    made = Subscription.objects.get()

    assert made.topics == ["user.created", "event.created"]
    assert made.active
    assert made.secret not in page
    assert standard_secret(made.secret) not in page
    shown = page_text(press(console, "subscription_show_secret", made.pk))
    assert made.secret in shown
    assert standard_secret(made.secret) in shown
    assert latest_log_entry() == "Viewed the signing secret"
    assert made.url in page_text(console.get(PAGE))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:5432/", "private network"),
        ("http://10.0.0.7/", "private network"),
        ("http://[::ffff:169.254.169.254]/latest", "private network"),
        ("http://localhost/hooks", "private network"),
        ("ftp://shop.example/", "must begin with"),
        ("https://me:secret@shop.example/", "must not contain a user name or password"),
        ("shop.example", "must begin with"),
    ],
)
def test_private_or_invalid_url_is_refused(console, settings, url, why):
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = False

    answer = press(console, "audiences_subscription_add", url=url, topics=["user.created"], active="on")

    assert why in page_text(answer)
    assert not Subscription.objects.exists()


def test_private_url_is_accepted_if_the_settings_allow_it(console, settings):
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True

    press(console, "audiences_subscription_add", url="http://127.0.0.1:9000/", topics=["user.created"], active="on")

    assert Subscription.objects.get().url == "http://127.0.0.1:9000/"


def test_webhook_without_topics_is_refused(console):
    answer = press(console, "audiences_subscription_add", url="https://shop.example/", active="on")

    assert "Choose at least one topic" in page_text(answer)


def test_change_is_logged_and_keeps_topics_without_checkbox(console, hook):
    Subscription.objects.update(topics=["ping", "user.created"])

    press(console, "audiences_subscription_change", hook.pk, url=hook.url, topics=["user.deleted"])

    hook.refresh_from_db()
    assert hook.topics == ["user.deleted", "ping"]
    assert not hook.active
    assert "Switched on: from yes to no" in latest_log_entry()


def test_log_shows_the_answer_and_sends_a_notification_again(console, hook, monkeypatch):
    rung: list[bool] = []
    monkeypatch.setattr("audiences.webhook_outbox.nudge_dispatcher", lambda: rung.append(True))
    row = create_notification(
        hook, state=NotificationState.FAILED, detail="It answered 500.", settled_at=AT, attempts=8
    )
    page = page_text(console.get(reverse("admin:audiences_subscription_change", args=[hook.pk])))
    assert "It answered 500." in page
    assert "Failed" in page

    console.raise_request_exception = True
    press(console, "subscription_again", hook.pk, row.pk)

    row.refresh_from_db()
    assert row.state == NotificationState.WAITING
    assert row.settled_at is None
    assert latest_log_entry() == f"Sent ping (notif_{row.pk}) again"
    assert list(dispatcher.due_heads(at=row.due_at).values()) == [row.pk]


def test_notification_that_is_being_sent_is_not_sent_again(console, hook):
    row = create_notification(hook, state=NotificationState.SENDING)

    answer = press(console, "subscription_again", hook.pk, row.pk)

    assert "being sent right now" in page_text(answer)
    row.refresh_from_db()
    assert row.state == NotificationState.SENDING


def test_log_is_filtered_by_failures(console, hook):
    create_notification(hook, state=NotificationState.DELIVERED, response_status=200)
    bad = create_notification(hook, detail="There is no shop.example.")
    page = page_text(console.get(reverse("admin:audiences_subscription_change", args=[hook.pk]), {"log": "trouble"}))

    assert f"notif_{bad.pk}" in page
    assert "It answered 200." not in page


def test_ping_waits_while_the_webhook_is_off(console, hook):
    press(console, "subscription_ping", hook.pk)
    assert Notification.objects.get().topic == Topic.PING

    Subscription.objects.update(active=False)

    assert "switched off" in page_text(press(console, "subscription_ping", hook.pk))


def test_notification_of_another_webhook_is_not_found(console, hook):
    other = Subscription.objects.create(url="https://b.example", topics=["ping"], created_at=AT, updated_at=AT)
    row = create_notification(other, state=NotificationState.FAILED)

    assert press(console, "subscription_again", hook.pk, row.pk).status_code == 404


def test_every_topic_has_a_checkbox_or_is_excluded():
    boxes = [topic for rows in TOPICS.values() for topic in rows]

    assert len(boxes) == len(set(boxes))
    assert {*boxes, *TOPICS_WITHOUT_CHECKBOX} == set(Topic)
    assert set(TONES) == set(NotificationState)


def test_typed_values_are_escaped(console, hook):
    Subscription.objects.update(url="https://a.example/<script>alert(1)</script>")
    Workspace.objects.update(allowed_origins=["https://a.example/<script>"])

    page = page_text(console.get(PAGE))

    assert "<script>alert(1)" not in page
    assert json.dumps("https://a.example/<script>") not in page
