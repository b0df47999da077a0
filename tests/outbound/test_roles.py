"""The permissions of each role, checked on the server for every URL."""

from datetime import UTC, datetime

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.db import transaction
from django.urls import URLPattern, reverse
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule

from audiences.models import Company, Customer, EventName, Integration, Subscription, Suppression, Workspace
from delivery.conversations import threads
from delivery.matching import direct
from delivery.models import Conversation, DeliveryRecord, Pace
from messaging.models import SavedReply
from outbound import actions, roles
from outbound.inbox import admin as inbox_admin
from outbound.messages import uncertain
from outbound.roles import Role
from tests.factories import (
    CustomAttributeFactory,
    MembershipFactory,
    MessageFactory,
    SegmentFactory,
    SenderFactory,
    TagFactory,
    TopicFactory,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def log_in_as(client):
    """Log in as a teammate with a role."""

    def log_in(role: Role | None):
        user = User.objects.create_user(f"{role}", f"{role}@acme.example", "pass", is_staff=True)
        if role:
            roles.give_role(user, role)
        client.force_login(user)
        return client

    return log_in


def test_migration_created_the_four_roles():
    assert set(Group.objects.values_list("name", flat=True)) >= set(Role.values)
    found = Group.objects.get(name="Sender").permissions.values_list("content_type__app_label", "codename")
    assert ("messaging", "set_live") in found
    assert ("audiences", "change_workspace") not in found


def test_installing_again_restores_permissions_and_keeps_members():
    user = User.objects.create_user("grace")
    roles.give_role(user, Role.SENDER)
    Group.objects.get(name="Author").delete()
    Group.objects.get(name="Sender").permissions.clear()

    roles.install()
    roles.install()

    user = User.objects.get(pk=user.pk)
    assert roles.role_of(user) is Role.SENDER
    assert user.has_perm("messaging.set_live")
    assert Group.objects.get(name="Author").permissions.exists()


def test_installing_makes_no_second_permission_beside_djangos_own():
    roles.install()

    assert Permission.objects.filter(codename="set_live").count() == 1
    assert {f"{app}.{name}" for app, _, name in roles.granted(Role.SENDER)} >= {roles.SET_LIVE, roles.WRITE_TO_ONE}


@pytest.mark.parametrize("role", Role)
def test_each_role_includes_the_role_before_it(role):
    before = list(Role)[: list(Role).index(role)]

    assert all(roles.granted(one) < roles.granted(role) for one in before)


# Every URL with the lowest role that is admitted by GET and by POST; NOBODY if Admins are refused as well.

V, A, S, B = Role.VIEWER, Role.AUTHOR, Role.SENDER, Role.ADMIN
NOBODY, ANY, GUEST = "nobody", "any teammate", "a guest"

# Django's own pages of each table: list, add, change, delete.
TABLES = {
    "messaging_message": (V, A, A, NOBODY),
    "messaging_sender": (V, B, B, B),
    "messaging_savedreply": (V, S, S, S),
    "delivery_conversation": (V, NOBODY, NOBODY, NOBODY),
    "delivery_deliveryrecord": (V, NOBODY, NOBODY, NOBODY),
    "audiences_customer": (V, NOBODY, NOBODY, NOBODY),
    "audiences_company": (V, NOBODY, NOBODY, NOBODY),
    "audiences_audience": (V, A, A, NOBODY),
    "audiences_tag": (V, A, S, S),
    "audiences_messagetopic": (V, B, B, NOBODY),
    "audiences_customattribute": (V, NOBODY, B, NOBODY),
    "audiences_eventname": (V, NOBODY, B, NOBODY),
    "audiences_suppression": (V, S, NOBODY, NOBODY),
    "audiences_integration": (B, NOBODY, B, B),
    "audiences_subscription": (B, B, B, B),
    "audiences_workspace": (B, NOBODY, B, NOBODY),
    "delivery_pace": (B, B, B, B),
    "auth_user": (B, B, B, NOBODY),
    "auth_group": (B, NOBODY, NOBODY, NOBODY),
    "admin_logentry": (S, NOBODY, NOBODY, NOBODY),
    "django_celery_beat_periodictask": (B, B, B, B),
    "django_celery_beat_intervalschedule": (B, B, B, B),
    "django_celery_beat_crontabschedule": (B, B, B, B),
    "django_celery_beat_solarschedule": (B, B, B, B),
    "django_celery_beat_clockedschedule": (B, B, B, B),
}
# The console's additional pages and those of the site: GET, POST.
OWN = {
    "message_forecast": (A, A),
    "message_final_sheet": (NOBODY, S),
    "message_preview": (A, A),
    "message_send_test": (NOBODY, A),
    "message_find_people": (V, V),
    "message_known_values": (V, V),
    "message_find_names": (V, V),
    "message_upload_image": (NOBODY, A),
    "message_save_segment": (NOBODY, A),
    "message_tag": (NOBODY, A),
    "message_tag_ticked": (NOBODY, A),
    "message_launching": (V, V),
    "message_left_out": (V, V),
    "message_refresh": (V, V),
    "message_make_ongoing": (NOBODY, A),
    "message_edit_content": (S, S),
    "message_edit_audience": (S, S),
    "message_duplicate": (NOBODY, A),
    "message_discard": (NOBODY, A),
    "message_act": (NOBODY, S),
    "deliveryrecord_export": (V, V),
    "deliveryrecord_uncertain": (V, NOBODY),
    "deliveryrecord_settle": (NOBODY, S),
    "conversation_news": (V, V),
    "conversation_seen": (NOBODY, S),
    "conversation_saved_replies": (S, S),
    "conversation_act": (NOBODY, S),
    "customer_import_file": (S, S),
    "customer_import_page": (S, S),
    "customer_import_errors": (S, S),
    "customer_import_lines": (S, S),
    "customer_import_act": (NOBODY, S),
    "customer_topic": (NOBODY, S),
    "customer_confirmation": (NOBODY, S),
    "customer_picked": (NOBODY, S),
    "customer_why": (V, V),
    "customer_beside": (V, V),
    "customer_send_message": (S, S),
    "customer_clear": (NOBODY, S),
    "suppression_lift": (NOBODY, S),
    "customer_tag": (NOBODY, S),
    "customer_archive": (NOBODY, S),
    "customer_export": (NOBODY, B),
    "customer_erase": (NOBODY, B),
    "customattribute_refused": (V, NOBODY),
    "customattribute_accept": (NOBODY, B),
    "customattribute_retire": (NOBODY, B),
    "customattribute_bring_back": (NOBODY, B),
    "eventname_retire": (NOBODY, B),
    "eventname_bring_back": (NOBODY, B),
    "audience_count_people": (V, V),
    "audience_current_size": (V, V),
    "audience_discard": (NOBODY, A),
    "audiences_audience_change": (A, A),
    "group_second_factor": (B, B),
    "user_session": (ANY, NOBODY),
    "palette": (ANY, NOBODY),
    "autosave": (NOBODY, ANY),
    "sender_domains": (V, V),
    "sender_check_domain": (NOBODY, B),
    "sender_allow_domain": (NOBODY, B),
    "user_invite_again": (NOBODY, B),
    "user_end_sessions": (NOBODY, B),
    "user_deactivate": (NOBODY, B),
    "user_activate": (NOBODY, B),
    "integration_make_token": (NOBODY, B),
    "integration_change_rights": (NOBODY, B),
    "integration_show_secret": (NOBODY, B),
    "integration_change_secret": (NOBODY, B),
    "integration_require_hash": (NOBODY, B),
    "integration_add_origin": (NOBODY, B),
    "integration_remove_origin": (NOBODY, B),
    "subscription_show_secret": (NOBODY, B),
    "subscription_change_secret": (NOBODY, B),
    "subscription_ping": (NOBODY, B),
    "subscription_again": (NOBODY, B),
    "index": (ANY, ANY),
    "search": (ANY, ANY),
    "app_list": (V, V),  # Django answers 404 if the app has no visible tables.
    "jsi18n": (ANY, NOBODY),
    "view_on_site": (ANY, ANY),
    "autocomplete": (B, NOBODY),  # The requested search is of staff.
    "password_change": (ANY, ANY),
    "password_change_done": (ANY, NOBODY),
    "login": (GUEST, GUEST),
}
VERBS = ("changelist", "add", "change", "delete", "history")


def named_addresses() -> dict[str, str]:
    """Return every named URL pattern of the console."""
    found = {}

    def walk(patterns, before):
        for pattern in patterns:
            if not isinstance(pattern, URLPattern):
                walk(pattern.url_patterns, before + str(pattern.pattern))
            elif pattern.name:
                found[pattern.name] = before + str(pattern.pattern)

    walk(admin.site.urls[0], "")
    return found


def may_enter(name: str) -> tuple[object, object]:
    """The roles admitted to a page by GET and by POST."""
    if name in OWN:
        return OWN[name]
    table, _, verb = name.rpartition("_")
    look, add, change, delete = TABLES[table]
    return {
        "changelist": (look, look),
        "history": (look, look),
        "add": (add, add),
        "change": (look, change),
        "delete": (delete, delete),
    }[verb]


# Read-only pages, whose POST renders the same page; the workspace and the lists redirect.
SHOWS_BY_POST = {
    "delivery_conversation_change",
    "delivery_deliveryrecord_change",
    "audiences_customer_change",
    "audiences_company_change",
}
SHOWS_BY_POST |= {"auth_group_change", "admin_logentry_change"}
LEVELS = [GUEST, ANY, *Role]


def test_the_table_names_every_address_and_no_other():
    named = set(named_addresses()) - {"logout"}
    tables = {f"{table}_{verb}" for table in TABLES for verb in VERBS}

    assert named == set(OWN) | tables
    assert set(OWN) & tables == {
        "audiences_audience_change"
    }  # A segment opens as its form, which needs the permission to change it.


@pytest.fixture
def things() -> dict[str, object]:
    """One row of each kind."""
    at = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)
    customer = MembershipFactory().customer
    live = MessageFactory(live=True)
    boss = User.objects.create_superuser("keeper", "keeper@acme.example", "pass")
    direct.send_to_one(
        customer, channel="in_app", format="chat", sender=live.sender, subject="", body="<p>Hi</p>", by=boss, at=at
    )
    token, _ = Integration.issue(name="Shop")
    hook = Subscription.objects.create(url="https://x.example", topics=["user.created"], created_at=at, updated_at=at)
    invited = User.objects.create_user("new@acme.example", "new@acme.example", is_staff=True)
    entry = LogEntry.objects.log_actions(boss.pk, [live], 2, change_message="Paused", single_object=True)
    every = IntervalSchedule.objects.first()
    return {
        "messaging_message": live.pk,
        "messaging_sender": SenderFactory().pk,
        "messaging_savedreply": SavedReply.objects.create(name="Refund", body="Hello").pk,
        "delivery_conversation": threads.open_by_customer(customer, body="Hello?", at=at).pk,
        "delivery_deliveryrecord": DeliveryRecord.objects.get().pk,
        "audiences_customer": customer.pk,
        "audiences_company": customer.memberships.get().company_id,
        "audiences_audience": SegmentFactory().pk,
        "audiences_tag": TagFactory().pk,
        "audiences_messagetopic": TopicFactory().pk,
        "audiences_customattribute": CustomAttributeFactory().pk,
        "audiences_eventname": EventName.objects.create(name="ordered", created_at=at).pk,
        "audiences_suppression": Suppression.objects.create(
            address="gone@x.example", reason="opt_out", source="staff", created_at=at
        ).pk,
        "audiences_integration": token.pk,
        "audiences_subscription": hook.pk,
        "audiences_workspace": Workspace.current().pk,
        "delivery_pace": Pace.objects.create(channel="email").pk,
        "auth_user": invited.pk,
        "auth_group": Group.objects.get(name="Author").pk,
        "admin_logentry": entry.pk,
        "django_celery_beat_periodictask": PeriodicTask.objects.first().pk,
        "django_celery_beat_intervalschedule": every.pk,
        "django_celery_beat_crontabschedule": CrontabSchedule.objects.create().pk,
        "django_celery_beat_solarschedule": SolarSchedule.objects.create(event="sunset", latitude=1, longitude=1).pk,
        "django_celery_beat_clockedschedule": ClockedSchedule.objects.create(clocked_time=at).pk,
    }


