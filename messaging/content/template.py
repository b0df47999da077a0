"""What is the same for everybody is done once per version; what is left is filled in per person.

A text of nothing but `{{ variable }}` and `{{ variable | default: "text" }}`, which is nearly every text, becomes its
literal pieces with places between them. Any other is left to Liquid, and its HTML is made safe again once filled in.
"""

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache, partial

import css_inline
from liquid import BoundTemplate, Environment
from liquid.builtin.content import ContentNode
from liquid.builtin.expressions import FilteredExpression, Path, PositionalArgument, StringLiteral
from liquid.builtin.output import OutputNode
from liquid.stringify import to_liquid_string
from markupsafe import escape

from messaging.content.liquid import HTML, LONGEST_OUTPUT, TEXT, Language, safe_link
from messaging.content.parser import ContentError, as_written, parse, render
from messaging.content.plain_text import as_text
from messaging.content.sanitize import Protected, clean_rendered, each_attribute
from messaging.content.variables import UNSUBSCRIBE_URL, nested, path_of

Fill = Callable[[Mapping[str, object]], str]

TRACKING_CLICK = "tracking.click"
TRACKING_OPEN = "tracking.open"
DEFAULTS = {"default", "fallback"}
A_WEBSITE = re.compile(r"https?://[^\s/?#\\{@]+(?:[/?#]|$)", re.IGNORECASE)
# An address of a website or of an app, of which no variable says where it leads.
A_LINK = re.compile(r"(?:https?://[^\s/?#\\{@]+(?:[/?#]|$)|(?!https?:)[a-z][a-z0-9+.-]*://[^\s{]*)", re.IGNORECASE)
HARMFUL = {"javascript", "data", "vbscript", "file", "content", "intent"}
NO_LINK = "Write the whole address, like https://shop.example/orders or myapp://orders; variables may follow the host."
A_VARIABLE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
NOT_IN_A_LINK = re.compile(r"[\s\x00-\x1f\x7f]+")
NOT_IN_A_SUBJECT = re.compile(r"[\s\x00-\x1f\x7f]+")
MANY_EMPTY_LINES = re.compile(r"\n(?:[ \t]*\n){2,}")
LINK_COLOUR = "#0b5cad"
STYLE = """
p { margin: 0 0 16px } h1, h2, h3 { margin: 24px 0 12px; line-height: 1.3 }
ul, ol { margin: 0 0 16px; padding-left: 24px } a { color: #0b5cad } img { max-width: 100%; border: 0 }
hr { border: 0; border-top: 1px solid #d9dee3; margin: 24px 0 }
blockquote { margin: 0 0 16px; padding-left: 12px; border-left: 3px solid #d9dee3 }
pre { margin: 0 0 16px; padding: 12px; background-color: #f3f5f7; white-space: pre-wrap }
"""
BEFORE = (
    '<!doctype html>\n<html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    '</head><body style="margin:0;padding:24px;color:#1f2933;'
    "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;font-size:16px;line-height:1.5\">"
    '<div style="max-width:600px;margin:0 auto">\n'
)
AFTER = "\n</div></body></html>\n"
BRANDED = (
    '<!doctype html>\n<html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    '</head><body style="margin:0;padding:24px 12px;background-color:#f3f5f7;color:#1f2933;'
    "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;font-size:16px;line-height:1.5\">"
    '<div style="max-width:560px;margin:0 auto;padding:32px 24px;background-color:#ffffff;'
    'border-top:4px solid {colour};border-radius:6px">\n'
)


class Layout(StrEnum):
    """How a version is dressed."""

    EMAIL = "email"  # a whole HTML document with its style inlined, and a text part
    FRAGMENT = "fragment"  # HTML to be shown inside a page, and its text
    TEXT = "text"  # text only


