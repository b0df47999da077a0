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

from messaging.content.liquid import HTML_LIQUID, MAX_OUTPUT_LENGTH, TEXT_LIQUID, LiquidEnvironment, safe_link
from messaging.content.parser import ContentError, parse_template, render_template, unescape_liquid
from messaging.content.plain_text import html_to_text
from messaging.content.sanitize import ProtectedHtml, map_attributes, sanitise_rendered
from messaging.content.variables import UNSUBSCRIBE_URL, nest_values, variable_path

TextRenderer = Callable[[Mapping[str, object]], str]

TRACKING_CLICK = "tracking.click"
TRACKING_OPEN = "tracking.open"
DEFAULT_FILTERS = {"default", "fallback"}
WEB_ADDRESS = re.compile(r"https?://[^\s/?#\\{@]+(?:[/?#]|$)", re.IGNORECASE)
# An address of a website or of an app, of which no variable says where it leads.
PUSH_LINK = re.compile(r"(?:https?://[^\s/?#\\{@]+(?:[/?#]|$)|(?!https?:)[a-z][a-z0-9+.-]*://[^\s{]*)", re.IGNORECASE)
BLOCKED_SCHEMES = {"javascript", "data", "vbscript", "file", "content", "intent"}
INVALID_PUSH_LINK = (
    "Write the whole address, like https://shop.example/orders or myapp://orders; variables may follow the host."
)
LIQUID_PIECE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
LINK_WHITESPACE = re.compile(r"[\s\x00-\x1f\x7f]+")
SUBJECT_WHITESPACE = re.compile(r"[\s\x00-\x1f\x7f]+")
EXTRA_EMPTY_LINES = re.compile(r"\n(?:[ \t]*\n){2,}")
LINK_COLOUR = "#0b5cad"
STYLE = """
p { margin: 0 0 16px } h1, h2, h3 { margin: 24px 0 12px; line-height: 1.3 }
ul, ol { margin: 0 0 16px; padding-left: 24px } a { color: #0b5cad } img { max-width: 100%; border: 0 }
hr { border: 0; border-top: 1px solid #d9dee3; margin: 24px 0 }
blockquote { margin: 0 0 16px; padding-left: 12px; border-left: 3px solid #d9dee3 }
pre { margin: 0 0 16px; padding: 12px; background-color: #f3f5f7; white-space: pre-wrap }
"""
DOCUMENT_START = (
    '<!doctype html>\n<html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    '</head><body style="margin:0;padding:24px;color:#1f2933;'
    "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;font-size:16px;line-height:1.5\">"
    '<div style="max-width:600px;margin:0 auto">\n'
)
DOCUMENT_END = "\n</div></body></html>\n"
BRANDED_DOCUMENT_START = (
    '<!doctype html>\n<html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    '</head><body style="margin:0;padding:24px 12px;background-color:#f3f5f7;color:#1f2933;'
    "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;font-size:16px;line-height:1.5\">"
    '<div style="max-width:560px;margin:0 auto;padding:32px 24px;background-color:#ffffff;'
    'border-top:4px solid {colour};border-radius:6px">\n'
)


