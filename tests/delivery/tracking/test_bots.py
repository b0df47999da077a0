"""Bot detection: people, Apple Mail Privacy Protection and machines."""

import pytest

from delivery.models import VisitorKind
from delivery.tracking import bots

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36"
PEOPLE = [
    CHROME,
    # The real browser whose user agent Gmail's prefetch extends.
    bots.GMAIL_PREFETCH.removesuffix(" Mozilla/5.0"),
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Linux; Android 12; CUBOT NOTE 30) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile",
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
    "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
    "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.17628; Pro)",
    "Mozilla/5.0 (X11; Linux x86_64; rv:115.0) Gecko/20100101 Thunderbird/115.12.0",
]
MACHINES = [
    "",
    "BarracudaCentral/1.0",
    "Barracuda Sentinel (EE)",
    "Mozilla/5.0 (compatible; Proofpoint URL Defense)",
    "Mimecast-URL-Protect/2.0",
    "Microsoft-SafeLinks/1.0",
    "Microsoft Office Existence Discovery",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 HeadlessChrome/126.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/534+ (KHTML, like Gecko) BingPreview/1.0b",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "curl/8.5.0",
    "python-requests/2.32.3",
    "Go-http-client/2.0",
    bots.GMAIL_PREFETCH,
]


@pytest.mark.parametrize("agent", PEOPLE)
def test_person(agent):
    assert bots.visitor_kind({"User-Agent": agent}, method="GET") is VisitorKind.PERSON


@pytest.mark.parametrize("agent", MACHINES)
def test_machine(agent):
    assert bots.visitor_kind({"User-Agent": agent}, method="GET") is VisitorKind.MACHINE


def test_apple_mail_proxy_is_privacy_protection():
    assert bots.visitor_kind({"User-Agent": "Mozilla/5.0"}, method="GET") is VisitorKind.PRIVACY


@pytest.mark.parametrize(
    "header",
    [{"Sec-Purpose": "prefetch"}, {"Purpose": "prefetch;prerender"}, {"X-Purpose": "preview"}, {"X-Moz": "prefetch"}],
)
def test_prefetch_is_a_machine(header):
    assert bots.visitor_kind({"User-Agent": CHROME, **header}, method="GET") is VisitorKind.MACHINE


def test_head_request_is_a_machine():
    assert bots.visitor_kind({"User-Agent": CHROME}, method="HEAD") is VisitorKind.MACHINE
