"""The Liquid that messages are written in: its tags and filters, and the limits that keep a hostile text harmless.

Nothing here reaches outside: no other template, no clock, no HTML let through unescaped. What a text reads as depends
on the text and the values alone, so it reads the same for ever.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from io import StringIO
from typing import Any

from liquid import BoundTemplate, Environment, RenderContext, Token
from liquid.exceptions import FilterArgumentError, LocalNamespaceLimitError, LoopIterationLimitError
from liquid.filter import liquid_filter
from liquid.output import LimitedStringIO
from liquid.stringify import to_liquid_string
from liquid.undefined import is_undefined
from liquid.utils import ReadOnlyChainMap

MAX_OUTPUT_LENGTH = 1_000_000
MAX_VALUE_LENGTH = 20_000
MAX_RENDER_STEPS = 20_000
MAX_NUMBER = 10**30

BLOCK_TAGS = ("if", "unless", "case", "for", "capture", "comment")
TAGS = {*BLOCK_TAGS, "assign", "break", "continue", "#", "content", "output", "illegal"}
FILTERS = frozenset(
    "append capitalize date default downcase escape escape_once fallback first join last lstrip "  # noqa: SIM905
    "newline_to_br prepend "
    "remove remove_first replace replace_first rstrip safe_link size slice split squish strip strip_newlines truncate "
    "truncatewords upcase url_encode "
    "abs at_least at_most ceil divided_by floor minus modulo plus round times".split()
)


class LimitedContext(RenderContext):
    """What one rendering may see, and how much work it may do."""

    __slots__ = ("steps",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.steps = 0
        super().__init__(*args, **kwargs)
        # Without Liquid's "now" and "today": a text must read tomorrow as it reads today.
        self.scope = ReadOnlyChainMap(self.locals, self.globals, self.counters)

    # Liquid asks for the disabled tags once for every node it renders: the one place where all work passes.
    @property
    def disabled_tags(self) -> list[str]:
        self.spend(1)
        return []

    @disabled_tags.setter
    def disabled_tags(self, tags: list[str]) -> None:
        """No tag is disabled while rendering: those that may not be used do not exist."""

    def spend(self, steps: int) -> None:
        self.steps += steps
        if self.steps > MAX_RENDER_STEPS:
            raise LoopIterationLimitError("loop iteration limit reached", token=None)

    def raise_for_loop_limit(self, length: int = 1) -> None:
        # Before the loop begins: a loop may turn its items round, all of them at once.
        if self.steps + length > MAX_RENDER_STEPS:
            raise LoopIterationLimitError("loop iteration limit reached", token=None)

    def assign(self, key: str, val: Any) -> None:
        self.spend(1 + len(self.locals) // 10)
        super().assign(key, val)

    def filter(self, name: str, token: Token | None) -> Callable[..., object]:
        function = super().filter(name, token)

        def bounded(value: object, *args: object, **kwargs: object) -> object:
            self.spend(1 + sum(len(given) // 200 for given in (value, *args) if isinstance(given, str | list | range)))
            result = function(value, *args, **kwargs)
            # What is known of a customer may be as long as it is; only what a text makes of it is bounded.
            if result is not value:
                _check_value_size(result)
            return result

        return bounded

    def get_item(self, obj: Any, key: Any) -> Any:
        # Liquid's `.size` of a company without a size would be how many other facts are known of it.
        return obj[key] if isinstance(obj, Mapping) else super().get_item(obj, key)

    def get_buffer(self, buf: Any = None) -> StringIO:
        return LimitedStringIO(limit=MAX_OUTPUT_LENGTH - getattr(buf, "size", 0), newline="")


class LimitedTemplate(BoundTemplate):
    context_class = LimitedContext

    def _get_buffer(self) -> StringIO:
        return LimitedStringIO(limit=MAX_OUTPUT_LENGTH, newline="")


class LiquidEnvironment(Environment):
    """Liquid with our tags and filters only."""

    template_class = LimitedTemplate
    block_nesting_limit = 20
    context_depth_limit = 25
    local_namespace_limit = 10 * MAX_VALUE_LENGTH
    output_stream_limit = MAX_OUTPUT_LENGTH

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        super().setup_tags_and_filters(extra=extra)
        self.filters |= {"date": date, "safe_link": safe_link, "replace": replace, "join": join}
        self.filters["fallback"] = self.filters["default"]
        self.filters = {name: self.filters[name] for name in FILTERS}
        self.tags = {name: self.tags[name] for name in TAGS}


@liquid_filter
def date(value: object, how: str = "%-d %B %Y") -> str:
    """A moment as its day, "3 May 2024", or as `how` says; text that is no moment stays as it is."""
    if len(how) > 100 or not re.fullmatch(r"(?:[^%]|%-?[aAbBdeHIjlmMpSyYZz%])*", how, re.DOTALL):
        raise FilterArgumentError(f"A date cannot be written as {how!r}.", token=None)
    if value is None or is_undefined(value):
        return ""
    try:
        return datetime.fromisoformat(str(value)).strftime(how)
    except ValueError:
        return str(value)


LINK_WITH_SCHEME = re.compile(r"(?:https?://|mailto:|tel:)", re.IGNORECASE)
HOST_WITHOUT_SCHEME = re.compile(r"[\w-]+(?:\.[\w-]+)+(?:[:/?#]|$)")


@liquid_filter
def safe_link(value: object) -> str:
    """An address that can only lead to a page, a mail or a phone: "#" for anything else, "https://" where it lacks."""
    link = (value if isinstance(value, str) else to_liquid_string(value, autoescape=False)).strip()
    if LINK_WITH_SCHEME.match(link):
        return link
    return "https://" + link if HOST_WITHOUT_SCHEME.match(link) else type(link)("#")


@liquid_filter
def replace(value: object, old: object, new: object = "") -> str:
    """Every `old` in the value as `new`; what would grow too long is refused before it does."""
    text, old, new = (v if isinstance(v, str) else to_liquid_string(v, autoescape=False) for v in (value, old, new))
    if text.count(old) * len(new) > MAX_VALUE_LENGTH:
        raise LocalNamespaceLimitError("local namespace limit reached", token=None)
    return text.replace(old, new)


@liquid_filter
def join(value: object, separator: str = " ") -> str:
    """The items one after another, `separator` between them."""
    items = [v if isinstance(v, str) else to_liquid_string(v, autoescape=False) for v in _items(value)]
    if sum(map(len, items)) + len(items) * len(separator) > MAX_VALUE_LENGTH:
        raise LocalNamespaceLimitError("local namespace limit reached", token=None)
    return separator.join(items)


def _items(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple | range) else [value]


def _check_value_size(value: object) -> None:
    if isinstance(value, str | list | range) and len(value) > MAX_VALUE_LENGTH:
        raise LocalNamespaceLimitError("local namespace limit reached", token=None)
    if isinstance(value, int | float) and not -MAX_NUMBER < value < MAX_NUMBER:
        raise FilterArgumentError("A number grows too big.", token=None)


TEXT_LIQUID = LiquidEnvironment()
HTML_LIQUID = LiquidEnvironment(autoescape=True)