class RenderTarget(StrEnum):
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

    subject: TextRenderer
    html: TextRenderer
    text: TextRenderer
    # Where its links to websites lead, by number, their variables still in them: those of a tracked email, and
    # those of what is shown inside a page, which itself tells us which of them was followed.
    links: tuple[str, ...] = ()
    # Where a push leads; None where nothing is written.
    link: TextRenderer | None = None

    def render(self, filled: Mapping[str, object]) -> Rendered:
        """The copy for the person of whom these values (from `fill`, by dotted names) are known; or ContentError."""
        text = self.text(filled)
        return Rendered(
            subject=SUBJECT_WHITESPACE.sub(" ", self.subject(filled)).strip(),
            html=self.html(filled),
            text=EXTRA_EMPTY_LINES.sub("\n\n", text).strip() if "\n\n\n" in text or " \n" in text else text,
            link=LINK_WHITESPACE.sub("", self.link(filled)) if self.link else "",
        )


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one value goes: into which part, which variable, what where it is unknown, empty or false."""

    part: int
    name: str
    default: str | None
    is_link: bool


@dataclass(frozen=True, slots=True)
class SlotTemplate:
    """Literal pieces with places between them."""

    parts: tuple[str, ...]
    places: tuple[Slot, ...]
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
        if len(filled_in) > MAX_OUTPUT_LENGTH // 4 and len(filled_in.encode()) > MAX_OUTPUT_LENGTH:
            raise ContentError("It grows too long.")
        return filled_in


def compile_version(
    subject: str,
    body: str,
    *,
    target: RenderTarget,
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
    protected = ProtectedHtml.of(body + footer)
    cleaned = protected.with_safe_links(protected.cleaned())
    links = list(known_links)
    shown = _add_tracking(protected, cleaned, links) if tracked else cleaned
    if target is RenderTarget.FRAGMENT:
        _replace_web_links(protected, cleaned, links, lambda number: None)
    dressed = HTML_COMPILERS[target](protected, sanitise_rendered(header) + shown if header else shown, colour)
    return Compiled(
        subject=_compile_text(unescape_liquid(subject), TEXT_LIQUID),
        html=dressed,
        text=_compile_text(protected.restored(html_to_text(cleaned)), TEXT_LIQUID),
        links=tuple(links),
        link=_compile_text(link, TEXT_LIQUID) if link else None,
    )


def variables_without_default(text: str) -> frozenset[str]:
    """The variables that leave a gap where they are unknown; none where the text is more than variables."""
    places = compile_to_slots(parse_template(unescape_liquid(text), TEXT_LIQUID))
    return frozenset(place.name for place in places.places if place.default is None) if places else frozenset()


def is_push_link(text: str) -> bool:
    """Whether a push may lead there."""
    bare = LIQUID_PIECE.sub("", text)
    return (
        bool(PUSH_LINK.match(text))
        and not re.search(r"\s", bare)
        and text.partition(":")[0].lower() not in BLOCKED_SCHEMES
    )


def _add_tracking(protected: ProtectedHtml, cleaned: str, links: list[str]) -> str:
    """The HTML whose links lead over us first, with the picture that tells of an opening; `links` takes where to."""
    led = _replace_web_links(
        protected, cleaned, links, lambda number: protected.word("{{ " + TRACKING_CLICK + " }}") + str(number)
    )
    picture = protected.word("{{ " + TRACKING_OPEN + " }}")
    return led + f'<img src="{picture}" width="1" height="1" alt="">'


def _replace_web_links(
    protected: ProtectedHtml, cleaned: str, links: list[str], instead: Callable[[int], str | None]
) -> str:
    """The HTML with what stands instead of each link to a website, by its number; `links` takes where they lead."""

    def numbered(tag: str, name: str, value: str) -> str:
        address = protected.restored(html.unescape(value))
        # Where a variable says which website it is, it leads there by itself: whoever sets a variable must not choose
        # where our own address leads to.
        if (tag, name) != ("a", "href") or not WEB_ADDRESS.match(address) or UNSUBSCRIBE_URL in address:
            return value
        if address not in links:
            links.append(address)
        led = instead(links.index(address))
        return value if led is None else led

    return map_attributes(cleaned, numbered)


def link_destination(address: str, filled: Mapping[str, object]) -> str:
    """Where a tracked link leads this person, always on the website it was written for; or ContentError."""
    if not WEB_ADDRESS.match(address):
        raise ContentError("This link leads nowhere.")
    return _link_renderer(address)(filled)


@lru_cache(maxsize=2000)
def _link_renderer(address: str) -> TextRenderer:
    return _compile_text(address, TEXT_LIQUID)


def _compile_email(protected: ProtectedHtml, cleaned: str, colour: str) -> TextRenderer:
    style = STYLE.replace(LINK_COLOUR, colour) if colour else STYLE
    inlined = css_inline.inline_fragment(cleaned, style, load_remote_stylesheets=False)
    before = BRANDED_DOCUMENT_START.replace("{colour}", colour) if colour else DOCUMENT_START
    return _compile_text(protected.restored(inlined), HTML_LIQUID, before=before, after=DOCUMENT_END)


def _compile_fragment(protected: ProtectedHtml, cleaned: str, _colour: str) -> TextRenderer:
    return _compile_text(protected.restored(cleaned), HTML_LIQUID)


def _compile_no_html(_protected: ProtectedHtml, _cleaned: str, _colour: str) -> TextRenderer:
    return _compile_text("", TEXT_LIQUID)


HTML_COMPILERS: dict[RenderTarget, Callable[[ProtectedHtml, str, str], TextRenderer]] = {
    RenderTarget.EMAIL: _compile_email,
    RenderTarget.FRAGMENT: _compile_fragment,
    RenderTarget.TEXT: _compile_no_html,
}


def _compile_text(source: str, language: LiquidEnvironment, *, before: str = "", after: str = "") -> TextRenderer:
    # Longer than what staff wrote: the style stands in each element.
    template = parse_template(source, language, longest=MAX_OUTPUT_LENGTH)
    places = compile_to_slots(template, before=before, after=after)
    return places or partial(_render_with_liquid, template, before, after)


def _render_with_liquid(template: BoundTemplate, before: str, after: str, filled: Mapping[str, object]) -> str:
    rendered = render_template(template, nest_values(filled))
    return f"{before}{sanitise_rendered(rendered)}{after}" if template.env.autoescape else rendered


def compile_to_slots(template: BoundTemplate, *, before: str = "", after: str = "") -> SlotTemplate | None:
    """The template as pieces and places, which read exactly as Liquid would have it; None where it is more."""
    parts, places = [before], []
    for node in template.nodes:
        if isinstance(node, ContentNode):
            parts.append(node.text)
        elif isinstance(node, OutputNode) and (place := _slot_of(node.expression, len(parts), template.env)):
            places.append(place)
            parts.append("")
        else:
            return None
    return SlotTemplate((*parts, after), tuple(places), escaped=template.env.autoescape)


def _slot_of(expression: object, part: int, language: Environment) -> Slot | None:
    if not isinstance(expression, FilteredExpression) or not isinstance(expression.left, Path):
        return None
    path, filters, default = expression.left.path, list(expression.filters or ()), None
    name = ".".join(map(str, path))
    if variable_path(name) != path:
        return None
    if filters and filters[0].name in DEFAULT_FILTERS:
        given = filters.pop(0).args
        text = given[0].value if len(given) == 1 and isinstance(given[0], PositionalArgument) else None
        # In HTML Liquid takes a literal for HTML, which has to be made safe where it stands.
        if not isinstance(text, StringLiteral) or (language.autoescape and escape(text.value) != text.value):
            return None
        default = text.value
    is_link = bool(filters) and filters[0].name == "safe_link" and not filters.pop(0).args
    return None if filters else Slot(part, name, default, is_link)
