"""Sanitising of rich text: the HTML and the links that a message may contain.

Placeholders replace the Liquid while the HTML is processed, so that HTML tools do not change it.
"""

import html
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import nh3

from messaging.content.liquid import MAX_OUTPUT_LENGTH
from messaging.content.parser import MAX_SOURCE_LENGTH, ContentError, map_pieces, unescape_piece
from messaging.content.plain_text import BLOCKS

TAGS = BLOCKS | {
    *("a", "b", "br", "caption", "center", "code", "del", "em", "figcaption", "figure", "i", "img", "li", "s", "small"),
    *("span", "strike", "strong", "sub", "sup", "tbody", "td", "tfoot", "th", "thead", "tr", "u"),
}
ATTRIBUTES = {
    "*": {"style", "align", "dir", "lang", "title"},
    "a": {"href"},
    "img": {"src", "alt", "width", "height"},
    "ol": {"start"},
    "table": {"border", "cellpadding", "cellspacing", "width", "bgcolor", "role"},
    "td": {"colspan", "rowspan", "width", "height", "valign", "bgcolor"},
    "th": {"colspan", "rowspan", "width", "height", "valign", "bgcolor"},
    "tr": {"valign", "bgcolor"},
}
STYLES = {
    *("background", "background-color", "border", "border-bottom", "border-collapse", "border-color", "border-left"),
    *("border-radius", "border-right", "border-spacing", "border-style", "border-top", "border-width", "color"),
    *("display", "font-family", "font-size", "font-style", "font-weight", "height", "letter-spacing", "line-height"),
    *("list-style-type", "margin", "margin-bottom", "margin-left", "margin-right", "margin-top", "max-width"),
    *("min-width", "overflow-wrap", "padding", "padding-bottom", "padding-left", "padding-right", "padding-top"),
    *("text-align", "text-decoration", "text-indent", "text-transform", "vertical-align", "white-space", "width"),
}
# A function can load an address (`url`, `image-set`) or, in old mail programs, run code (`expression`). An escape can
# hide its name.
SAFE_FUNCTIONS = ("calc", "hsl", "hsla", "rgb", "rgba")
UNSAFE_DECLARATION = re.compile("".join(rf"(?<!\b{name})" for name in SAFE_FUNCTIONS) + r"\(|[\\@<>]", re.IGNORECASE)
SCHEMES = {"http", "https", "mailto", "tel"}
RULES: dict[str, Any] = {
    "tags": TAGS,
    "attributes": ATTRIBUTES,
    "filter_style_properties": STYLES,
    "url_schemes": SCHEMES,
    "clean_content_tags": {"script", "style", "title", "textarea", "template", "noscript", "iframe", "svg", "math"},
}
URL_ATTRIBUTES = {"href", "src"}
# The part of an address before its first variable determines its scheme, or that it is relative.
FIXED_SCHEME = re.compile(r"\s*(?:https?:|mailto:|tel:|[^:]*[/?#])", re.IGNORECASE)
TAG = re.compile(r"""<[a-zA-Z/](?:[^"'<>]|"[^"]*"|'[^']*')*>""")
ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')
VOID = re.compile(r"<(?:br|hr|img)\b")
MAX_TAGS = 10_000
MAX_NESTING = 100
COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)


def filter_style(_tag: str, name: str, value: str) -> str | None:
    """Return the value of an attribute; of a style, the declarations that neither load an address nor run code."""
    if name != "style" or not UNSAFE_DECLARATION.search(value):
        return value
    return ";".join(one for one in value.split(";") if not UNSAFE_DECLARATION.search(one)) or None


CLEANER = nh3.Cleaner(attribute_filter=filter_style, **RULES)


