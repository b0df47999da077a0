"""The text of pages."""

import json
import re
from html import unescape


def as_page(html: str) -> str:
    """Return the text of a page on one line, without the menu and the choices of fields."""
    html = html.partition('<div id="main"')[2] or html
    # The error of a rule is in a script element; the page's script shows it beside the rule.
    html = re.sub(r'<script id="rule-sentence"[^>]*>(.*?)</script>', lambda found: json.loads(found[1]), html)
    html = re.sub(r"<(script|style|select|template)\b.*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def as_words(html: str) -> str:
    return unescape(re.sub(r"<[^>]+>", "", html)).strip()


def field_of(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, f"no field {name}"
    return unescape(found[1])
