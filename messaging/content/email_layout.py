"""What an email wears beside its text: how it begins, how it ends, and its colour."""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass

from messaging.content.variables import UNSUBSCRIBE_URL

COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
SMALL = "font-size:13px;line-height:20px;color:#5b6770"
LINK = f'<a href="{{{{ {UNSUBSCRIBE_URL} }}}}" style="color:#5b6770;text-decoration:underline">Unsubscribe</a>'


@dataclass(frozen=True, slots=True, kw_only=True)
class Dress:
    """Rich text before and after what staff wrote, and the colour of the edge; all empty where there is none."""

    header: str = ""
    footer: str = ""
    colour: str = ""


def dress_of(stored: Mapping[str, str], *, unsubscribes: bool) -> Dress:
    """The dress as a version keeps it; `unsubscribes` says that its text has a link of its own."""
    if not stored:
        return Dress()
    branded = stored.get("style") == "branded"
    address = escape_text(stored.get("address", "")) if branded else ""
    last = " · ".join(part for part in (address, "" if unsubscribes else LINK) if part)
    colour = stored.get("colour", "")
    return Dress(
        header=header(stored) if branded else "",
        footer=f'<p style="margin:32px 0 0;{SMALL}">{last}</p>' if last else "",
        colour=colour if branded and COLOUR.fullmatch(colour) else "",
    )


def header(stored: Mapping[str, str]) -> str:
    """The logo, or the name where there is none."""
    name, logo = escape_text(stored.get("name", "")), escape_text(stored.get("logo", ""))
    if logo:
        return f'<p style="margin:0 0 24px"><img src="{logo}" alt="{name}" height="40"></p>'
    return f'<p style="margin:0 0 24px;font-size:18px;font-weight:600">{name}</p>' if name else ""


def escape_text(text: str) -> str:
    """Plain text as rich text in which nothing is a variable."""
    shown = html.escape(" ".join(line.strip() for line in text.strip().splitlines()))
    return re.sub(r"\{(?=[{%])", "{\u200b", shown)
