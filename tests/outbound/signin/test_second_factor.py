"""The second factor: set up, used, required, lost, and attacked."""

import json
import re
from datetime import timedelta

import pytest
import time_machine
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from axes.models import AccessAttempt
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db.models import Sum
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from audiences.models import Integration
from outbound import roles
from outbound.models import SecondFactorRule
from outbound.roles import Role
from outbound.signin.enrolment import enrolment_link
from tests.support.account_mail import account_mails
from tests.support.authenticator import SECRET, Passkey, add_passkey, code_of, passkey_options, set_up_app, wrong_code

pytestmark = pytest.mark.django_db
PASSWORD = "correct-horse-7"
APP, CODE = "/admin/account/app/", "/admin/login/second-factor/"
PASSKEY, ACCOUNT = "/admin/account/passkeys/add/", "/admin/account/"


@pytest.fixture
def grace() -> User:
    user = User.objects.create_user("grace", "grace@acme.example", PASSWORD, is_staff=True)
    roles.give_role(user, Role.SENDER)
    return user


def log_in(client: Client):
    return client.post("/admin/login/", {"username": "grace", "password": PASSWORD})


def with_password() -> Client:
    """Return a client after the password, at the second factor."""
    client = Client()
    assert log_in(client).url == CODE
    return client


def enter(client: Client, code: str):
    return client.post(CODE, {"code": code})


