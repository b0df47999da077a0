"""Liquid for messages: the allowed tags and filters, and the limits that make hostile content harmless.

A template cannot include other templates, read the clock or output unescaped HTML. Its output depends only on its text
and the values, so a copy can be rendered again later with the same result.
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
    """Render context that limits the work of one rendering."""

    __slots__ = ("steps",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.steps = 0
        super().__init__(*args, **kwargs)
        # Without Liquid's "now" and "today", so that the output does not depend on the time.
        self.scope = ReadOnlyChainMap(self.locals, self.globals, self.counters)

    # Liquid reads the disabled tags once for each node that it renders, so this is the place to count all work.
    @property
    def disabled_tags(self) -> list[str]:
        self.count_steps(1)
        return []

    @disabled_tags.setter
    def disabled_tags(self, tags: list[str]) -> None:
        """Do nothing: forbidden tags are not registered, so none has to be disabled while rendering."""

    def count_steps(self, steps: int) -> None:
        self.steps += steps
        if self.steps > MAX_RENDER_STEPS:
            raise LoopIterationLimitError("loop iteration limit reached", token=None)

    def raise_for_loop_limit(self, length: int = 1) -> None:
        # Check before the loop begins, because a reversed loop copies all its items at once.
        if self.steps + length > MAX_RENDER_STEPS:
            raise LoopIterationLimitError("loop iteration limit reached", token=None)

    def assign(self, key: str, val: Any) -> None:
        self.count_steps(1 + len(self.locals) // 10)
        super().assign(key, val)

    def filter(self, name: str, token: Token | None) -> Callable[..., object]:
        function = super().filter(name, token)

        def bounded(value: object, *args: object, **kwargs: object) -> object:
            sized = [given for given in (value, *args) if isinstance(given, str | list | range)]
            self.count_steps(1 + sum(len(given) // 200 for given in sized))
            result = function(value, *args, **kwargs)
            # A customer's own values may have any length. Only results of filters are limited.
            if result is not value:
                _check_value_size(result)
            return result

        return bounded

    def get_item(self, obj: Any, key: Any) -> Any:
        # Otherwise `company.size` of a company without a size would be the number of its other fields.
        return obj[key] if isinstance(obj, Mapping) else super().get_item(obj, key)

    def get_buffer(self, buf: Any = None) -> StringIO:
        return LimitedStringIO(limit=MAX_OUTPUT_LENGTH - getattr(buf, "size", 0), newline="")


class LimitedTemplate(BoundTemplate):
    context_class = LimitedContext

    def _get_buffer(self) -> StringIO:
        return LimitedStringIO(limit=MAX_OUTPUT_LENGTH, newline="")


class LiquidEnvironment(Environment):
    """Liquid with only the allowed tags and filters."""

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
    """Format a moment as a date ("3 May 2024") or with `how`. Text that is not a date is returned unchanged."""
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
    """Return a web, email or phone link. Add "https://" to a bare host name; return "#" for anything else."""
    link = (value if isinstance(value, str) else to_liquid_string(value, autoescape=False)).strip()
    if LINK_WITH_SCHEME.match(link):
        return link
    return "https://" + link if HOST_WITHOUT_SCHEME.match(link) else type(link)("#")


@liquid_filter
def replace(value: object, old: object, new: object = "") -> str:
    """Replace `old` by `new`. Check the length before replacing, so that a huge result is never built."""
    text, old, new = (v if isinstance(v, str) else to_liquid_string(v, autoescape=False) for v in (value, old, new))
    if text.count(old) * len(new) > MAX_VALUE_LENGTH:
        raise LocalNamespaceLimitError("local namespace limit reached", token=None)
    return text.replace(old, new)


@liquid_filter
def join(value: object, separator: str = " ") -> str:
    """Join the items, with the same length check as `replace`."""
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
        raise FilterArgumentError("A number is too large.", token=None)


TEXT_LIQUID = LiquidEnvironment()
HTML_LIQUID = LiquidEnvironment(autoescape=True)
