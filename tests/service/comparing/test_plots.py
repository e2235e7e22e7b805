"""Where things lie in a plot."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.comparing.plots import LETTER, Bar, Panel, Point, Scale, Words, curve_panels, interval_plot, scatter

WORDS = Words("a <title>", "what & how", "x", "y")


def marks(svg: str, kind: str) -> list[ElementTree.Element]:
    """The elements of one class."""
    return [one for one in ElementTree.fromstring(svg).iter() if kind in one.get("class", "").split()]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5), st.integers(2, 8))
def test_every_value_lies_within_its_scale_and_ticks_are_round_and_inside(values: list[float], count: int) -> None:
    scale = Scale.over(values, 10.0, end=110.0)
    assert all(10 <= scale.at(value) <= 110 for value in values)
    ticks = scale.ticks(count)
    assert len(ticks) <= count + 1
    for value, text in ticks:
        assert 9.9 <= scale.at(value) <= 110.1
        assert float(text) == value


def test_ticks_are_steps_of_one_two_or_five() -> None:
    assert [text for _, text in Scale(0.716, 0.788, 0, 1).ticks(4)] == ["0.72", "0.74", "0.76", "0.78"]
    assert [text for _, text in Scale(0, 23, 0, 1).ticks(5)] == ["0", "5", "10", "15", "20"]


def test_a_bar_is_a_dot_on_its_interval_and_hollow_where_that_holds_zero() -> None:
    bars = [Bar("a", 0.5, 0.2, 0.8, marks=(0.4, 0.6)), Bar("b", 0.1, -0.1, 0.3, clear=False)]
    svg = interval_plot(bars, WORDS, zero=True)
    first, second = marks(svg, "range")
    dots = marks(svg, "dot")
    assert float(first.get("x1", 0)) < float(dots[0].get("cx", 0)) < float(first.get("x2", 0))
    assert [one.get("class") for one in dots] == ["dot", "dot hollow"]
    assert len(marks(svg, "mark")) == 2
    (zero,) = marks(svg, "zero")
    assert float(second.get("x1", 0)) < float(zero.get("x1", 0)) < float(second.get("x2", 0))


def test_what_is_written_is_text_and_no_markup() -> None:
    svg = interval_plot([Bar("<b>&", 0.5, 0.2, 0.8)], WORDS)
    texts = ["".join(one.itertext()) for one in ElementTree.fromstring(svg).iter() if one.text]
    assert {"<b>&", "a <title>", "what & how"} <= set(texts)


def test_panels_share_their_scales_and_a_single_epoch_is_a_dot() -> None:
    one, other = ((1.0, 0.7), (2.0, 0.8)), ((1.0, 0.7), (2.0, 0.8))
    svg = curve_panels([Panel("a", (one,)), Panel("b", (other,), behind=(one,)), Panel("c", (((1.0, 0.9),),))], WORDS)
    first, second = ([float(n) for n in re.findall(r"[\d.]+", line.get("points", ""))] for line in marks(svg, "curve"))
    assert first[1] == pytest.approx(second[1])
    assert len(marks(svg, "behind")) == 1
    assert len(marks(svg, "dot")) == 1
    assert not [one for one in ElementTree.fromstring(svg).iter() if one.text == "1.5"]


def test_the_names_of_points_in_one_place_do_not_cover_each_other() -> None:
    points = [Point(f"name {place}", 1.0, 0.5, 0.5, 0.5) for place in range(4)] + [Point("far", 9.0, 0.9, 0.8, 1.0)]
    named = [
        one for one in ElementTree.fromstring(scatter(points, WORDS)).iter() if (one.text or "").startswith("name")
    ]
    assert len({(one.get("x"), one.get("y")) for one in named}) == 4


def test_a_name_keeps_off_the_intervals_of_others_where_there_is_room() -> None:
    points = [
        Point("first", 1.0, 0.5, 0.45, 0.55),
        Point("second", 1.04, 0.5, 0.45, 0.55),
        Point("far", 9.0, 0.9, 0, 1),
    ]
    drawn = [*ElementTree.fromstring(scatter(points, WORDS)).iter()]
    lines = [
        (float(one.get("x1", 0)), float(one.get("y1", 0)), float(one.get("y2", 0)))
        for one in drawn
        if one.get("class") == "range"
    ]
    for one in drawn:
        if one.text in {"first", "second"}:
            left, base = float(one.get("x", 0)), float(one.get("y", 0))
            right = left + LETTER * len(one.text)
            crossed = [x for x, low, high in lines if left < x < right and high < base and base - 11 < low]
            assert not crossed


def test_a_name_longer_than_its_panel_is_made_narrower() -> None:
    svg = curve_panels([Panel("short", (((1.0, 0.9),),)), Panel("x" * 40, (((1.0, 0.9),),))], WORDS)
    short, long = marks(svg, "name")
    assert short.get("textLength") is None
    assert long.get("textLength") == "180"
