"""A teammate who uses the pages of the console."""

import json
import re

from django.test import Client
from django.urls import reverse

from audiences.models import Customer
from messaging.models import Message
from tests.factories import SenderFactory
from tests.support.pages import as_page, field_of


class Staff:
    """A teammate with a test client: opens a page, fills in its form, presses a button."""

    def __init__(self, user, at_once) -> None:
        self.user, self.at_once = user, at_once
        self.sender = SenderFactory(name="Ada", email="ada@acme.example", teammate=user)
        self.browser = Client()
        self.browser.force_login(user)

    def opens(self, name: str, /, *args: object, **query: object) -> str:
        """Return the HTML of a page: `opens("messaging_message_change", message)`."""
        answered = self.browser.get(reverse(f"admin:{name}", args=args), query)
        assert answered.status_code == 200, answered
        return answered.content.decode()

    def presses(self, name: str, /, *args: object, **fields: object) -> str:
        """Post a form and return the text of the resulting page."""
        with self.at_once():
            answered = self.browser.post(reverse(f"admin:{name}", args=args), fields, follow=True)
        assert answered.status_code == 200, answered
        return as_page(answered.content.decode())

    def reads(self, name: str, /, *args: object, **query: object) -> str:
        """Return the text of a page."""
        return as_page(self.opens(name, *args, **query))

    def composes(self, **given: object) -> str:
        """Fill in the composer of a new message, press a button (`act`), and return the text of the page."""
        return self.presses("messaging_message_add", **self.new(**given))

    def new(self, **given: object) -> dict[str, object]:
        """Return the fields of the filled-in composer of a new message."""
        return {**self.fields(**given), "ticket": field_of(self.opens("messaging_message_add"), "ticket")}

    def edits(self, message: int, **given: object) -> str:
        """Fill in the composer of a draft again and press a button."""
        return self.presses("messaging_message_change", message, **self.fields(**given))

    def fields(self, *, rules=(), window=(), channel="email", **given: object) -> dict[str, object]:
        rules = rules if isinstance(rules, dict) else {"match": "all", "rules": list(rules)}
        return {
            "title": "Hello",
            "channel": channel,
            "format": "chat" if channel == "in_app" else "",
            "sender": self.sender.pk,
            "subject": "" if channel == "in_app" else "Hello",
            "body": "<p>Hello there</p>",
            "text": "Hello there",
            "send_type": "ongoing",
            "rules": json.dumps(rules),
            "window": json.dumps(list(window)),
            "window_zone": "workspace",
            "act": "save",
            **given,
        }

    def saves(self, **given: object) -> int:
        """Save a draft."""
        page = self.composes(**given)
        assert "is saved as a draft" in page, page
        return Message.objects.latest("pk").pk

    def sets_live(self, **given: object) -> int:
        """Compose a message and set it live, without opening its report."""
        with self.at_once():
            answered = self.browser.post(reverse("admin:messaging_message_add"), self.new(**given, act="live"))
        assert answered.status_code == 302, as_page(answered.content.decode())
        message = Message.objects.latest("pk")
        assert message.went_live_at is not None
        return message.pk

    def does(self, verb: str, message: int) -> str:
        """Press a button of a message's report: pause, resume, stop, rest, live, unschedule; confirm it if asked to."""
        address = reverse("admin:message_act", args=[message, verb])
        asked = self.browser.post(address, HTTP_HX_TARGET="sheet") if verb in ("rest", "live") else None
        if asked is None or "ob-sheet-form" not in (sheet := asked.content.decode()):
            return self.presses("message_act", message, verb)
        counts = {name: field_of(sheet, name) for name in ("reviewed", "receiving")}
        return self.presses("message_act", message, verb, **counts)

    def opens_profile(self, user_id: str) -> str:
        return self.opens("audiences_customer_change", Customer.objects.get(user_id=user_id).pk)

    def opens_send_a_message(self, user_id: str) -> str:
        """Return the page of the button at the top right of a profile."""
        button = re.search(r'href="([^"]+)"[^>]*aria-label="Send a message"', self.opens_profile(user_id))
        assert button, "no button"
        answered = self.browser.get(button[1])
        assert answered.status_code == 200
        return answered.content.decode()

    def writes_to(self, user_id: str, **given: object) -> str:
        """Send a message from a profile, with the form's defaults and the given fields; return the text of the page."""
        page = self.opens_send_a_message(user_id)
        chosen = re.search(r'name="way" value="(\w+)"[^>]* checked', page)
        fields = {
            "way": chosen[1] if chosen else "",
            "sender": self.sender.pk,
            "subject": "",
            "body": "<p>Hello there</p>",
            "ticket": field_of(page, "ticket"),
            **given,
        }
        return self.presses("customer_send_message", Customer.objects.get(user_id=user_id).pk, **fields)
