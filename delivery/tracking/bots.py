"""Who asks for the picture or a link of a mail: a person, Apple Mail by itself, or what only looks at it.

Mail programs that fetch pictures when somebody reads (Gmail's and Yahoo's proxies, Outlook) are people. What is not
known to be anything else is a person too.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta

from delivery.models import VisitorKind

# Nobody reads a mail and follows a link this soon after it was handed over.
TOO_SOON = timedelta(seconds=2)

# Apple's proxy says this and no more.
APPLE = re.compile(r"Mozilla/5\.0")
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
    # “Cubot” is a telephone.
    "|".join((*SCANNERS, *PREVIEWS, *map(re.escape, PROGRAMS), r"(?<!cu)bot\b", "crawler", "spider", "scanner")),
    re.IGNORECASE,
)
FETCHED_AHEAD = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")
AHEAD = re.compile(r"prefetch|prerender|preview", re.IGNORECASE)


def visitor_kind(headers: Mapping[str, str], *, method: str) -> VisitorKind:
    """Who asks, by what they say of themselves."""
    agent = headers.get("User-Agent", "").strip()
    if method != "GET" or not agent or MACHINES.search(agent):
        return VisitorKind.MACHINE
    if any(AHEAD.search(headers.get(name, "")) for name in FETCHED_AHEAD):
        return VisitorKind.MACHINE
    return VisitorKind.PRIVACY if APPLE.fullmatch(agent) else VisitorKind.PERSON


def is_too_soon(*, sent_at: datetime | None, at: datetime) -> bool:
    """Whether no person can have read it yet; of one whose worker has not written down that it went nobody knows."""
    return sent_at is not None and at - sent_at < TOO_SOON