def is_logged_in(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def require(*required: Role, days: int = 0, ago: timedelta = timedelta()) -> None:
    for role in required:
        SecondFactorRule.objects.create(role=role.value, required_since=timezone.now() - ago, grace_days=days)
    cache.clear()


def test_app_is_set_up_and_used_with_recovery_codes_as_reserve(grace):
    client = Client()
    log_in(client)
    secret = re.search(r'id="totp-secret">(\w+)<', client.get(APP).content.decode())[1]

    codes = client.post(APP, {"code": code_of(secret)}, follow=True).content.decode()

    recovery = re.findall(r"^(?:<pre.*>)?(\d{8})$", codes, re.MULTILINE)
    assert len(recovery) == 10
    page = client.get(ACCOUNT).content.decode()
    assert "10 are left" in page
    # The codes are shown once.
    assert "Show the codes" not in page
    again = client.get("/admin/account/recovery-codes/").content.decode()
    assert "10 are left" in again
    assert not [code for code in recovery if code in again]
    # What was used to set it up is no login yet.
    used = code_of(secret, step=1)
    first = with_password()
    assert not is_logged_in(first)
    assert enter(first, used).url == "/admin/"
    assert is_logged_in(first)
    second = with_password()
    assert enter(second, recovery[0]).status_code == 302
    assert is_logged_in(second)
    assert "9 are left" in second.get(ACCOUNT).content.decode()


def test_used_codes_are_refused_in_every_process(grace):
    set_up_app(grace)
    code = code_of()
    assert enter(with_password(), code).status_code == 302

    for typed in (code, f"{code[:3]} {code[3:]}", f"{code[:3]}-{code[3:]}"):
        # Another web process has another cache.
        cache.clear()
        replay = with_password()
        assert enter(replay, typed).status_code == 200
        assert not is_logged_in(replay)
    later = with_password()
    assert enter(later, code_of(step=1)).status_code == 302


def test_used_recovery_code_is_refused(grace):
    set_up_app(grace)
    code = RecoveryCodes.activate(grace).get_unused_codes()[0]

    assert [enter(with_password(), code).status_code for _ in range(2)] == [302, 200]


def test_code_for_one_teammate_is_none_for_another(grace):
    set_up_app(grace)
    other = User.objects.create_user("ada", "ada@acme.example", PASSWORD, is_staff=True)
    code = RecoveryCodes.activate(other).get_unused_codes()[0]

    assert enter(with_password(), code).status_code == 200


def test_guessed_codes_lock_out_like_guessed_passwords(grace, settings):
    settings.AXES_ENABLED, settings.AXES_FAILURE_LIMIT = True, 4
    set_up_app(grace)
    wrong = wrong_code()

    # The right password in between resets nothing.
    statuses = [enter(with_password(), wrong).status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    assert AccessAttempt.objects.aggregate(sum=Sum("failures_since_start"))["sum"] == 4
    assert log_in(Client()).status_code == 429
    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        assert enter(with_password(), code_of()).status_code == 302


def test_guessed_codes_are_reported_to_the_teammate_once(grace, settings):
    settings.AXES_ENABLED, settings.AXES_FAILURE_LIMIT = True, 2
    set_up_app(grace)
    client = with_password()

    assert [enter(client, wrong_code()).status_code for _ in range(4)] == [200, 429, 429, 429]

    (told,) = account_mails()
    assert told.to == ["grace@acme.example"]
    assert "knows the password" in told.body


def test_lockout_also_refuses_a_right_code(grace, settings):
    settings.AXES_ENABLED, settings.AXES_FAILURE_LIMIT = True, 2
    set_up_app(grace)
    client = with_password()
    for _ in range(2):
        enter(client, wrong_code())

    assert enter(client, code_of()).status_code == 429
    assert not is_logged_in(client)


@pytest.mark.parametrize("page", [APP, PASSKEY])
def test_stolen_session_sets_up_no_second_factor(grace, page):
    thief = Client()
    thief.force_login(grace)

    assert thief.get(page).url.startswith("/admin/account/confirm/")
    session = thief.session
    session["mfa.totp.secret"] = SECRET
    session.save()
    answer = thief.post(page, {"code": code_of(), "name": "Thief", "credential": "{}"})
    assert answer.url.startswith("/admin/account/confirm/")
    assert thief.post("/admin/account/confirm/", {"password": "guess", "next": page}).status_code == 200
    assert not Authenticator.objects.exists()


def test_stolen_session_removes_no_second_factor_and_reads_no_recovery_code(grace):
    set_up_app(grace)
    RecoveryCodes.activate(grace)
    thief = Client()
    thief.force_login(grace)

    for page in ("app/remove/", "recovery-codes/", "recovery-codes/new/"):
        for answer in (thief.get(ACCOUNT + page), thief.post(ACCOUNT + page)):
            assert answer.status_code == 405 or answer.url.startswith("/admin/account/confirm/"), page
    assert Authenticator.objects.count() == 2


def test_password_confirms_no_change_of_an_account_with_a_second_factor(grace):
    set_up_app(grace)
    thief = Client()
    thief.force_login(grace)

    there = thief.post("/admin/account/confirm/", {"password": PASSWORD, "next": f"{APP}remove/"})

    assert there.url.startswith("/admin/account/confirm/code/")
    assert thief.get(f"{APP}remove/").url.startswith("/admin/account/confirm/code/")
    assert thief.post("/admin/account/confirm/code/", {"code": code_of(), "next": f"{APP}remove/"}).status_code == 302
    assert thief.get(f"{APP}remove/").status_code == 200


def test_teammate_with_a_passkey_alone_is_asked_for_it_first(grace):
    passkey, setting_up = Passkey(), Client()
    log_in(setting_up)
    add_passkey(setting_up, passkey)
    client, page = Client(), f"{ACCOUNT}recovery-codes/new/"
    client.force_login(grace)

    confirm = client.get(page).url
    asked = client.get(confirm).content.decode()
    signed = passkey.sign(passkey_options(asked)["challenge"])

    assert confirm.startswith("/admin/account/confirm/passkey/")
    assert "Use a code" in asked
    assert client.post(confirm, {"credential": signed, "next": page}).url == page
    assert client.get(page).status_code == 200


def test_change_that_a_thief_of_the_session_asked_for_is_not_made_after_the_confirmation(grace):
    set_up_app(grace)
    before = RecoveryCodes.activate(grace).get_unused_codes()
    teammate, page = Client(), f"{ACCOUNT}recovery-codes/new/"
    teammate.force_login(grace)
    thief = Client()
    thief.cookies["sessionid"] = teammate.cookies["sessionid"].value
    thief.post(page)

    teammate.get(page)
    there = teammate.post("/admin/account/confirm/code/", {"code": code_of(), "next": page})

    assert there.url == page
    assert Authenticator.objects.get(type="recovery_codes").wrap().get_unused_codes() == before


def test_login_of_long_ago_is_confirmed_before_a_change(grace):
    client = Client()
    log_in(client)
    assert client.get(APP).status_code == 200

    with time_machine.travel(timezone.now() + timedelta(minutes=6)):
        assert client.get(APP).url.startswith("/admin/account/confirm/")
        there = client.post("/admin/account/confirm/", {"password": PASSWORD, "next": APP})
        assert there.url == APP
        assert client.get(APP).status_code == 200


def test_secrets_are_encrypted_in_the_database(grace):
    app, codes = set_up_app(grace), RecoveryCodes.activate(grace).instance

    app.refresh_from_db()
    codes.refresh_from_db()
    assert app.data["secret"].startswith("sealed:")
    assert codes.data["seed"].startswith("sealed:")


@pytest.mark.parametrize("answer", ["", "{}", "[]", "null", '"x"', "1", '{"id": 1}', '{"response": {}}', "x" * 5000])
def test_malformed_passkey_is_refused_without_an_error(grace, answer):
    set_up_app(grace)
    client = Client()
    client.get("/admin/login/passkey/", headers={"accept": "application/json"})
    full = {"id": "AA", "rawId": "AA", "type": "public-key", "response": json.loads(answer) if answer == "{}" else 1}

    for credential in (answer, json.dumps(full)):
        assert client.post("/admin/login/passkey/", {"credential": credential}).url == "/admin/login/"
        assert with_password().post(CODE, {"credential": credential}).status_code == 200
        inside = Client()
        log_in(inside)
        enter(inside, RecoveryCodes.activate(grace).get_unused_codes()[0])
        assert inside.post(PASSKEY, {"name": "Key", "credential": credential}).status_code == 200


def test_nobody_needs_a_second_factor_unless_an_admin_says_so(grace):
    client = Client()
    log_in(client)

    assert is_logged_in(client)
    assert "second factor" not in client.get("/admin/").content.decode()


def test_required_second_factor_is_announced_and_then_demanded(grace, settings):
    require(Role.SENDER, days=7, ago=timedelta(days=8))
    User.objects.update(date_joined=timezone.now() - timedelta(days=3))
    client = Client()
    log_in(client)

    # A new teammate has days of grace of their own.
    assert "Your role needs a second factor" in client.get("/admin/").content.decode()
    User.objects.update(date_joined=timezone.now() - timedelta(days=30))
    for page in ("/admin/", "/admin/messaging/message/", "/admin/auth/user/session/"):
        assert client.get(page).url == ACCOUNT
    assert client.post("/admin/messaging/message/add/", {"act": "live"}).url == ACCOUNT
    client.get(enrolment_link(grace).removeprefix(settings.PUBLIC_URL))
    assert "Set one up to continue" in client.get(ACCOUNT).content.decode()
    secret = re.search(r'id="totp-secret">(\w+)<', client.get(APP).content.decode())[1]
    client.post(APP, {"code": code_of(secret)})
    assert is_logged_in(client)
    # Without the last factor, the console asks again.
    client.post(ACCOUNT + "app/remove/")
    assert client.get("/admin/").url == ACCOUNT


def test_rule_is_for_its_role_alone_and_for_no_api_token(grace):
    require(Role.ADMIN)
    client = Client()
    log_in(client)
    assert is_logged_in(client)

    _, token = Integration.issue(name="Shop")
    assert Client().get("/api/users", headers={"authorization": f"Bearer {token}"}).status_code == 200
    roles.give_role(grace, Role.ADMIN)
    assert client.get("/admin/").url == ACCOUNT


def test_admin_chooses_the_roles_and_the_log_tells(console, boss):
    page = reverse("admin:group_second_factor")

    assert console.get(page).status_code == 200
    console.post(page, {"roles": ["Sender", "Admin"], "grace_days": "3"})
    first = SecondFactorRule.objects.get(role="Admin").required_since
    console.post(page, {"roles": ["Admin"], "grace_days": "5"})

    (rule,) = SecondFactorRule.objects.all()
    assert (rule.role, rule.grace_days, rule.required_since) == ("Admin", 5, first)
    said = list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))
    assert len(said) == 4
    assert said[0].startswith("Second factor: from Not required to Required since ")
    assert said[2].endswith("to Not required")
    assert "Required" in console.get("/admin/auth/group/").content.decode()
    for wrong in (
        {"roles": ["Boss"], "grace_days": "3"},
        {"grace_days": "91"},
        {"grace_days": ""},
        {"grace_days": "x"},
    ):
        assert console.post(page, wrong).status_code == 400
    assert SecondFactorRule.objects.count() == 1


