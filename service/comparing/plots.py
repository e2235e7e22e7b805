"""Plots as SVG text: no library, no script, colours by class so that a page sets them for light and dark.

Lengths are of the drawing's own units, about a pixel each.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LINE, LETTER, BOLD = 720.0, 26.0, 6.7, 7.6
PANEL, PANEL_HEIGHT, PANELS = 232.0, 130.0, 3


@dataclass(frozen=True)
class Scale:
    """Values from low to high on a line from start to end."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, *, end: float) -> "Scale":
        """A scale on which all of the values lie, with a margin."""
        low, high = min(values), max(values)
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        return cls(low - margin, high + margin, start, end)

    def at(self, value: float) -> float:
        """Where a value lies."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, count: int) -> list[tuple[float, str]]:
        """About so many round values between low and high, and how they are written."""
        rough = (self.high - self.low) / count
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * times for times in (1, 2, 5, 10) if unit * times >= rough)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(round(place * step, digits), f"{place * step:.{digits}f}") for place in range(first, last + 1)]


@dataclass(frozen=True)
class Bar:
    """A row of an interval plot. marks: further values, such as each seed's; clear: drawn full, otherwise hollow."""

    name: str
    value: float
    low: float
    high: float
    marks: tuple[float, ...] = ()
    clear: bool = True


@dataclass(frozen=True)
class Panel:
    """Some curves (x, y) under one name, before others that stand for comparison."""

    name: str
    curves: tuple[tuple[tuple[float, float], ...], ...]
    behind: tuple[tuple[tuple[float, float], ...], ...] = ()


@dataclass(frozen=True)
class Point:
    """A named point, with the interval of its y."""

    name: str
    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Words:
    """What a plot is called, what it shows for those who do not see it, and its axes."""

    title: str
    told: str
    x: str
    y: str = ""


XY = tuple[float, float]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom."""


def interval_plot(bars: Sequence[Bar], words: Words, *, zero: bool = False) -> str:
    """A row a bar: its value, its interval and its marks. zero: a line where nothing is gained or lost."""
    left = 24 + LETTER * max(len(bar.name) for bar in bars)
    values = [value for bar in bars for value in (bar.value, bar.low, bar.high, *bar.marks)]
    scale = Scale.over([*values, *([0.0] if zero else [])], left, end=WIDTH - 24)
    bottom = LINE * len(bars) + 8
    drawn = [_line((scale.at(value), 0), (scale.at(value), bottom), kind="grid") for value, _ in scale.ticks(6)]
    drawn += [_text((scale.at(value), bottom + 16), text, anchor="middle") for value, text in scale.ticks(6)]
    if zero:
        drawn.append(_line((scale.at(0), 0), (scale.at(0), bottom), kind="zero"))
    for place, bar in enumerate(bars):
        y = LINE * (place + 0.5) + 4
        drawn += [
            _text((left - 12, y + 4), bar.name, anchor="end"),
            _line((scale.at(bar.low), y), (scale.at(bar.high), y), kind="range"),
            *(_line((scale.at(mark), y - 7), (scale.at(mark), y + 7), kind="mark") for mark in bar.marks),
            _dot((scale.at(bar.value), y), clear=bar.clear),
        ]
    drawn.append(_text(((left + WIDTH) / 2, bottom + 38), words.x, anchor="middle"))
    return _drawing(words, bottom + 48, drawn)


def curve_panels(panels: Sequence[Panel], words: Words) -> str:
    """A small plot a panel, all on the same scales, so that they can be compared by eye; x are whole numbers."""
    every = [point for panel in panels for curve in (*panel.curves, *panel.behind) for point in curve]
    high = (PANEL_HEIGHT + 62) * math.ceil(len(panels) / PANELS)
    drawn = []
    for place, panel in enumerate(panels):
        left, top = (place % PANELS) * (PANEL + 12) + 48, (place // PANELS) * (PANEL_HEIGHT + 62) + 22
        across = Scale.over([x for x, _ in every], left, end=left + PANEL - 52)
        down = Scale.over([y for _, y in every], top + PANEL_HEIGHT, end=top)
        whole = [(x, f"{x:.0f}") for x, _ in across.ticks(4) if x.is_integer()]
        drawn += [_name((left, top - 6), panel.name, most=PANEL - 52), *_frame(across, down, whole)]
        drawn += [_curve(curve, across, down, kind="behind") for curve in panel.behind]
        drawn += [_curve(curve, across, down, kind="curve") for curve in panel.curves]
    drawn.append(_text((WIDTH / 2, high + 6), f"{words.y} against {words.x}", anchor="middle"))
    return _drawing(words, high + 16, drawn)


def scatter(points: Sequence[Point], words: Words) -> str:
    """Named points with the interval of each one's y."""
    height = 340.0
    across = Scale.over([point.x for point in points], 64, end=WIDTH - 24)
    down = Scale.over([value for point in points for value in (point.low, point.high)], height, end=24)
    drawn = _frame(across, down, across.ticks(5))
    taken = [_around((across.at(point.x), down.at(point.y))) for point in points]
    ranges = [(across.at(one.x) - 2, down.at(one.high), across.at(one.x) + 2, down.at(one.low)) for one in points]
    for point, (_, top, _, bottom) in zip(points, ranges, strict=True):
        x, y = across.at(point.x), down.at(point.y)
        taken.append(_free(_places((x, y), point.name, ends=(top, bottom)), taken, ranges))
        drawn += [
            _line((x, down.at(point.low)), (x, down.at(point.high)), kind="range"),
            _dot((x, y), clear=True),
            _text((taken[-1][0], taken[-1][1] + 11), point.name),
        ]
    drawn.append(_text(((64 + WIDTH) / 2, height + 38), words.x, anchor="middle"))
    drawn.append(_text((0, 12), words.y))
    return _drawing(words, height + 48, drawn)


