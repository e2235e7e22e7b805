"""The page of a comparison as a browser draws it."""

from typing import Any

import pytest

from service.comparing.page import page
from tests.e2e.browser import looked_at
from tests.service.comparing.reports import whole

pytestmark = pytest.mark.e2e

LOOK = """(() => {
  const colour = (element, what) => getComputedStyle(element)[what];
  const box = element => { const r = element.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
  const svgs = [...document.querySelectorAll('svg')];
  return {
    paper: colour(document.body, 'backgroundColor'),
    inks: [...new Set([...document.querySelectorAll('td, th, p, h2, caption')].map(one => colour(one, 'color')))],
    fills: [...new Set([...document.querySelectorAll('svg text')].map(one => colour(one, 'fill')))],
    strokes: [...new Set([...document.querySelectorAll('.range, .curve, .behind')].map(one => colour(one, 'stroke')))],
    wider: document.documentElement.scrollWidth > document.documentElement.clientWidth,
    svgs: svgs.map(svg => ({
      box: box(svg), texts: [...svg.querySelectorAll('text')].map(one => [one.textContent, ...box(one)]),
      drawn: svg.querySelectorAll('line, circle, polyline').length })),
    tables: [...document.querySelectorAll('table')].map(one => [one.caption.textContent, one.rows.length]),
    asked: performance.getEntriesByType('resource').length,
  };
})()"""


@pytest.fixture(scope="module", params=["light", "dark"])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("page")
    found: dict[str, Any] = looked_at(page(whole()), LOOK, folder=folder, scheme=request.param)
    return {**found, "scheme": request.param}


def luminance(colour: str) -> float:
    """The relative luminance of `rgb(r, g, b)` (WCAG 2.2)."""
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours (WCAG 2.2)."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_page_takes_the_readers_colours(seen: dict[str, Any]) -> None:
    assert (luminance(seen["paper"]) > 0.5) == (seen["scheme"] == "light")


def test_every_word_and_every_line_can_be_told_from_the_paper(seen: dict[str, Any]) -> None:
    assert {colour for colour in [*seen["inks"], *seen["fills"]] if contrast(colour, seen["paper"]) < 4.5} == set()
    assert {colour for colour in seen["strokes"] if contrast(colour, seen["paper"]) < 3} == set()


def test_five_plots_are_drawn_and_their_words_lie_within_them(seen: dict[str, Any]) -> None:
    assert len(seen["svgs"]) == 5
    for svg in seen["svgs"]:
        assert svg["drawn"] > 10
        left, top, right, bottom = svg["box"]
        for text, *(x1, y1, x2, y2) in svg["texts"]:
            assert left - 1 <= x1, text
            assert x2 <= right + 1, text
            assert top - 1 <= y1, text
            assert y2 <= bottom + 1, text


def test_no_two_words_of_a_plot_lie_on_each_other(seen: dict[str, Any]) -> None:
    for svg in seen["svgs"]:
        boxes = svg["texts"]
        for place, (text, x1, y1, x2, y2) in enumerate(boxes):
            over = [
                other
                for other, a1, b1, a2, b2 in boxes[:place]
                if min(x2, a2) - max(x1, a1) > 3 and min(y2, b2) - max(y1, b1) > 5
            ]
            assert over == [], text


def test_the_page_is_no_wider_than_the_window_and_asks_for_nothing(seen: dict[str, Any]) -> None:
    assert not seen["wider"]
    assert seen["asked"] == 0


def test_the_tables_have_a_row_a_contestant(seen: dict[str, Any]) -> None:
    rows = [count for _, count in seen["tables"]]
    assert rows == [12, 11, 12, 12]