PREFIXES = {"message": "messaging_message", "customer": "audiences_customer", "audience": "audiences_audience"}
PREFIXES |= {
    "conversation": "delivery_conversation",
    "customattribute": "audiences_customattribute",
    "eventname": "audiences_eventname",
    "suppression": "audiences_suppression",
    "sender": "messaging_sender",
    "user": "auth_user",
    "integration": "audiences_integration",
    "subscription": "audiences_subscription",
}


def paths(name: str, pattern: str, things: dict[str, object]) -> list[str]:
    """Return the paths of a URL pattern, one for each value of its verb."""
    table = name.rpartition("_")[0]
    table = table if table in TABLES else PREFIXES.get(name.partition("_")[0], "")
    verbs = {
        "message_act": tuple(actions.ACTS),
        "customer_picked": ("tag", "message", "segment"),
        "customer_import_act": ("cancel",),
    }
    verbs |= {"conversation_act": tuple(inbox_admin.ACTIONS), "deliveryrecord_settle": tuple(uncertain.VERDICTS)}
    found = []
    queries = {"autocomplete": "?app_label=messaging&model_name=sender&field_name=teammate&term=a"}
    for verb in verbs.get(name, ("",)):
        path = pattern.replace(
            "^(?P<app_label>messaging|delivery|audiences|auth|admin|django_celery_beat)/$", "messaging/"
        )
        for place, value in {
            "<path:content_type_id>": 1,
            "<path:object_id>": things.get(table, 1),
            "<int:message_id>": things["messaging_message"],
            "<int:key>": 424242,
            "<slug:verb>": verb,
            "<slug:flag>": "has_hard_bounced",
            "<str:name>": "acme.example",
            "<uidb64>": "MQ",
            "<token>": "token",
        }.items():
            path = path.replace(place, str(value))
        assert "<" not in path, path
        found.append(f"/admin/{path}{queries.get(name, '')}")
    return found


