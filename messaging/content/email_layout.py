"""What an email wears beside its text: how it begins, how it ends, and its colour."""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass

from messaging.content.variables import UNSUBSCRIBE_URL

COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
FOOTER_STYLE = "font-size:13px;line-height:20px;color:#5b6770"
UNSUBSCRIBE_LINK = (
    f'<a href="{{{{ {UNSUBSCRIBE_URL} }}}}" style="color:#5b6770;text-decoration:underline">Unsubscribe</a>'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailLayout:
    """Rich text before and after what staff wrote, and the colour of the edge; all empty where there is none."""

    header: str = ""
    footer: str = ""
    colour: str = ""


def build_email_layout(stored: Mapping[str, str], *, unsubscribes: bool) -> EmailLayout:
    """The dress as a version keeps it; `unsubscribes` says that its text has a link of its own."""
    if not stored:
        return EmailLayout()
    branded = stored.get("style") == "branded"
    address = escape_text(stored.get("address", "")) if branded else ""
    last = " · ".join(part for part in (address, "" if unsubscribes else UNSUBSCRIBE_LINK) if part)
    colour = stored.get("colour", "")
    return EmailLayout(
        header=build_header(stored) if branded else "",
        footer=f'<p style="margin:32px 0 0;{FOOTER_STYLE}">{last}</p>' if last else "",
        colour=colour if branded and COLOUR.fullmatch(colour) else "",
    )


def build_header(stored: Mapping[str, str]) -> str:
    """The logo, or the name where there is none."""
    name, logo = escape_text(stored.get("name", "")), escape_text(stored.get("logo", ""))
    if logo:
        return f'<p style="margin:0 0 24px"><img src="{logo}" alt="{name}" height="40"></p>'
    return f'<p style="margin:0 0 24px;font-size:18px;font-weight:600">{name}</p>' if name else ""


def escape_text(text: str) -> str:
    """Plain text as rich text in which nothing is a variable."""
    shown = html.escape(" ".join(line.strip() for line in text.strip().splitlines()))
    return re.sub(r"\{(?=[{%])", "{\u200b", shown)
