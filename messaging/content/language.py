"""The Liquid that messages are written in: its tags and filters, and the limits that keep a hostile text harmless.

Nothing here reaches outside: no other template, no clock, no HTML let through unescaped. What a text reads as depends
on the text and the values alone, so it reads the same for ever.
"""

import html
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from io import StringIO
from typing import Any

from liquid import BoundTemplate, Environment, RenderContext, Token
from liquid.ast import Node
from liquid.builtin.expressions import Path
from liquid.builtin.expressions.primitive import IntegerLiteral, RangeLiteral
from liquid.exceptions import FilterArgumentError, LiquidError, LocalNamespaceLimitError, LoopIterationLimitError
from liquid.expression import Expression
from liquid.filter import liquid_filter
from liquid.output import LimitedStringIO
from liquid.stringify import to_liquid_string
from liquid.undefined import is_undefined
from liquid.utils import ReadOnlyChainMap

LONGEST_TEXT = 200_000
LONGEST_OUTPUT = 1_000_000
LONGEST_VALUE = 20_000
LONGEST_PIECE = 1_000
LONGEST_RANGE = 1_000
MOST_PIECES = 2_000
MOST_STEPS = 20_000
BIGGEST_NUMBER = 10**30

OPENING = re.compile(r"\{[{%]")
CLOSING = {"{{": "}}", "{%": "%}"}
BLOCK_TAGS = ("if", "unless", "case", "for", "capture", "comment")
TAGS = {*BLOCK_TAGS, "assign", "break", "continue", "#", "content", "output", "illegal"}
FILTERS = {
    *(
        "append",
        "capitalize",
        "date",
        "default",
        "downcase",
        "escape",
        "escape_once",
        "fallback",
        "join",
        "newline_to_br",
    ),
    *(
        "prepend",
        "remove",
        "remove_first",
        "replace",
        "replace_first",
        "rstrip",
        "lstrip",
        "safe_link",
        "size",
        "slice",
    ),
    *(
        "split",
        "squish",
        "strip",
        "strip_newlines",
        "truncate",
        "truncatewords",
        "upcase",
        "url_encode",
        "first",
        "last",
    ),
    *("abs", "at_least", "at_most", "ceil", "divided_by", "floor", "minus", "modulo", "plus", "round", "times"),
}
# What Liquid says, and what staff can act on. The first that fits is used.
WORDS = [
    (r"missing tag name or closing delimiter", 'A "{{%" names no tag.'),
    (r"unexpected tag '(?P<tag>(?:end|els|when)\w*)'", 'The tag "{tag}" does not belong to one that is open here.'),
    (r"unexpected tag '(?P<tag>.*)'", 'There is no tag "{tag}".'),
    (r"expected tag end(?P<tag>\w+), found end of expression", 'The tag "{tag}" is never closed by "end{tag}".'),
    (r"(?P<tag>\w+) tag was never closed", 'The tag "{tag}" is never closed by "end{tag}".'),
    (r"unknown filter '(?P<tag>.*)'", 'There is no filter "{tag}".'),
    (r"unexpected '(?P<tag>[\u2018-\u201f])'", 'Put text in straight quotes ("there"), not in curly ones ({tag}).'),
    (r"""unexpected ('"'|"'")""", "A quotation mark is never closed."),
    (r"missing expression", "Something is missing after the tag's name."),
    (r"expected a primitive expression, found end of expression", "A variable or value is missing."),
    (r"expected word, found end of expression", 'A filter is missing after "|".'),
    (r"loop iteration limit reached", "It loops too often."),
    (r"output stream limit reached|local namespace limit reached", "It grows too long."),
    (r"context depth|block nesting limit", "Its tags are nested too deep."),
    (r"unexpected 'break'|unexpected 'continue'", '"break" and "continue" only work inside "for".'),
]


class ContentError(ValueError):
    """The text cannot be read, or cannot be filled in; the message says why, `line` says where (1 where unknown)."""

    def __init__(self, reason: str, *, line: int = 1) -> None:
        super().__init__(reason)
        self.line = line


