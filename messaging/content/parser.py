"""Liquid parser: text to template, or to an error for staff with its line."""

import html
import re
from collections.abc import Callable, Iterator, Mapping

from liquid import BoundTemplate
from liquid.ast import Node
from liquid.builtin.expressions import Path
from liquid.builtin.expressions.primitive import IntegerLiteral, RangeLiteral
from liquid.exceptions import LiquidError
from liquid.expression import Expression

from messaging.content.liquid import BLOCK_TAGS, TEXT_LIQUID, LimitedContext, LiquidEnvironment

MAX_SOURCE_LENGTH = 200_000
MAX_PIECE_LENGTH = 1_000
MAX_RANGE_LENGTH = 1_000
MAX_PIECES = 2_000

OPENING = re.compile(r"\{[{%]")
CLOSING = {"{{": "}}", "{%": "%}"}
# Patterns of Liquid's errors, and the text shown to staff instead. The first match is used.
ERROR_TEXTS = [
    (r"missing tag name or closing delimiter", 'A "{{%" has no tag name.'),
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
    (r"loop iteration limit reached", "The loops run too many times."),
    (r"output stream limit reached|local namespace limit reached", "The output is too long."),
    (r"context depth|block nesting limit", "The tags are nested too deep."),
    (r"unexpected 'break'|unexpected 'continue'", '"break" and "continue" only work inside "for".'),
]


class ContentError(ValueError):
    """The text cannot be parsed or rendered. The error's text is for staff; `line` is 1 if the line is unknown."""

    def __init__(self, reason: str, *, line: int = 1) -> None:
        super().__init__(reason)
        self.line = line


def unescape_liquid(source: str) -> str:
    """Undo the HTML escapes inside Liquid: rich-text editors write `&gt;`, `&quot;` and non-breaking spaces there."""
    return map_pieces(source, unescape_piece)


def find_pieces(source: str) -> Iterator[tuple[int, int | None]]:
    """Yield the start and end of each `{{ }}` and `{% %}`; the end is None if it is never closed."""
    # A regular expression with ".*?" would take quadratic time on a text with many unclosed braces.
    position, closed = 0, dict.fromkeys(CLOSING, True)
    while opening := OPENING.search(source, position):
        position = opening.start() + 1
        end = source.find(CLOSING[opening[0]], opening.end()) if closed[opening[0]] else -1
        closed[opening[0]] = end >= 0
        if end >= 0:
            position = end + 2
        yield opening.start(), position if end >= 0 else None


def map_pieces(source: str, change: Callable[[str], str]) -> str:
    """Return the source with each piece of Liquid replaced by `change(piece)`."""
    parts, position = [], 0
    for start, end in find_pieces(source):
        if end is not None:
            parts += [source[position:start], change(source[start:end])]
            position = end
    return "".join(parts) + source[position:]


def unescape_piece(piece: str) -> str:
    return html.unescape(piece).replace("\xa0", " ")


def parse_template(
    source: str, language: LiquidEnvironment = TEXT_LIQUID, *, max_length: int = MAX_SOURCE_LENGTH
) -> BoundTemplate:
    """Parse the template. Raise ContentError if it is invalid or too long."""
    if len(source) > max_length:
        raise ContentError(f"The text is longer than {max_length:,} characters.")
    # Check the pieces before Liquid does: it takes quadratic time on many unclosed braces.
    for number, (start, end) in enumerate(find_pieces(source), start=1):
        if end is None:
            opening = source[start : start + 2]
            reason = f'A "{opening}" is never closed by "{CLOSING[opening]}".'
            raise ContentError(reason, line=line_of(source, start))
        if end - start > MAX_PIECE_LENGTH:
            reason = f"The text between the braces is longer than {MAX_PIECE_LENGTH:,} characters."
            raise ContentError(reason, line=line_of(source, start))
        if number > MAX_PIECES:
            reason = f"The text has more than {MAX_PIECES:,} variables and tags."
            raise ContentError(reason, line=line_of(source, start))
    try:
        template = language.from_string(source)
    except LiquidError as error:
        raise ContentError(describe_error(error), line=_line_of_error(source, error, language)) from error
    for _, expression in walk_nodes(template):
        _check_expression(expression, source)
    return template


def render_template(template: BoundTemplate, values: Mapping[str, object]) -> str:
    """Render the template with the values, nested as in `nest_values`. Raise ContentError if it fails."""
    try:
        return template.render(values)
    except LiquidError as error:
        line = line_of(error.token.source, error.token.start_index) if error.token else 1
        raise ContentError(describe_error(error), line=line) from error
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ContentError(f"The text cannot be filled in: {error}.") from error


def walk_nodes(template: BoundTemplate) -> Iterator[tuple[Node, Expression | None]]:
    """Yield each node once with None and once with each of its expressions."""
    context = LimitedContext(template)
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


def describe_error(error: LiquidError) -> str:
    message = str(error.message)
    for pattern, words in ERROR_TEXTS:
        if found := re.match(pattern, message):
            return words.format(**found.groupdict())
    return message if message.endswith(".") else f"Invalid Liquid: {message}."


def _check_expression(expression: Expression | None, source: str) -> None:
    if isinstance(expression, Path) and any(isinstance(segment, Path) for segment in expression.path):
        raise ContentError(
            f'"{expression}" is not allowed: a variable cannot be looked up by the value of another. Write its name.',
            line=line_of(source, expression.token.start_index),
        )
    if isinstance(expression, RangeLiteral):
        first, last = expression.start, expression.stop
        if not (isinstance(first, IntegerLiteral) and isinstance(last, IntegerLiteral)) or (
            last.value - first.value >= MAX_RANGE_LENGTH
        ):
            raise ContentError(
                f"A range is written with two whole numbers, such as (1..5), and has at most {MAX_RANGE_LENGTH:,}.",
                line=line_of(source, expression.token.start_index),
            )


def _line_of_error(source: str, error: LiquidError, language: LiquidEnvironment) -> int:
    """Return the line of the error. If Liquid does not know it, find the piece that causes the same error alone."""
    if error.token and error.token.start_index >= 0:
        return line_of(source, error.token.start_index)
    never_closed: list[int] = []
    for start, end in find_pieces(source):
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