def test_lost_second_factor_is_reset_on_the_server(grace, capsys):
    set_up_app(grace)
    RecoveryCodes.activate(grace)
    require(Role.SENDER)

    call_command("reset_second_factor", "GRACE@acme.example")

    assert "Removed 1 second factor of grace" in capsys.readouterr().out
    assert not Authenticator.objects.exists()
    assert LogEntry.objects.get().change_message == "Second factor: reset on the server"
    client = Client()
    assert log_in(client).url == "/admin/"
    assert client.get("/admin/").url == ACCOUNT
    with pytest.raises(CommandError, match="no teammate has the email address or user name “nobody”"):
        call_command("reset_second_factor", "nobody")


def test_other_account_can_log_in_instead(grace):
    set_up_app(grace)
    client = with_password()
    assert client.get("/admin/login/").url == CODE

    assert client.post("/admin/login/", {"act": "abort"}).url == "/admin/login/"

    assert client.get("/admin/login/").status_code == 200
    assert client.get(CODE).url == "/admin/login/"


@pytest.mark.parametrize(
    "happens",
    [
        lambda user: (user.set_password("new-horse-8"), user.save()),
        lambda user: User.objects.filter(pk=user.pk).update(is_active=False),
    ],
    ids=["another password", "deactivated"],
)
def test_login_that_waits_for_its_code_ends_with_a_change_of_the_account(grace, happens):
    set_up_app(grace)
    client = with_password()

    happens(grace)

    assert enter(client, code_of()).url == "/admin/login/"
    assert not is_logged_in(client)
    User.objects.update(is_active=True)
    assert not is_logged_in(client)