class Context(RenderContext):
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
        if self.steps > MOST_STEPS:
            raise LoopIterationLimitError("loop iteration limit reached", token=None)

    def raise_for_loop_limit(self, length: int = 1) -> None:
        # Before the loop begins: a loop may turn its items round, all of them at once.
        if self.steps + length > MOST_STEPS:
            raise LoopIterationLimitError("loop iteration limit reached", token=None)

    def assign(self, key: str, val: Any) -> None:
        self.spend(1 + len(self.locals) // 10)
        super().assign(key, val)

    def filter(self, name: str, token: Token | None) -> Callable[..., object]:
        function = super().filter(name, token)

        def bounded(value: object, *args: object, **kwargs: object) -> object:
            self.spend(1 + sum(_weight(given) for given in (value, *args)))
            result = function(value, *args, **kwargs)
            _weight(result)
            return result

        return bounded

    def get_item(self, obj: Any, key: Any) -> Any:
        # Liquid's `.size` of a company without a size would be how many other facts are known of it.
        return obj[key] if isinstance(obj, Mapping) else super().get_item(obj, key)

    def get_buffer(self, buf: Any = None) -> StringIO:
        return LimitedStringIO(limit=LONGEST_OUTPUT - getattr(buf, "size", 0), newline="")


class Template(BoundTemplate):
    context_class = Context

    def _get_buffer(self) -> StringIO:
        return LimitedStringIO(limit=LONGEST_OUTPUT, newline="")


class Language(Environment):
    """Liquid with our tags and filters only."""

    template_class = Template
    block_nesting_limit = 20
    context_depth_limit = 25
    local_namespace_limit = 10 * LONGEST_VALUE
    output_stream_limit = LONGEST_OUTPUT

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        super().setup_tags_and_filters(extra=extra)
        self.filters |= {"date": date, "safe_link": safe_link, "replace": replace, "join": join}
        self.filters["fallback"] = self.filters["default"]
        self.filters = {name: self.filters[name] for name in FILTERS}
        self.tags = {name: self.tags[name] for name in TAGS}


@liquid_filter
def date(value: object, how: str = "%-d %B %Y") -> str:
    """A moment as its day, "3 May 2024", or as `how` says; text that is no moment stays as it is."""
    if value is None or is_undefined(value):
        return ""
    if len(how) > 100 or not re.fullmatch(r"(?:[^%]|%-?[aAbBdeHIjlmMpSyYZz%])*", how, re.DOTALL):
        raise FilterArgumentError(f"A date cannot be written as {how!r}.", token=None)
    try:
        return datetime.fromisoformat(str(value)).strftime(how)
    except ValueError:
        return str(value)


LINK = re.compile(r"(?:https?://|mailto:|tel:)", re.IGNORECASE)
PLACE = re.compile(r"[\w-]+(?:\.[\w-]+)+(?:[:/?#]|$)")


@liquid_filter
def safe_link(value: object) -> str:
    """An address that can only lead to a page, a mail or a phone: "#" for anything else, "https://" where it lacks."""
    link = (value if isinstance(value, str) else to_liquid_string(value, autoescape=False)).strip()
    if LINK.match(link):
        return link
    return "https://" + link if PLACE.match(link) else type(link)("#")


@liquid_filter
def replace(value: object, old: object, new: object = "") -> str:
    """Every `old` in the value as `new`; what would grow too long is refused before it does."""
    text, old, new = (v if isinstance(v, str) else to_liquid_string(v, autoescape=False) for v in (value, old, new))
    if text.count(old) * len(new) > LONGEST_VALUE:
        raise LocalNamespaceLimitError("local namespace limit reached", token=None)
    return text.replace(old, new)


@liquid_filter
def join(value: object, separator: str = " ") -> str:
    """The items one after another, `separator` between them."""
    items = [v if isinstance(v, str) else to_liquid_string(v, autoescape=False) for v in _items(value)]
    if sum(map(len, items)) + len(items) * len(separator) > LONGEST_VALUE:
        raise LocalNamespaceLimitError("local namespace limit reached", token=None)
    return separator.join(items)


def _items(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple | range) else [value]


def _weight(value: object) -> int:
    """What a value costs to work on; a value too big to work on is refused."""
    if isinstance(value, str | list | range):
        if len(value) > LONGEST_VALUE:
            raise LocalNamespaceLimitError("local namespace limit reached", token=None)
        return len(value) // 200
    if isinstance(value, int | float) and not -BIGGEST_NUMBER < value < BIGGEST_NUMBER:
        raise FilterArgumentError("A number grows too big.", token=None)
    return 0


TEXT = Language()
HTML = Language(autoescape=True)


def as_written(source: str) -> str:
    """The source with its Liquid as staff wrote it: an editor of rich text writes `&gt;`, `&quot;` and hard spaces."""
    return each_piece(source, plain)


def pieces(source: str) -> Iterator[tuple[int, int | None]]:
    """Where each `{{ }}` and `{% %}` begins and ends; None where it is never closed."""
    # Not one expression with ".*?": that looks to the end of the text again from every brace that is not closed.
    position, closed = 0, dict.fromkeys(CLOSING, True)
    while opening := OPENING.search(source, position):
        position = opening.start() + 1
        end = source.find(CLOSING[opening[0]], opening.end()) if closed[opening[0]] else -1
        closed[opening[0]] = end >= 0
        if end >= 0:
            position = end + 2
        yield opening.start(), position if end >= 0 else None


def each_piece(source: str, change: Callable[[str], str]) -> str:
    """The source with each piece of Liquid as `change` gives it."""
    parts, position = [], 0
    for start, end in pieces(source):
        if end is not None:
            parts += [source[position:start], change(source[start:end])]
            position = end
    return "".join(parts) + source[position:]


def plain(piece: str) -> str:
    return html.unescape(piece).replace("\xa0", " ")


def parse(source: str, language: Language = TEXT, *, longest: int = LONGEST_TEXT) -> BoundTemplate:
    """The template, or a ContentError that says in words what is wrong with it and where."""
    if len(source) > longest:
        raise ContentError(f"It is longer than {longest:,} characters.")
    # Before Liquid reads it: from every brace that is not closed it looks to the end of the text again.
    for number, (start, end) in enumerate(pieces(source), start=1):
        if end is None:
            opening = source[start : start + 2]
            reason = f'A "{opening}" is never closed by "{CLOSING[opening]}".'
            raise ContentError(reason, line=line_of(source, start))
        if end - start > LONGEST_PIECE:
            reason = f"What stands between the braces is longer than {LONGEST_PIECE:,} characters."
            raise ContentError(reason, line=line_of(source, start))
        if number > MOST_PIECES:
            raise ContentError(f"It holds more than {MOST_PIECES:,} variables and tags.", line=line_of(source, start))
    try:
        template = language.from_string(source)
    except LiquidError as error:
        raise ContentError(in_words(error), line=_line_of_error(source, error, language)) from error
    for _, expression in walk(template):
        _refuse(expression, source)
    return template


def render(template: BoundTemplate, values: Mapping[str, object]) -> str:
    """The text filled in with the values (nested, as Liquid reads them), or a ContentError."""
    try:
        return template.render(values)
    except LiquidError as error:
        line = line_of(error.token.source, error.token.start_index) if error.token else 1
        raise ContentError(in_words(error), line=line) from error
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ContentError(f"It cannot be filled in: {error}.") from error


def walk(template: BoundTemplate) -> Iterator[tuple[Node, Expression | None]]:
    """Every node, once with each expression in it and once without."""
    context = Context(template)
    nodes = list(template.nodes)
    while nodes:
        node = nodes.pop()
        yield node, None
        expressions = list(node.expressions())
        while expressions:
            expression = expressions.pop()
            yield node, expression
            expressions.extend(expression.children())
        nodes.extend(node.children(context, include_partials=False))


def line_of(source: str, index: int) -> int:
    return source.count("\n", 0, max(index, 0)) + 1


def in_words(error: LiquidError) -> str:
    message = str(error.message)
    for pattern, words in WORDS:
        if found := re.match(pattern, message):
            return words.format(**found.groupdict())
    return message if message.endswith(".") else f"This cannot be read: {message}."


def _refuse(expression: Expression | None, source: str) -> None:
    if isinstance(expression, Path) and any(isinstance(segment, Path) for segment in expression.path):
        raise ContentError(
            f'Name what "{expression}" means directly; a name cannot be looked up by another variable.',
            line=line_of(source, expression.token.start_index),
        )
    if isinstance(expression, RangeLiteral):
        first, last = expression.start, expression.stop
        if not (isinstance(first, IntegerLiteral) and isinstance(last, IntegerLiteral)) or (
            last.value - first.value >= LONGEST_RANGE
        ):
            raise ContentError(
                f"A range is written with two whole numbers, as (1..5), and holds at most {LONGEST_RANGE:,}.",
                line=line_of(source, expression.token.start_index),
            )


def _line_of_error(source: str, error: LiquidError, language: Language) -> int:
    """Where it is. At the end of a piece or of the text Liquid does not tell: find the piece that is wrong alone."""
    if error.token and error.token.start_index >= 0:
        return line_of(source, error.token.start_index)
    never_closed: list[int] = []
    for start, end in pieces(source):
        piece = source[start:end]
        name = re.match(r"\{%-?\s*(\w+)", piece)
        if name and name[1] in BLOCK_TAGS:
            never_closed.append(start)
        elif name and name[1].startswith("end") and never_closed:
            never_closed.pop()
        try:
            language.from_string(piece)
        except LiquidError as alone:
            if alone.message == error.message and not str(error.message).startswith("expected tag end"):
                return line_of(source, start)
    return line_of(source, never_closed[-1]) if never_closed else 1