def _around(at: XY) -> Box:
    return at[0] - 6, at[1] - 6, at[0] + 6, at[1] + 6


def _places(at: XY, name: str, *, ends: XY) -> list[Box]:
    """Where the name of a point may stand: beside it, above or below it, and at the ends of its interval."""
    (x, y), wide, (top, bottom) = at, LETTER * len(name), ends
    middle = x - wide / 2
    corners = [(x + 9, y - 7), (x - 9 - wide, y - 7), (x + 6, y - 22), (x + 6, y + 8), (x - 6 - wide, y - 22)]
    corners += [(x - 6 - wide, y + 8), (middle, top - 18), (middle, bottom + 4), (middle, y + 22)]
    return [(left, above, left + wide, above + 14) for left, above in corners]


def _free(boxes: Sequence[Box], taken: Sequence[Box], ranges: Sequence[Box]) -> Box:
    """The first place that covers nothing; where there is none, one that covers no dot or name but an interval."""
    inside = [box for box in boxes if box[0] >= 60 and box[2] <= WIDTH]
    legible = [box for box in inside if not any(_overlap(box, other) for other in taken)]
    clear = [box for box in legible if not any(_overlap(box, other) for other in ranges)]
    return (clear or legible or inside or boxes)[0]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _frame(across: Scale, down: Scale, below: Sequence[tuple[float, str]]) -> list[str]:
    """Both axes with their ticks, those of x as they are given."""
    lines = [_line((across.start, down.at(y)), (across.end, down.at(y)), kind="grid") for y, _ in down.ticks(4)]
    beside = [_text((across.start - 6, down.at(y) + 4), text, anchor="end") for y, text in down.ticks(4)]
    under = [_text((across.at(x), down.start + 16), text, anchor="middle") for x, text in below]
    return [*lines, *beside, *under, _line((across.start, down.start), (across.end, down.start), kind="axis")]


def _curve(points: Sequence[XY], across: Scale, down: Scale, *, kind: str) -> str:
    placed = [(across.at(x), down.at(y)) for x, y in points]
    if len(placed) == 1:
        return _dot(placed[0], clear=kind == "curve")
    return f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in placed)}"/>'


def _line(one: XY, other: XY, *, kind: str) -> str:
    return f'<line class="{kind}" x1="{one[0]:.1f}" y1="{one[1]:.1f}" x2="{other[0]:.1f}" y2="{other[1]:.1f}"/>'


def _dot(at: XY, *, clear: bool) -> str:
    return f'<circle class="{"dot" if clear else "dot hollow"}" cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="4.5"/>'


def _text(at: XY, text: str, *, anchor: str = "start") -> str:
    return f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _name(at: XY, name: str, *, most: float) -> str:
    """A panel's name; where it is longer than `most`, its letters are made narrower."""
    fitted = f' textLength="{most:.0f}" lengthAdjust="spacingAndGlyphs"' if BOLD * len(name) > most else ""
    return f'<text class="name" x="{at[0]:.1f}" y="{at[1]:.1f}"{fitted}>{escape(name)}</text>'


def _drawing(words: Words, height: float, drawn: Sequence[str]) -> str:
    head = f"<title>{escape(words.title)}</title><desc>{escape(words.told)}</desc>"
    return f'<svg role="img" viewBox="0 0 {WIDTH:.0f} {height:.0f}">{head}{"".join(drawn)}</svg>'