def is_in(answer, *, name: str) -> bool:
    """Whether the page admitted the request: not refused, not sent to the login, method allowed."""
    to_login = answer.status_code == 302 and answer.url.startswith("/admin/login/")
    # 303 is the answer of a button's URL to a GET: nothing is done. If an app has no visible tables, Django answers
    # 404.
    return not to_login and answer.status_code not in (303, 403, 405, *([404] if name == "app_list" else []))


@pytest.mark.parametrize("level", LEVELS, ids=str)
@pytest.mark.usefixtures("nudged")
def test_every_url_admits_only_the_roles_of_the_table(client, log_in_as, things, level):
    if level != GUEST:
        log_in_as(None if level == ANY else level)
    client.raise_request_exception = False
    wrong = []
    for name, pattern in named_addresses().items():
        if name == "logout":
            continue
        for method, lowest in zip(("get", "post"), may_enter(name), strict=True):
            if method == "post" and name in SHOWS_BY_POST:
                continue
            for path in paths(name, pattern, things):
                # An Author may message the listed people and save them as a segment.
                is_authors = path.endswith(("/picked/message/", "/picked/segment/")) and method == "post"
                needed = A if is_authors else lowest
                expected = needed != NOBODY and LEVELS.index(level) >= LEVELS.index(needed)
                spot = transaction.savepoint()
                answer = getattr(client, method)(path)
                transaction.savepoint_rollback(spot)
                if is_in(answer, name=name) != expected or answer.status_code >= 500:
                    wrong.append(f"{method} {path}: {answer.status_code} for {level}")
    assert not wrong, "\n".join(wrong)