@dataclass(frozen=True, slots=True)
class Rendered:
    """One person's copy. `html` is empty where the layout has none."""

    subject: str
    html: str
    text: str
    # Where a push leads.
    link: str = ""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A version ready to be filled in. It depends on no data of today: the same values read the same for ever."""

    subject: Fill
    html: Fill
    text: Fill
    # Where its links to websites lead, by number, their variables still in them: those of a tracked email, and
    # those of what is shown inside a page, which itself tells us which of them was followed.
    links: tuple[str, ...] = ()
    # Where a push leads; None where nothing is written.
    link: Fill | None = None

    def render(self, filled: Mapping[str, object]) -> Rendered:
        """The copy for the person of whom these values (from `fill`, by dotted names) are known; or ContentError."""
        text = self.text(filled)
        return Rendered(
            subject=NOT_IN_A_SUBJECT.sub(" ", self.subject(filled)).strip(),
            html=self.html(filled),
            text=MANY_EMPTY_LINES.sub("\n\n", text).strip() if "\n\n\n" in text or " \n" in text else text,
            link=NOT_IN_A_LINK.sub("", self.link(filled)) if self.link else "",
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where one value goes: into which part, which variable, what where it is unknown, empty or false."""

    part: int
    name: str
    default: str | None
    is_link: bool


@dataclass(frozen=True, slots=True)
class Places:
    """Literal pieces with places between them."""

    parts: tuple[str, ...]
    places: tuple[Place, ...]
    escaped: bool

    def __call__(self, filled: Mapping[str, object]) -> str:
        parts = list(self.parts)
        for place in self.places:
            value = filled.get(place.name)
            if place.default is not None and (value is None or value is False or value == ""):
                value = place.default
            text = value if isinstance(value, str) else to_liquid_string(value, autoescape=False)
            if place.is_link:
                text = safe_link(text)
            parts[place.part] = escape(text) if self.escaped else text
        filled_in = "".join(parts)
        if len(filled_in) > LONGEST_OUTPUT // 4 and len(filled_in.encode()) > LONGEST_OUTPUT:
            raise ContentError("It grows too long.")
        return filled_in


def compile_version(
    subject: str,
    body: str,
    *,
    layout: Layout,
    footer: str = "",
    tracked: bool = False,
    known_links: Sequence[str] = (),
    header: str = "",
    colour: str = "",
    link: str = "",
) -> Compiled:
    """Do once all that is the same for everybody; ContentError where the content cannot be read.

    `subject` is plain text, `body` and `footer` are rich text, and so is `header`, which holds no variables. A tracked
    email reads two values more, which the delivery gives beside the others: `tracking.click` goes before the number of
    each link, `tracking.open` is the address of the picture that tells of an opening. `unsubscribe_url` is given the
    same way. A link keeps the number it has among `known_links`; the numbers of new ones go on from there.
    """
    protected = Protected.of(body + footer)
    cleaned = protected.with_safe_links(protected.cleaned())
    links = list(known_links)
    shown = _tracked(protected, cleaned, links) if tracked else cleaned
    if layout is Layout.FRAGMENT:
        _each_website(protected, cleaned, links, lambda number: None)
    dressed = LAYOUTS[layout](protected, clean_rendered(header) + shown if header else shown, colour)
    return Compiled(
        subject=_filler(as_written(subject), TEXT),
        html=dressed,
        text=_filler(protected.restored(as_text(cleaned)), TEXT),
        links=tuple(links),
        link=_filler(link, TEXT) if link else None,
    )


def without_default(text: str) -> frozenset[str]:
    """The variables that leave a gap where they are unknown; none where the text is more than variables."""
    places = as_places(parse(as_written(text), TEXT))
    return frozenset(place.name for place in places.places if place.default is None) if places else frozenset()


def is_link(text: str) -> bool:
    """Whether a push may lead there."""
    bare = A_VARIABLE.sub("", text)
    return bool(A_LINK.match(text)) and not re.search(r"\s", bare) and text.partition(":")[0].lower() not in HARMFUL


def _tracked(protected: Protected, cleaned: str, links: list[str]) -> str:
    """The HTML whose links lead over us first, with the picture that tells of an opening; `links` takes where to."""
    led = _each_website(
        protected, cleaned, links, lambda number: protected.word("{{ " + TRACKING_CLICK + " }}") + str(number)
    )
    picture = protected.word("{{ " + TRACKING_OPEN + " }}")
    return led + f'<img src="{picture}" width="1" height="1" alt="">'


