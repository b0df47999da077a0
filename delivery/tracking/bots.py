"""Bot detection: whether a person, Apple Mail Privacy Protection or a machine requests a pixel or a link.

Proxies that fetch images when the recipient reads the email (Gmail, Yahoo, Outlook) count as people, and so does any
unknown client.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta

from delivery.models import VisitorKind

# No person follows a link this soon after the email was sent.
TOO_SOON = timedelta(seconds=2)

# The complete user agent with which Gmail's servers fetch images while the recipient's Gmail is open, before the
# recipient opens the email (https://www.sparkpost.com/blog/gmail-prefetching-images/, from billions of requests).
# Google's image proxy, which fetches them for a reader, has another one.
GMAIL_PREFETCH = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0"
)
# The complete user agent of Apple's proxy.
APPLE_PROXY = re.compile(r"Mozilla/5\.0")
SCANNERS = (
    *("barracuda", "proofpoint", "mimecast", "safelinks", "urlanalyzer", "existence discovery", "forcepoint", "sophos"),
    *("symantec", "messagelabs", "mcafee", "trellix", "fireeye", "trend ?micro", "ironport", "talos", "zscaler"),
    *("fortimail", "fortiguard", "checkpoint", "kaspersky", "bitdefender", "vade", "cloudmark", "zerofox"),
    *(
        "mailscanner",
        "spamassassin",
        "rspamd",
        "virustotal",
        "urlscan",
        "phishtank",
        "netcraft",
        "cyren",
        "trustwave",
        "sonicwall",
    ),
)
PREVIEWS = (
    *("bingpreview", "uripreview", "linkpreview", "google-safety", "slack-imgproxy", "facebookexternalhit", "whatsapp"),
    *("embedly", "iframely", "skypeuri", "slurp", "headless", "phantomjs", "playwright", "puppeteer", "selenium"),
)
PROGRAMS = (
    *("curl/", "wget", "python-", "python/", "aiohttp", "httpx", "go-http-client", "java/", "apache-httpclient"),
    *("okhttp", "libwww", "node-fetch", "axios", "guzzlehttp", "ruby", "perl", "scrapy", "postman"),
)
MACHINES = re.compile(
    # “Cubot” is a brand of phones.
    "|".join((*SCANNERS, *PREVIEWS, *map(re.escape, PROGRAMS), r"(?<!cu)bot\b", "crawler", "spider", "scanner")),
    re.IGNORECASE,
)
PREFETCH_HEADERS = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")
PREFETCH = re.compile(r"prefetch|prerender|preview", re.IGNORECASE)


def visitor_kind(headers: Mapping[str, str], *, method: str) -> VisitorKind:
    """Return the kind of client, by its request headers and method."""
    agent = headers.get("User-Agent", "").strip()
    if method != "GET" or not agent or agent == GMAIL_PREFETCH or MACHINES.search(agent):
        return VisitorKind.MACHINE
    if any(PREFETCH.search(headers.get(name, "")) for name in PREFETCH_HEADERS):
        return VisitorKind.MACHINE
    return VisitorKind.PRIVACY if APPLE_PROXY.fullmatch(agent) else VisitorKind.PERSON


def is_too_soon(*, sent_at: datetime | None, at: datetime) -> bool:
    """Tell whether no person can have read the email yet; False while its worker has not recorded `sent_at`."""
    return sent_at is not None and at - sent_at < TOO_SOON
