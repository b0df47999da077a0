"""The command palette: results by kind, and only those that a role allows."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from outbound import roles
from outbound.roles import Role
from tests.factories import CustomerFactory, MessageFactory, SegmentFactory

pytestmark = pytest.mark.django_db


def results(client, typed: str = "", **given: object) -> dict[str, list[str]]:
    answered = client.get("/admin/palette/", {"q": typed, **given})
    assert answered.status_code == 200, answered.content
    return {group["title"]: [item["title"] for item in group["items"]] for group in answered.json()["groups"]}


def urls(client, typed: str = "", **given: object) -> dict[str, str]:
    groups = client.get("/admin/palette/", {"q": typed, **given}).json()["groups"]
    return {item["title"]: item["url"] for group in groups for item in group["items"]}


def test_search_finds_people_messages_segments_pages_and_actions(console):
    ada = CustomerFactory(name="Ada Byron", email="ada@acme.example")
    welcome = MessageFactory(title="Ada’s welcome")
    SegmentFactory(name="Adaptable people")

    assert results(console) == {
        "Actions": ["New message", "New segment", "Import people"],
        "Pages": ["Inbox", "All", "Ongoing", "One-off", "Delivery records"],
    }
    assert results(console, "ada") == {
        "People": ["Ada Byron"],
        "Actions": ["Send a message to Ada Byron", "Why did Ada Byron not get …"],
        "Messages": ["Ada’s welcome"],
        "Segments": ["Adaptable people"],
    }
    assert results(console, "supp lis") == {"Pages": ["Suppression list"]}
    assert results(console, "zzz") == {}
    for typed, action in (
        ("Send a message to ada", "Send a message to Ada Byron"),
        ("write ada b", "Send a message to Ada Byron"),
        ("why ada", "Why did Ada Byron not get …"),
        ("Why did Ada Byron not get …", "Why did Ada Byron not get …"),
        ("why didn’t ada not", "Why did Ada Byron not get …"),
    ):
        assert results(console, typed) == {"Actions": [action]}, typed
    for url in urls(console, "ada").values():
        assert console.get(url).status_code == 200
    assert urls(console, "", message=welcome.pk) == {}
    assert urls(console, "ada", message=welcome.pk) == {
        "Ada Byron": f"/admin/audiences/customer/{ada.pk}/why/?message={welcome.pk}"
    }
    assert console.get("/admin/palette/", {"q": "a " * 11}).json() == {
        "wrong": "Search for at most 10 words and 200 characters."
    }
    assert console.get("/admin/palette/", {"q": "ada", "message": "x"}).json() == {"groups": []}
    assert console.get("/admin/palette/", {"q": "ada\0"}).status_code == 200


def test_role_sees_only_results_that_it_may_open():
    CustomerFactory(name="Ada Byron")
    message = MessageFactory(title="Ada’s welcome")
    SegmentFactory(name="Adaptable people")
    clients = {}
    for role in (None, *Role):
        user = User.objects.create_user(f"user-{role}", is_staff=True)
        if role:
            roles.give_role(user, role)
        clients[role] = Client()
        clients[role].force_login(user)
    send, why = "Send a message to Ada Byron", "Why did Ada Byron not get …"

    actions = {role: results(client, "ada").get("Actions") for role, client in clients.items()}
    started = {role: results(client).get("Actions") for role, client in clients.items()}

    assert actions == {
        None: None,
        Role.VIEWER: [why],
        Role.AUTHOR: [why],
        Role.SENDER: [send, why],
        Role.ADMIN: [send, why],
    }
    assert started == {
        None: None,
        Role.VIEWER: None,
        Role.AUTHOR: ["New message", "New segment"],
        Role.SENDER: ["New message", "New segment", "Import people"],
        Role.ADMIN: ["New message", "New segment", "Import people"],
    }
    assert results(clients[None], "ada") == results(clients[None], "ada", message=message.pk) == {}
    assert results(clients[Role.VIEWER], "workspace") == {}
    assert results(clients[Role.ADMIN], "workspace") == {"Pages": ["Workspace"]}
    for role, client in clients.items():
        for typed in ("", "ada", "throttle"):
            for url in urls(client, typed).values():
                assert client.get(url).status_code == 200, (role, url)
