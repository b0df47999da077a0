"""Opens and clicks of customers appear in the report and in the rules of the next message."""

import re
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from django.test import Client

from tests.factories import rule

BODY = '<p>Hi</p><p><a href="https://acme.example/new">New</a> <a href="https://acme.example/more">More</a></p>'
PERSON = "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 Version/17.5 Safari/605.1.15"
SCANNER = "Mimecast-URL-Protect/2.0"


@pytest.fixture
def mailbox(post):
    """Act as a customer's mail program: `mailbox("ann").opens()`, `mailbox("ann").clicks("New")`."""

    class Mailbox:
        def __init__(self, user_id: str) -> None:
            self.html = post.to(user_id)[0].get_body("html").get_content()

        def loads(self, address: str, agent: str):
            return Client(headers={"user-agent": agent}).get(urlsplit(address).path)

        def opens(self, agent: str = PERSON) -> None:
            answer = self.loads(re.search(r'<img src="([^"]+/m/o/[^"]+)"', self.html)[1], agent)
            assert answer["Content-Type"] == "image/gif"

        def clicks(self, words: str, agent: str = PERSON) -> str:
            return self.loads(re.search(rf'<a href="([^"]+)"[^>]*>{words}</a>', self.html)[1], agent).url

    return Mailbox


def test_report_counts_opens_and_clicks_without_scanners(staff, server, post, clock, mailbox):
    for user_id in ("ann", "bob", "cyd"):
        server.user(user_id)
    news = staff.sets_live(title="News", body=BODY, send_type="one_off")
    clock.passes(minutes=5)

    mailbox("ann").opens()
    assert mailbox("ann").clicks("New") == "https://acme.example/new"
    mailbox("bob").opens()
    for words in ("New", "More"):
        mailbox("cyd").clicks(words, SCANNER)

    page = staff.reads("messaging_message_change", news)
    assert "Opened 2 67 % of sent" in page
    assert "Clicked 1 33 % of sent" in page
    assert "New https://acme.example/new Scanners and bots also followed it 1 time 1 1" in page
    assert "More https://acme.example/more Scanners and bots also followed it 1 time 0 0" in page


def test_next_message_reaches_customers_who_clicked_the_previous_one(staff, server, post, clock, mailbox):
    for user_id in ("ann", "bob"):
        server.user(user_id)
    news = staff.sets_live(title="News", subject="News", body=BODY, send_type="one_off")
    clock.passes(minutes=5)
    mailbox("ann").clicks("More")
    mailbox("bob").opens()

    staff.sets_live(subject="You clicked", rules=[rule("clicked_message", "is", news)])
    staff.sets_live(subject="You opened", rules=[rule("opened_message", "is", news)])

    assert post.subjects_to("ann") == ["News", "You clicked", "You opened"]
    assert post.subjects_to("bob") == ["News", "You opened"]


def test_later_click_matches_within_the_hour(staff, server, post, clock, mailbox):
    server.user("ann")
    news = staff.sets_live(subject="News", body=BODY, send_type="one_off")
    staff.sets_live(subject="You clicked", rules=[rule("clicked_message", "is", news)])
    clock.passes(until=clock.now + timedelta(days=2))
    assert post.subjects_to("ann") == ["News"]

    mailbox("ann").clicks("New")
    clock.passes(hours=1)

    assert post.subjects_to("ann") == ["News", "You clicked"]
