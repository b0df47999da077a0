"""Email layout: header, footer and colour of an email."""

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
    """Rich text before and after the content, and the colour of the top border. Empty values add nothing."""

    header: str = ""
    footer: str = ""
    colour: str = ""


def build_email_layout(stored: Mapping[str, str], *, unsubscribes: bool) -> EmailLayout:
    """Build the layout from the values stored in a version. `unsubscribes`: the text itself has an unsubscribe link."""
    if not stored:
        return EmailLayout()
    branded = stored.get("style") == "branded"
    address = escape_text(stored.get("address", "")) if branded else ""
    footer = " · ".join(part for part in (address, "" if unsubscribes else UNSUBSCRIBE_LINK) if part)
    colour = stored.get("colour", "")
    return EmailLayout(
        header=build_header(stored) if branded else "",
        footer=f'<p style="margin:32px 0 0;{FOOTER_STYLE}">{footer}</p>' if footer else "",
        colour=colour if branded and COLOUR.fullmatch(colour) else "",
    )


def build_header(stored: Mapping[str, str]) -> str:
    """Return the logo, or the name if there is no logo, as rich text."""
    name, logo = escape_text(stored.get("name", "")), escape_text(stored.get("logo", ""))
    if logo:
        return f'<p style="margin:0 0 24px"><img src="{logo}" alt="{name}" height="40"></p>'
    return f'<p style="margin:0 0 24px;font-size:18px;font-weight:600">{name}</p>' if name else ""


def escape_text(text: str) -> str:
    """Escape plain text for rich text, so that it contains neither HTML nor Liquid."""
    escaped = html.escape(" ".join(line.strip() for line in text.strip().splitlines()))
    return re.sub(r"\{(?=[{%])", "{\u200b", escaped)