def _each_website(protected: Protected, cleaned: str, links: list[str], instead: Callable[[int], str | None]) -> str:
    """The HTML with what stands instead of each link to a website, by its number; `links` takes where they lead."""

    def numbered(tag: str, name: str, value: str) -> str:
        address = protected.restored(html.unescape(value))
        # Where a variable says which website it is, it leads there by itself: whoever sets a variable must not choose
        # where our own address leads to.
        if (tag, name) != ("a", "href") or not A_WEBSITE.match(address) or UNSUBSCRIBE_URL in address:
            return value
        if address not in links:
            links.append(address)
        led = instead(links.index(address))
        return value if led is None else led

    return each_attribute(cleaned, numbered)


def destination(address: str, filled: Mapping[str, object]) -> str:
    """Where a tracked link leads this person, always on the website it was written for; or ContentError."""
    if not A_WEBSITE.match(address):
        raise ContentError("This link leads nowhere.")
    return _link(address)(filled)


@lru_cache(maxsize=2000)
def _link(address: str) -> Fill:
    return _filler(address, TEXT)


def _email(protected: Protected, cleaned: str, colour: str) -> Fill:
    style = STYLE.replace(LINK_COLOUR, colour) if colour else STYLE
    inlined = css_inline.inline_fragment(cleaned, style, load_remote_stylesheets=False)
    before = BRANDED.replace("{colour}", colour) if colour else BEFORE
    return _filler(protected.restored(inlined), HTML, before=before, after=AFTER)


def _fragment(protected: Protected, cleaned: str, _colour: str) -> Fill:
    return _filler(protected.restored(cleaned), HTML)


def _no_html(_protected: Protected, _cleaned: str, _colour: str) -> Fill:
    return _filler("", TEXT)


LAYOUTS: dict[Layout, Callable[[Protected, str, str], Fill]] = {
    Layout.EMAIL: _email,
    Layout.FRAGMENT: _fragment,
    Layout.TEXT: _no_html,
}


def _filler(source: str, language: Language, *, before: str = "", after: str = "") -> Fill:
    # Longer than what staff wrote: the style stands in each element.
    template = parse(source, language, longest=LONGEST_OUTPUT)
    places = as_places(template, before=before, after=after)
    return places or partial(_by_liquid, template, before, after)


def _by_liquid(template: BoundTemplate, before: str, after: str, filled: Mapping[str, object]) -> str:
    rendered = render(template, nested(filled))
    return f"{before}{clean_rendered(rendered)}{after}" if template.env.autoescape else rendered


def as_places(template: BoundTemplate, *, before: str = "", after: str = "") -> Places | None:
    """The template as pieces and places, which read exactly as Liquid would have it; None where it is more."""
    parts, places = [before], []
    for node in template.nodes:
        if isinstance(node, ContentNode):
            parts.append(node.text)
        elif isinstance(node, OutputNode) and (place := _place(node.expression, len(parts), template.env)):
            places.append(place)
            parts.append("")
        else:
            return None
    return Places((*parts, after), tuple(places), escaped=template.env.autoescape)


def _place(expression: object, part: int, language: Environment) -> Place | None:
    if not isinstance(expression, FilteredExpression) or not isinstance(expression.left, Path):
        return None
    path, filters, default = expression.left.path, list(expression.filters or ()), None
    name = ".".join(map(str, path))
    if path_of(name) != path:
        return None
    if filters and filters[0].name in DEFAULTS:
        given = filters.pop(0).args
        text = given[0].value if len(given) == 1 and isinstance(given[0], PositionalArgument) else None
        # In HTML Liquid takes a literal for HTML, which has to be made safe where it stands.
        if not isinstance(text, StringLiteral) or (language.autoescape and escape(text.value) != text.value):
            return None
        default = text.value
    is_link = bool(filters) and filters[0].name == "safe_link" and not filters.pop(0).args
    return None if filters else Place(part, name, default, is_link)