def begin(client: Client) -> str:
    """Return the challenge for a login by passkey alone."""
    answer = client.get("/admin/login/passkey/", headers={"accept": "application/json"})
    return answer.json()["request_options"]["publicKey"]["challenge"]


def test_passkey_logs_in_with_its_owner_its_origin_and_its_challenge_only(grace):
    passkey, setting_up = Passkey(), Client()
    log_in(setting_up)
    handle = add_passkey(setting_up, passkey)
    ada = User.objects.create_user("ada", "ada@acme.example", PASSWORD, is_staff=True)
    other = Client()
    other.post("/admin/login/", {"username": "ada", "password": PASSWORD})
    handle_of_ada = add_passkey(other, Passkey())
    attacks = {
        "without its owner": {"is_verified": False},
        "at another website": {"origin": "https://testserver.evil.example"},
        "without https": {"origin": "http://testserver"},
        "for another website": {"host": "evil.example"},
        "for another teammate": {"handle": handle_of_ada},
        "for an unknown teammate": {"handle": "AAAA"},
    }

    let_in = []
    for name, changes in attacks.items():
        client = Client()
        signed = passkey.sign(begin(client), **{"handle": handle, **changes})
        client.post("/admin/login/passkey/", {"credential": signed})
        if is_logged_in(client):
            let_in.append(name)
    assert let_in == []

    client = Client()
    signed = passkey.sign(begin(client), handle=handle)
    assert client.post("/admin/login/passkey/", {"credential": signed}).url == "/admin/"
    assert is_logged_in(client)
    # The answer is valid once, and in its browser.
    for replay in (Client(), client):
        replay.post("/admin/logout/")
        begin(replay)
        replay.post("/admin/login/passkey/", {"credential": signed})
        assert not is_logged_in(replay)
    assert ada.is_active


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example/", "javascript:alert(1)"])
def test_code_and_passkey_lead_to_no_other_website(grace, to):
    passkey, setting_up = Passkey(), Client()
    log_in(setting_up)
    handle = add_passkey(setting_up, passkey)
    set_up_app(grace)

    with_code = Client()
    with_code.post("/admin/login/", {"username": "grace", "password": PASSWORD, "next": to})
    assert with_code.post(f"{CODE}?next={to}", {"code": code_of(), "next": to}).url == "/admin/"
    alone = Client()
    signed = passkey.sign(begin(alone), handle=handle)
    assert alone.post(f"/admin/login/passkey/?next={to}", {"credential": signed, "next": to}).url == "/admin/"


def test_copy_of_a_passkey_is_refused(grace, caplog):
    passkey, setting_up = Passkey(), Client()
    log_in(setting_up)
    handle = add_passkey(setting_up, passkey)
    passkey.count = 7
    first = Client()
    first.post("/admin/login/passkey/", {"credential": passkey.sign(begin(first), handle=handle)})
    assert is_logged_in(first)

    passkey.count = 5
    for client, path in ((Client(), "/admin/login/passkey/"), (with_password(), CODE)):
        challenge = begin(client) if path != CODE else passkey_options(client.get(CODE).content.decode())["challenge"]
        client.post(path, {"credential": passkey.sign(challenge, handle=handle)})
        assert not is_logged_in(client), path

    assert "its counter of signatures did not grow" in caplog.text
    passkey.count = 20
    again = with_password()
    challenge = passkey_options(again.get(CODE).content.decode())["challenge"]
    assert again.post(CODE, {"credential": passkey.sign(challenge)}).url == "/admin/"


def test_passkey_of_several_devices_counts_nothing(grace):
    passkey, setting_up = Passkey(), Client()
    log_in(setting_up)
    handle = add_passkey(setting_up, passkey)

    for _ in range(2):
        passkey.count, client = -1, Client()
        client.post("/admin/login/passkey/", {"credential": passkey.sign(begin(client), handle=handle)})
        assert is_logged_in(client)