def test_read_only_pages_change_nothing_by_post(log_in_as, things):
    console = log_in_as(Role.ADMIN)
    before = {name: list(model.objects.values_list()) for name, model in SHOWN.items()}

    for name in SHOWS_BY_POST:
        console.post(
            reverse(f"admin:{name}", args=[things[name.rpartition("_")[0]]]), {"name": "Changed", "state": "x"}
        )

    assert {name: list(model.objects.values_list()) for name, model in SHOWN.items()} == before


SHOWN = {
    "conversation": Conversation,
    "record": DeliveryRecord,
    "customer": Customer,
    "company": Company,
    "group": Group,
}


def test_an_author_saves_a_draft_and_cannot_set_it_live_whatever_they_post(log_in_as):
    author = log_in_as(Role.AUTHOR)
    draft = MessageFactory()

    for verb in actions.ACTS:
        assert author.post(reverse("admin:message_act", args=[draft.pk, verb])).status_code == 403
    draft.refresh_from_db()
    assert draft.state == "draft"


@pytest.mark.usefixtures("nudged")
def test_sender_sets_live_and_pauses_and_the_log_shows_both_states(log_in_as):
    sender = log_in_as(Role.SENDER)
    message = MessageFactory(live=True)

    sender.post(reverse("admin:message_act", args=[message.pk, "pause"]))

    message.refresh_from_db()
    assert message.state == "paused"
    assert LogEntry.objects.get().change_message == "Paused: from Live to Paused"


def test_buttons_without_permission_are_hidden(log_in_as):
    message = MessageFactory(live=True)
    page = reverse("admin:messaging_message_change", args=[message.pk])

    assert "/act/pause/" not in log_in_as(Role.AUTHOR).get(page).content.decode()
    assert "/act/pause/" in log_in_as(Role.SENDER).get(page).content.decode()
