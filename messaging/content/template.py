"""Compiled templates: a version is compiled once and rendered for each customer.

Most texts contain only `{{ variable }}` and `{{ variable | default: "text" }}`. They become a SlotTemplate, literal
parts with slots between them. Other texts are rendered by Liquid, and the resulting HTML is sanitised again.
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
# A web address or a deep link of an app, with no variable in its scheme or host.
PUSH_LINK = re.compile(r"(?:https?://[^\s/?#\\{@]+(?:[/?#]|$)|(?!https?:)[a-z][a-z0-9+.-]*://[^\s{]*)", re.IGNORECASE)
BLOCKED_SCHEMES = {"javascript", "data", "vbscript", "file", "content", "intent"}
INVALID_PUSH_LINK = (
    "Enter a full address such as https://shop.example/orders or myapp://orders. Variables may follow the host."
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
    """Output of a compiled version."""

    EMAIL = "email"  # An HTML document with inlined styles, and plain text.
    FRAGMENT = "fragment"  # HTML to show inside a page, and plain text.
    TEXT = "text"  # Plain text only.


@dataclass(frozen=True, slots=True)
class Rendered:
    """One customer's copy. `html` is empty for RenderTarget.TEXT."""

    subject: str
    html: str
    text: str
    # Target of a push.
    link: str = ""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A version ready to render. The output depends only on the values: no current data is read."""

    subject: TextRenderer
    html: TextRenderer
    text: TextRenderer
    # Destinations of its web links by number, with their variables: the links of a tracked email, and those of a
    # fragment, for which the page reports the clicks.
    links: tuple[str, ...] = ()
    # Target of a push; None if the version has none.
    link: TextRenderer | None = None

    def render(self, values: Mapping[str, object]) -> Rendered:
        """Render the copy with the values from `variable_values`, by dotted name. Raise ContentError if it fails."""
        text = self.text(values)
        return Rendered(
            subject=SUBJECT_WHITESPACE.sub(" ", self.subject(values)).strip(),
            html=self.html(values),
            text=EXTRA_EMPTY_LINES.sub("\n\n", text).strip() if "\n\n\n" in text or " \n" in text else text,
            link=LINK_WHITESPACE.sub("", self.link(values)) if self.link else "",
        )


@dataclass(frozen=True, slots=True)
class Slot:
    """A variable in a SlotTemplate: index of its part, name, and default for an unknown, empty or false value."""

    part: int
    name: str
    default: str | None
    is_link: bool


@dataclass(frozen=True, slots=True)
class SlotTemplate:
    """Literal parts with slots between them. Renders exactly as Liquid would."""

    parts: tuple[str, ...]
    slots: tuple[Slot, ...]
    escaped: bool

    def __call__(self, values: Mapping[str, object]) -> str:
        parts = list(self.parts)
        for slot in self.slots:
            value = values.get(slot.name)
            if slot.default is not None and (value is None or value is False or value == ""):
                value = slot.default
            text = value if isinstance(value, str) else to_liquid_string(value, autoescape=False)
            if slot.is_link:
                text = safe_link(text)
            parts[slot.part] = escape(text) if self.escaped else text
        rendered = "".join(parts)
        if len(rendered) > MAX_OUTPUT_LENGTH // 4 and len(rendered.encode()) > MAX_OUTPUT_LENGTH:
            raise ContentError("The output is too long.")
        return rendered


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
    """Compile a version. Raise ContentError if its content is invalid.

    `subject` is plain text; `body`, `footer` and `header` are rich text, `header` without variables. The caller of
    `render` supplies three more values: `unsubscribe_url` and, for a tracked email, `tracking.click` (prefix of each
    link, before its number) and `tracking.open` (address of the open pixel). Links in `known_links` keep their numbers;
    new links get the next ones.
    """
    protected = ProtectedHtml.from_source(body + footer)
    cleaned = protected.with_safe_links(protected.cleaned_html())
    links = list(known_links)
    body_html = _add_tracking(protected, cleaned, links) if tracked else cleaned
    if target is RenderTarget.FRAGMENT:
        _replace_web_links(protected, cleaned, links, lambda number: None)
    compiled_html = HTML_COMPILERS[target](
        protected, sanitise_rendered(header) + body_html if header else body_html, colour
    )
    return Compiled(
        subject=_compile_text(unescape_liquid(subject), TEXT_LIQUID),
        html=compiled_html,
        text=_compile_text(protected.restore_liquid(html_to_text(cleaned)), TEXT_LIQUID),
        links=tuple(links),
        link=_compile_text(link, TEXT_LIQUID) if link else None,
    )


def variables_without_default(text: str) -> frozenset[str]:
    """Return the variables without a default. Empty if the text contains other Liquid than plain variables."""
    slots = compile_to_slots(parse_template(unescape_liquid(text), TEXT_LIQUID))
    return frozenset(slot.name for slot in slots.slots if slot.default is None) if slots else frozenset()


def is_push_link(text: str) -> bool:
    """Return whether the text is a valid target of a push."""
    bare = LIQUID_PIECE.sub("", text)
    return (
        bool(PUSH_LINK.match(text))
        and not re.search(r"\s", bare)
        and text.partition(":")[0].lower() not in BLOCKED_SCHEMES
    )


def _add_tracking(protected: ProtectedHtml, cleaned: str, links: list[str]) -> str:
    """Return the HTML with tracked links and an open pixel. Append new destinations to `links`."""
    tracked = _replace_web_links(
        protected,
        cleaned,
        links,
        lambda number: protected.add_placeholder("{{ " + TRACKING_CLICK + " }}") + str(number),
    )
    picture = protected.add_placeholder("{{ " + TRACKING_OPEN + " }}")
    return tracked + f'<img src="{picture}" width="1" height="1" alt="">'


def _replace_web_links(
    protected: ProtectedHtml, cleaned: str, links: list[str], replacement: Callable[[int], str | None]
) -> str:
    """Replace each web link by `replacement(number)`, unless that is None. Append new destinations to `links`."""

    def replace_link(tag: str, name: str, value: str) -> str:
        address = protected.restore_liquid(html.unescape(value))
        # A link whose host comes from a variable is not tracked: a customer's data must not decide where a redirect
        # of our own domain leads (open redirect).
        if (tag, name) != ("a", "href") or not WEB_ADDRESS.match(address) or UNSUBSCRIBE_URL in address:
            return value
        if address not in links:
            links.append(address)
        new_value = replacement(links.index(address))
        return value if new_value is None else new_value

    return map_attributes(cleaned, replace_link)


def link_destination(address: str, values: Mapping[str, object]) -> str:
    """Return one customer's destination of a tracked link, always on the host written by staff. Raise ContentError."""
    if not WEB_ADDRESS.match(address):
        raise ContentError("This is not a web link.")
    return _link_renderer(address)(values)