@dataclass
class ProtectedHtml:
    """HTML in which a placeholder word replaces each piece of Liquid; a comment, for Liquid tags between elements."""

    html: str
    pieces: list[str] = field(default_factory=list)
    prefix: str = "lq0q"

    @classmethod
    def from_source(cls, source: str) -> "ProtectedHtml":
        check_size(source)
        taken = set(re.findall(r"lq\d+q", source.lower()))
        protected = cls("", prefix=next(prefix for n in count() if (prefix := f"lq{n}q") not in taken))
        source = map_pieces(source, lambda piece: protected.add_placeholder(unescape_piece(piece)))
        protected.html = _map_outside_tags(COMMENT.sub("", source), protected.hide_tags)
        return protected

    @property
    def placeholders(self) -> re.Pattern[str]:
        return re.compile(rf"<!--{self.prefix}(\d{{1,6}})z-->|{self.prefix}(\d{{1,6}})z")

    def add_placeholder(self, piece: str) -> str:
        """Store a piece of Liquid and return its placeholder."""
        self.pieces.append(piece)
        return f"{self.prefix}{len(self.pieces) - 1}z"

    def hide_tags(self, text: str) -> str:
        # An HTML parser moves text out of tables, but leaves comments in place.
        return self.placeholders.sub(lambda m: f"<!--{m[0]}-->" if self.piece_of(m).startswith("{%") else m[0], text)

    def piece_of(self, word: re.Match[str]) -> str:
        number = int(word[1] or word[2])
        return self.pieces[number] if number < len(self.pieces) else word[0]

    def restore_liquid(self, text: str, write: Callable[[str], str] = str) -> str:
        """Replace the placeholders by their Liquid, each piece converted by `write`."""
        return self.placeholders.sub(lambda word: write(self.piece_of(word)), text)

    def cleaned_html(self) -> str:
        """Return the HTML without forbidden elements, attributes, styles and comments."""

        def filter_attribute(tag: str, name: str, value: str) -> str | None:
            word = self.placeholders.search(value)
            if word and name == "style":
                return None
            if word and name in URL_ATTRIBUTES and word.start() and not FIXED_SCHEME.match(value[: word.start()]):
                return None
            return filter_style(tag, name, value)

        cleaned = nh3.clean(self.html, attribute_filter=filter_attribute, strip_comments=False, **RULES)
        check_nesting(cleaned)
        return COMMENT.sub(lambda m: m[0] if self.placeholders.fullmatch(m[0]) else "", cleaned)

    def with_safe_links(self, cleaned: str) -> str:
        """Return the HTML with the filter `safe_link` on each address that begins with a variable."""

        def safe(_tag: str, name: str, value: str) -> str:
            word = self.placeholders.match(value)
            output = word and re.fullmatch(r"(\{\{-?)(.*?)(-?\}\})", self.piece_of(word), re.DOTALL)
            if name not in URL_ATTRIBUTES or not word or not output:
                return value
            return self.add_placeholder(f"{output[1]}{output[2]} | safe_link {output[3]}") + value[word.end() :]

        return map_attributes(cleaned, safe)


def sanitise(source: str) -> str:
    """Remove all HTML that could run code, track or break out of the message. Liquid is unchanged.

    Raise ContentError if the text is too long or too deeply nested.
    """
    protected = ProtectedHtml.from_source(source)
    cleaned = protected.cleaned_html()
    in_tags = TAG.sub(lambda tag: protected.restore_liquid(tag[0], lambda piece: html.escape(piece)), cleaned)
    return protected.restore_liquid(in_tags, lambda piece: html.escape(piece, quote=False))


def sanitise_rendered(rendered: str) -> str:
    """Sanitise rendered HTML again, because values and Liquid output are not trusted either."""
    check_size(rendered, max_length=MAX_OUTPUT_LENGTH)
    return CLEANER.clean(rendered)


def check_size(source: str, max_length: int = MAX_SOURCE_LENGTH) -> None:
    """Raise ContentError for HTML that would take too long to process."""
    if len(source) > max_length:
        raise ContentError(f"The text is longer than {max_length:,} characters.")
    if source.count("<") > MAX_TAGS:
        raise ContentError(f"The text has more than {MAX_TAGS:,} HTML tags.")


def check_nesting(cleaned: str) -> None:
    """Raise ContentError for deeply nested elements, on which the CSS inliner would crash."""
    depth = 0
    for tag in TAG.finditer(cleaned):
        depth += -1 if tag[0].startswith("</") else VOID.match(tag[0]) is None
        if depth > MAX_NESTING:
            raise ContentError(f"The HTML elements are nested more than {MAX_NESTING} deep.")


def map_attributes(source: str, change: Callable[[str, str, str], str]) -> str:
    """Return the HTML with each attribute's value, still escaped, replaced by `change(tag, name, value)`."""

    def changed(tag: re.Match[str]) -> str:
        name = re.match(r"</?([\w-]+)", tag[0])[1]  # type: ignore[index]
        return ATTRIBUTE.sub(lambda a: f'{a[1]}="{change(name, a[1], a[2])}"', tag[0])

    return TAG.sub(changed, source)


def paragraphs_html(text: str) -> str:
    """Convert plain text to rich text: empty lines separate paragraphs, line breaks become <br>."""
    parts = re.split(r"\n\s*\n", text.strip().replace("\r\n", "\n"))
    return "".join(f"<p>{html.escape(part, quote=False).replace(chr(10), '<br>')}</p>" for part in parts if part)


def _map_outside_tags(source: str, change: Callable[[str], str]) -> str:
    parts, position = [], 0
    for tag in TAG.finditer(source):
        parts += [change(source[position : tag.start()]), tag[0]]
        position = tag.end()
    return "".join(parts) + change(source[position:])
