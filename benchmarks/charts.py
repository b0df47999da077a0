"""Line charts as SVG, readable on a light and on a dark page."""

import math
from collections.abc import Iterable
from html import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 80, 20, 50, 90
COLOURS = (("#0b62c4", "#6cb2ff"), ("#b3470c", "#ffa066"), ("#1d7a3c", "#63d08a"), ("#7a3fb0", "#c79bf0"))
DASHES = ("none", "8 4", "2 4", "12 4 2 4")

Series = dict[str, list[tuple[float, float]]]


def line_chart(series: Series, *, title: str, x_label: str, y_label: str) -> str:
    """Return a chart with one line for each series; both axes begin at 0."""
    x_top = axis_end(x for points in series.values() for x, _ in points)
    y_top = axis_end(y for points in series.values() for _, y in points)

    def across(x: float) -> float:
        return round(LEFT + x / x_top * (WIDTH - LEFT - RIGHT), 1)

    def down(y: float) -> float:
        return round(HEIGHT - BOTTOM - y / y_top * (HEIGHT - TOP - BOTTOM), 1)

    drawn = [f'<text class="title" x="{LEFT}" y="28">{escape(title)}</text>']
    for y in ticks(y_top):
        drawn.append(f'<line class="grid" x1="{LEFT}" y1="{down(y)}" x2="{WIDTH - RIGHT}" y2="{down(y)}"/>')
        drawn.append(f'<text x="{LEFT - 8}" y="{down(y) + 4}" text-anchor="end">{y:,g}</text>')
    centred, below = 'text-anchor="middle"', HEIGHT - BOTTOM
    drawn += [f'<text x="{across(x)}" y="{below + 20}" {centred}>{shorten(x)}</text>' for x in ticks(x_top)]
    middle = (TOP + below) / 2
    drawn += [
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{below + 42}" {centred}>{escape(x_label)}</text>',
        f'<text x="18" y="{middle}" {centred} transform="rotate(-90 18 {middle})">{escape(y_label)}</text>',
    ]
    for number, (name, points) in enumerate(series.items()):
        line = " ".join(f"{across(x)},{down(y)}" for x, y in sorted(points))
        left, level = LEFT + number % 2 * 320, HEIGHT - 26 + number // 2 * 18
        drawn.append(f'<polyline class="line s{number}" points="{line}"/>')
        drawn += [f'<circle class="dot s{number}" cx="{across(x)}" cy="{down(y)}" r="4"/>' for x, y in points]
        drawn.append(f'<polyline class="line s{number}" points="{left},{level} {left + 34},{level}"/>')
        drawn.append(f'<text x="{left + 42}" y="{level + 4}">{escape(name)}</text>')
    names = ", ".join(series)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-label="{escape(f"{title}: {names}")}">\n<style>{style(len(series))}</style>\n'
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>\n' + "\n".join(drawn) + "\n</svg>\n"
    )


def style(count: int) -> str:
    light = colour_rules(count, page="#ffffff", text="#1f2328", grid="#d0d7de", dark=False)
    dark = colour_rules(count, page="#0d1117", text="#e6edf3", grid="#3d444d", dark=True)
    return (
        "text{font:13px sans-serif}.title{font-size:16px;font-weight:bold}.line{fill:none;stroke-width:2.5}"
        + "".join(f".line.s{number}{{stroke-dasharray:{DASHES[number]}}}" for number in range(count))
        + f"{light}@media(prefers-color-scheme:dark){{{dark}}}"
    )


def colour_rules(count: int, *, page: str, text: str, grid: str, dark: bool) -> str:
    lines = (
        f".line.s{number}{{stroke:{COLOURS[number][dark]}}}.dot.s{number}{{fill:{COLOURS[number][dark]}}}"
        for number in range(count)
    )
    return f".page{{fill:{page}}}text{{fill:{text}}}.grid{{stroke:{grid}}}" + "".join(lines)


def axis_end(values: Iterable[float]) -> float:
    """Return a round number at or above the largest value."""
    largest = max(values, default=0) or 1
    unit = 10 ** math.floor(math.log10(largest))
    return next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= largest)


def ticks(end: float) -> list[float]:
    return [end * part / 5 for part in range(6)]


def shorten(value: float) -> str:
    """Return a number for an axis, such as 600k."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
