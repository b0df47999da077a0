"""Every page of the console: axe finds nothing serious, on a desktop and a phone, light and dark."""

import json
from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from audiences.models import Integration, Notification, Subscription, Workspace
from delivery import conversations, schedule
from messaging.models import Message
from outbound import roles
from tests.browser.conftest import AXE
from tests.factories import (
    CustomAttributeFactory,
    EventSummaryFactory,
    MembershipFactory,
    MessageFactory,
    SegmentFactory,
    TagFactory,
    rule,
)

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
NOW = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
LISTS = (
    *("delivery_conversation", "messaging_message", "delivery_deliveryrecord"),
    *("audiences_customer", "audiences_company", "audiences_audience"),
    *("audiences_tag", "audiences_customattribute", "messaging_sender", "auth_user", "auth_group", "admin_logentry"),
    *("audiences_integration", "delivery_pace", "django_celery_beat_periodictask"),
)
FORMS = ("delivery_pace", "messaging_message", "messaging_sender", "audiences_audience", "audiences_tag", "auth_user")


@pytest.fixture
def addresses(transactional_db) -> list[str]:
    """One of each page, with something on it."""
    schedule.install()
    roles.install()
    customer = MembershipFactory(customer__name="Ada Byron", company__name="Acme").customer
    EventSummaryFactory(customer=customer)
    thread = conversations.open_by_customer(customer, body="Where is my invoice?", at=timezone.now())
    TagFactory()
    seats = CustomAttributeFactory(name="seats", kind="text", scope="customer")
    segment = SegmentFactory(rules={"match": "all", "rules": [rule("name", "is", "Ada")]})
    live, draft = MessageFactory(live=True), MessageFactory(rules={"match": "all", "rules": [rule("name", "is", "A")]})
    boss = User.objects.create_superuser("boss", "boss@acme.example", "pass", first_name="Bo")
    Integration.objects.create(user=boss, name="Shop")
    Workspace.objects.update(allowed_origins=["https://www.acme.example"])
    hook = Subscription.objects.create(
        url="https://acme.example/" + "hooks/" * 20, topics=["user.created"], created_at=NOW, updated_at=NOW
    )
    Notification.objects.create(
        subscription=hook, topic="user.created", created_at=NOW, due_at=NOW, attempts=1, detail="It answered 500."
    )
    invited = User.objects.create_user("new@acme.example", "new@acme.example", is_staff=True)
    assert Message.objects.count() == 2
    return [
        reverse("admin:index"),
        *(reverse(f"admin:{name}_changelist") for name in LISTS),
        *(reverse(f"admin:{name}_add") for name in FORMS),
        reverse("admin:messaging_message_change", args=[live.pk]),
        reverse("admin:message_edit_content", args=[live.pk]),
        reverse("admin:messaging_message_change", args=[draft.pk]),
        reverse("admin:messaging_message_history", args=[live.pk]),
        reverse("admin:deliveryrecord_uncertain"),
        reverse("admin:delivery_conversation_change", args=[thread.pk]),
        reverse("admin:audiences_customer_change", args=[customer.pk]),
        reverse("admin:customer_send_message", args=[customer.pk]),
        reverse("admin:audiences_company_change", args=[customer.memberships.get().company_id]),
        reverse("admin:audiences_audience_change", args=[segment.pk]),
        reverse("admin:audiences_customattribute_change", args=[seats.pk]) + "?kind=number",
        reverse("admin:audiences_workspace_change", args=[Workspace.current().pk]),
        reverse("admin:audiences_subscription_add"),
        reverse("admin:audiences_subscription_change", args=[hook.pk]),
        reverse("admin:auth_user_change", args=[invited.pk]),
        reverse("admin:password_change"),
    ]


def serious(page) -> list[str]:
    """What axe finds that keeps somebody out, in words."""
    if not page.evaluate("!!window.axe"):
        page.evaluate(AXE + ";0")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{wrong['id']}: {wrong['help']} ({json.dumps([node['target'] for node in wrong['nodes'][:4]])})"
        for wrong in found["violations"]
        if wrong["impact"] in ("serious", "critical")
    ]


def look_at(page, live_server, addresses, size: str, scheme: str) -> str:
    page.set_viewport_size(SIZES[size])
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    wrong = []
    for address in addresses:
        page.goto(live_server.url + address)
        page.wait_for_load_state("networkidle")
        wrong += [f"{address} {size} {scheme}: {one}" for one in serious(page)]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wrong.append(f"{address} {size}: scrolls sideways")
    return "\n".join(wrong)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_nothing_serious_on_any_page(context, live_server, addresses, size, scheme):
    client = Client()
    client.force_login(User.objects.get(username="boss"))
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])

    assert not look_at(context.new_page(), live_server, addresses, size, scheme)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_so_it_is_at_the_door(page, live_server, transactional_db, size, scheme):
    doors = [reverse("admin:login"), reverse("admin:admin_password_reset")]
    doors.append(reverse("admin:choose_password", args=["MQ", "worn-out"]))

    assert not look_at(page, live_server, doors, size, scheme)


def tab_to(page, name: str) -> None:
    """Tab until this field has the focus; on the field already, where the browser minds its autofocus."""
    for _ in range(8):
        if page.evaluate("document.activeElement.id") == name:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"No Tab leads to {name}.")


def test_logs_in_by_keyboard_alone(page, live_server, transactional_db):
    User.objects.create_superuser("boss", "boss@acme.example", "pass")
    page.goto(f"{live_server.url}/admin/login/")

    tab_to(page, "id_username")
    page.keyboard.type("boss")
    tab_to(page, "id_password")
    page.keyboard.type("pass")
    page.keyboard.press("Enter")

    page.wait_for_url("**/admin/")