@lru_cache(maxsize=2000)
def _link_renderer(address: str) -> TextRenderer:
    return _compile_text(address, TEXT_LIQUID)


def _compile_email(protected: ProtectedHtml, cleaned: str, colour: str) -> TextRenderer:
    style = STYLE.replace(LINK_COLOUR, colour) if colour else STYLE
    inlined = css_inline.inline_fragment(cleaned, style, load_remote_stylesheets=False)
    before = BRANDED_DOCUMENT_START.replace("{colour}", colour) if colour else DOCUMENT_START
    return _compile_text(protected.restore_liquid(inlined), HTML_LIQUID, before=before, after=DOCUMENT_END)


def _compile_fragment(protected: ProtectedHtml, cleaned: str, _colour: str) -> TextRenderer:
    return _compile_text(protected.restore_liquid(cleaned), HTML_LIQUID)


def _compile_no_html(_protected: ProtectedHtml, _cleaned: str, _colour: str) -> TextRenderer:
    return _compile_text("", TEXT_LIQUID)


HTML_COMPILERS: dict[RenderTarget, Callable[[ProtectedHtml, str, str], TextRenderer]] = {
    RenderTarget.EMAIL: _compile_email,
    RenderTarget.FRAGMENT: _compile_fragment,
    RenderTarget.TEXT: _compile_no_html,
}


def _compile_text(source: str, language: LiquidEnvironment, *, before: str = "", after: str = "") -> TextRenderer:
    # Allow more than MAX_SOURCE_LENGTH: inlined styles make the HTML longer than the source.
    template = parse_template(source, language, max_length=MAX_OUTPUT_LENGTH)
    slots = compile_to_slots(template, before=before, after=after)
    return slots or partial(_render_with_liquid, template, before, after)


def _render_with_liquid(template: BoundTemplate, before: str, after: str, values: Mapping[str, object]) -> str:
    rendered = render_template(template, nest_values(values))
    return f"{before}{sanitise_rendered(rendered)}{after}" if template.env.autoescape else rendered


def compile_to_slots(template: BoundTemplate, *, before: str = "", after: str = "") -> SlotTemplate | None:
    """Compile to a SlotTemplate; return None if the template contains other Liquid than plain variables."""
    parts, slots = [before], []
    for node in template.nodes:
        if isinstance(node, ContentNode):
            parts.append(node.text)
        elif isinstance(node, OutputNode) and (slot := _slot_of(node.expression, len(parts), template.env)):
            slots.append(slot)
            parts.append("")
        else:
            return None
    return SlotTemplate((*parts, after), tuple(slots), escaped=template.env.autoescape)


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
        # In HTML, Liquid does not escape literals, so a default that needs escaping is left to Liquid.
        if not isinstance(text, StringLiteral) or (language.autoescape and escape(text.value) != text.value):
            return None
        default = text.value
    is_link = bool(filters) and filters[0].name == "safe_link" and not filters.pop(0).args
    return None if filters else Slot(part, name, default, is_link)
