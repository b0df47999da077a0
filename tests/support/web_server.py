"""The server of a team that uses Outbound: it sends data about its users to the API and reads from it."""

from django.utils import timezone
from rest_framework.response import Response
from rest_framework.test import APIClient

from audiences.models import Integration
from tests.support.mailbox import address_of

COLUMNS = {"email", "name", "created_at", "signed_up_at", "unsubscribed_from_emails", "companies", "timezone"}


class Server:
    """The calls of a team's own server to the API."""

    def __init__(self, at_once) -> None:
        _, token = Integration.issue(name="server")
        self.http = APIClient()
        self.http.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
        self.at_once = at_once

    def post(self, path: str, facts: dict[str, object]) -> Response:
        with self.at_once():
            return self.http.post(path, facts, format="json")

    def get(self, path: str, **query: object) -> Response:
        with self.at_once():
            return self.http.get(path, query)

    def user(self, user_id: str, **facts: object) -> dict[str, object]:
        """Send a user. Facts that are not fields of the API are custom attributes. `email=None`: without an address."""
        sent = {"user_id": user_id, "email": address_of(user_id)}
        sent |= {key: value for key, value in facts.items() if key in COLUMNS}
        sent["custom_attributes"] = {key: value for key, value in facts.items() if key not in COLUMNS}
        answered = self.post("/api/users", sent)
        assert answered.status_code == 200, answered.json()
        return answered.json()

    def device(self, user_id: str, token: str) -> None:
        assert self.post("/api/devices", {"user_id": user_id, "token": token}).status_code == 200

    def event(self, user_id: str, name: str) -> None:
        """Send an event of a user that happened now."""
        facts = {"user_id": user_id, "event_name": name, "created_at": int(timezone.now().timestamp())}
        assert self.post("/api/events", facts).status_code == 202

    def conversations(self, user_id: str) -> Response:
        """Call `GET /conversations` with user_id and type=user, as the article does."""
        answered = self.get("/api/conversations", type="user", user_id=user_id)
        assert answered.status_code == 200, answered.json()
        return answered
