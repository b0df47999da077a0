"""The page of benchmarks contains the measured figures only."""

from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import charts, document
from benchmarks.measure import Point, Row, ratio_row

SVG = "{http://www.w3.org/2000/svg}"
ORIGIN = {"date": "2026-11-27", "commit": "70f569b", "machine": "A fast machine", "remark": "small run"}


def result(row: Row) -> dict:
    return asdict(row) | ORIGIN


def parsed(picture: Path) -> ElementTree.Element:
    return ElementTree.parse(picture).getroot()  # noqa: S314 - our own file


def speed_row(*, delay: int) -> Row:
    points = (Point("latency", "ours", delay, 500 - delay), Point("latency", "theirs", delay, 300 - delay))
    return ratio_row(f"ours / theirs, {delay} ms", [2, 4, 3], at_least=2.5, note="500 over 300", points=points)


def growth_row() -> Row:
    points = (Point("growth", document.IDLE_ROUND, 100_000, 0.012), Point("growth", "ping", 1_000_000, 1.5))
    return ratio_row("round: 1,000,000 / 100,000", [1.0], points=points)


def test_each_measured_row_appears_with_its_date_commit_and_machine(tmp_path):
    document.write([result(speed_row(delay=0))], docs=tmp_path)

    page = (tmp_path / "benchmarks.md").read_text()
    assert "- Machine A: A fast machine" in page
    expected = "3.000 | 2.000 to 4.000 | >= 2.5 | yes | 500 over 300; small run | 2026-11-27, 70f569b, A |"
    assert f"| ours / theirs, 0 ms | {expected}" in page


def test_a_row_without_an_aim_is_neither_met_nor_missed():
    assert ratio_row("a", [1.0]).met is None
    assert ratio_row("a", [1.0]).aim == ""


def test_a_result_of_an_older_version_without_a_date_is_left_out(tmp_path):
    document.write([asdict(speed_row(delay=0))], docs=tmp_path)

    assert "ours / theirs" not in (tmp_path / "benchmarks.md").read_text()


def test_growth_is_a_table_with_a_column_for_each_size_and_a_chart_of_the_round(tmp_path):
    document.write([result(growth_row())], docs=tmp_path)

    page = (tmp_path / "benchmarks.md").read_text()
    assert "| operation | 100,000 customers | 1,000,000 customers |" in page
    assert f"| {document.IDLE_ROUND} | 12.0 ms |  |" in page
    assert "| ping |  | 1.50 s |" in page
    assert "benchmarks/round.svg" in page
    assert (tmp_path / "benchmarks/round.svg").exists()


def test_a_chart_without_points_is_removed(tmp_path):
    document.write([result(speed_row(delay=0))], docs=tmp_path)
    document.write([result(growth_row())], docs=tmp_path)

    assert not (tmp_path / "benchmarks/emails-per-second.svg").exists()
    assert "emails-per-second" not in (tmp_path / "benchmarks.md").read_text()


def test_a_chart_has_a_line_per_series_inside_its_axes_and_names_both_axes(tmp_path):
    document.write([result(speed_row(delay=delay)) for delay in (0, 50, 100)], docs=tmp_path)

    picture = parsed(tmp_path / "benchmarks/emails-per-second.svg")
    lines = [
        [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
        for line in picture.iter(f"{SVG}polyline")
    ]
    assert [len(line) for line in lines] == [3, 2, 3, 2], "Each line is followed by the one of the legend."
    for x, y in lines[0] + lines[2]:
        assert charts.LEFT <= x <= charts.WIDTH - charts.RIGHT
        assert charts.TOP <= y <= charts.HEIGHT - charts.BOTTOM
    assert lines[0][0][1] < lines[2][0][1], "More emails per second are higher up."
    words = {text.text for text in picture.iter(f"{SVG}text")}
    assert {"ours", "theirs", "emails per second", "milliseconds until the mail server answers"} <= words


def test_a_chart_has_its_own_colours_on_a_dark_page(tmp_path):
    document.write([result(speed_row(delay=0))], docs=tmp_path)

    style = parsed(tmp_path / "benchmarks/emails-per-second.svg").find(f"{SVG}style").text
    assert "@media(prefers-color-scheme:dark)" in style
    assert all(colour in style for pair in charts.COLOURS[:2] for colour in pair)


@pytest.mark.parametrize(
    ("largest", "end"), [(0, 1), (0.3, 0.5), (1, 1), (1.1, 2), (180, 200), (450, 500), (3_000_000, 5_000_000)]
)
def test_an_axis_ends_at_a_round_number(largest, end):
    assert charts.axis_end([largest]) == pytest.approx(end)
