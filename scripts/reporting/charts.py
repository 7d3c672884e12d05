"""Plots as inline SVG: every one has a title, axes with units, and a tooltip on what is drawn.

Colours are classes of `style.css`, so that a plot follows the reader's light or dark mode.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from markupsafe import Markup

from scripts.reporting.formatting import amount
from scripts.reporting.svg import BOTTOM, HEIGHT, TOP, WIDTH, Axes, Point, element, svg

# (step, low, high)
Interval = tuple[float, float, float]
# (first step, value by name)
Column = tuple[int, Mapping[str, float]]

MAX_TOOLTIPS = 60
MAX_COLUMNS = 60


@dataclass(frozen=True)
class Line:
    """One line of a plot.

    Args:
        label (`str`): for the legend.
        points (`Sequence[Point]`): (step, value) in order of the steps.
        style (`str`): class of `style.css`, `"s0"` to `"s5"`.
        shape (`str`): `"raw"` draws the points, `"smooth"` their moving average, `"both"` that over faint points.
        intervals (`Sequence[Interval]`): confidence intervals of points, drawn as bars.
    """

    label: str
    points: Sequence[Point]
    style: str
    shape: Literal["raw", "smooth", "both"] = "both"
    intervals: Sequence[Interval] = ()


@dataclass(frozen=True)
class Figure:
    """A plot with its words.

    Args:
        title (`str`): what is plotted.
        caption (`str`): how to read it, and where the numbers are from.
        svg (`Markup`, *optional*): the plot; `None` when there is nothing to plot.
        legend (`tuple`): (class, label) of what has a colour.
        missing (`str`): why there is no plot.
    """

    title: str
    caption: str
    svg: Markup | None = None
    legend: tuple[tuple[str, str], ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class Bar:
    """One bar.

    Args:
        group (`str`): bars of the same group stand together under this heading.
        label (`str`): what it stands for.
        value (`float`): its length, in [0, 1].
        style (`str`): class of `style.css`.
        interval (`tuple`, *optional*): low and high end of its confidence interval.
    """

    group: str
    label: str
    value: float
    style: str
    interval: tuple[float, float] | None = None


def line_chart(
    title: str,
    lines: Sequence[Line],
    y_label: str,
    caption: str = "",
    y: Point | None = None,
    missing: str = "no data",
    x_label: str = "GRPO step",
) -> Figure:
    """Plot lines over steps.

    Args:
        title (`str`): heading.
        lines (`Sequence[Line]`): those without points are left out.
        y_label (`str`): name and unit of the vertical axis.
        caption (`str`): under the heading.
        y (`Point`, *optional*): range of the vertical axis; from 0 or the lowest value to the highest by default.
        missing (`str`): what to say when there are no points.
        x_label (`str`): name of the horizontal axis.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return Figure(title, caption, missing=missing)
    xs = [x for line in lines for x, _ in line.points]
    ys = [value for line in lines for _, value in line.points]
    low, high = y or (min(0.0, min(ys)), max(ys) * 1.05 if max(ys) > 0 else max(ys))
    axes = Axes((min(xs), max(xs)), (low, high if high > low else low + 1.0))
    parts = axes.drawn(y_label, x_label)
    for place, line in enumerate(lines):
        parts += [*_drawn_intervals(axes, line, 2.0 * place), *_drawn_line(axes, line)]
    parts += _tooltips(axes, lines, x_label.split()[-1])
    legend = tuple((line.style, line.label) for line in lines)
    return Figure(title, caption, svg(title, *parts), legend)


def _drawn_line(axes: Axes, line: Line) -> list[Markup]:
    if len(line.points) == 1:
        ((x, value),) = line.points
        return [element("circle", cx=axes.at_x(x), cy=axes.at_y(value), r=4, class_=f"mark dot {line.style}")]
    parts = []
    if line.shape != "smooth":
        faint = " faint" * (line.shape == "both")
        parts.append(element("path", d=_path(axes, line.points), class_=f"mark line {line.style}{faint}"))
    if line.shape != "raw":
        parts.append(element("path", d=_path(axes, smoothed(line.points)), class_=f"mark line {line.style}"))
    return parts


def _drawn_intervals(axes: Axes, line: Line, aside: float) -> list[Markup]:
    """Bars, those of each line a little aside, so that none hides another's."""
    parts = []
    for step, *ends in line.intervals:
        x, (low, high) = axes.at_x(step) + aside, (axes.at_y(min(axes.y[1], max(axes.y[0], end))) for end in ends)
        parts.append(element("line", x1=x, x2=x, y1=low, y2=high, class_=f"mark line interval {line.style}"))
    return parts


def _path(axes: Axes, points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{axes.at_x(x):.1f} {axes.at_y(value):.1f}" for x, value in points)


def smoothed(points: Sequence[Point]) -> list[Point]:
    """Return the centred moving average over about a tenth of the points; the window is shorter at both ends."""
    half = max(1, len(points) // 20)
    sums = [0.0]
    for _, value in points:
        sums.append(sums[-1] + value)
    averaged = []
    for i, (x, _) in enumerate(points):
        start, end = max(0, i - half), min(len(points), i + half + 1)
        averaged.append((x, (sums[end] - sums[start]) / (end - start)))
    return averaged


def _tooltips(axes: Axes, lines: Sequence[Line], unit: str) -> list[Markup]:
    """Columns over the whole plot that say the values below the pointer."""
    steps = sorted({x for line in lines for x, _ in line.points})
    steps = steps[:: math.ceil(len(steps) / MAX_TOOLTIPS)]
    values = [(line.label, dict(line.points), {step: ends for step, *ends in line.intervals}) for line in lines]
    edges = [axes.left, *(axes.at_x((a + b) / 2) for a, b in pairwise(steps)), WIDTH - axes.right]
    columns = []
    for step, (start, end) in zip(steps, pairwise(edges), strict=True):
        said = [
            f"{label}: {amount(known[step])}" + (f" [{low:.3f}, {high:.3f}]" if step in ends else "")
            for label, known, ends in values
            if step in known
            for low, high in [ends.get(step, (0.0, 0.0))]
        ]
        title = element("title", f"{unit} {amount(step)}\n" + "\n".join(said))
        columns.append(
            element("rect", title, x=start, y=TOP, width=end - start, height=HEIGHT - TOP - BOTTOM, class_="hover")
        )
    return columns


def stacked_bars(
    title: str, columns: Sequence[Column], layers: Sequence[tuple[str, str]], y_label: str, caption: str
) -> Figure:
    """Plot shares over steps as columns that add up to 1.

    Args:
        title (`str`): heading.
        columns (`Sequence[Column]`): counts by layer; at most `MAX_COLUMNS`.
        layers (`Sequence[tuple[str, str]]`): (class, name) from the bottom to the top.
        y_label (`str`): name and unit of the vertical axis.
        caption (`str`): under the heading.
    """
    columns = [(step, counts) for step, counts in columns if sum(counts.values()) > 0]
    if not columns:
        return Figure(title, caption, missing="not recorded")
    steps = [step for step, _ in columns]
    gap = min((b - a for a, b in pairwise(steps)), default=1)
    axes = Axes((steps[0] - gap / 2, steps[-1] + gap / 2), (0.0, 1.0))
    width = max(1.5, 0.85 * (axes.at_x(steps[0] + gap) - axes.at_x(steps[0])))
    parts = axes.drawn(y_label)
    for step, counts in columns:
        total, below = sum(counts.values()), 0.0
        for style, name in layers:
            share = counts.get(name, 0.0) / total
            if share > 0:
                top = axes.at_y(below + share)
                tip = element("title", f"step {amount(step)}, {name}: {share:.0%}")
                x, height = axes.at_x(step) - width / 2, axes.at_y(below) - top
                parts.append(element("rect", tip, x=x, y=top, width=width, height=height, class_=f"mark {style}"))
            below += share
    return Figure(title, caption, svg(title, *parts), tuple(layers))


def heat_map(title: str, columns: Sequence[Column], names: Sequence[str]) -> Figure:
    """Plot calls a rollout by operator over steps: a row for each operator, a stronger colour for more.

    Args:
        title (`str`): heading.
        columns (`Sequence[Column]`): calls a rollout by operator.
        names (`Sequence[str]`): rows from top to bottom.
    """
    if not columns or not names:
        return Figure(title, "", missing="no operator was called")
    left, right, row = 140.0, 84.0, 20.0
    bottom = TOP + row * len(names)
    highest = max((values.get(name, 0.0) for _, values in columns for name in names), default=0.0) or 1.0
    wide = (WIDTH - left - right) / len(columns)
    parts: list[Markup] = []
    for index, name in enumerate(names):
        y = TOP + index * row
        parts.append(element("text", name, x=left - 6, y=y + 14, text_anchor="end", class_="tick"))
        parts.append(element("rect", x=left, y=y + 1, width=WIDTH - left - right, height=row - 2, class_="empty"))
        for place, (step, values) in enumerate(columns):
            value = values.get(name, 0.0)
            if value > 0:
                tip = element("title", f"step {amount(step)}: {value:.2f} calls a rollout")
                shade = f"{max(0.06, value / highest):.2f}"
                parts.append(
                    element(
                        "rect", tip, x=left + place * wide, y=y + 1, width=wide + 0.3, height=row - 2,
                        fill_opacity=shade, class_="mark heat",
                    )
                )  # fmt: skip
        ends = f"{columns[0][1].get(name, 0.0):.2f} → {columns[-1][1].get(name, 0.0):.2f}"
        parts.append(element("text", ends, x=WIDTH - right + 6, y=y + 14, class_="tick"))
    first, last = amount(columns[0][0]), amount(columns[-1][0])
    parts.append(element("text", f"step {first}", x=left, y=bottom + 15, class_="tick"))
    parts.append(element("text", last, x=WIDTH - right, y=bottom + 15, text_anchor="end", class_="tick"))
    parts.append(element("text", "first → last", x=WIDTH - right + 6, y=bottom + 15, class_="tick"))
    note = f"Calls a rollout over steps. Strongest colour: {highest:.2f} calls a rollout."
    return Figure(title, note, svg(title, *parts, height=bottom + 22))


def bar_chart(title: str, bars: Sequence[Bar], caption: str) -> Figure:
    """Plot mean rewards as horizontal bars with their intervals.

    Args:
        title (`str`): heading.
        bars (`Sequence[Bar]`): in order; equal groups in a row.
        caption (`str`): under the heading.
    """
    if not bars:
        return Figure(title, caption, missing="no rewards")
    left, right, row = 96.0, 46.0, 19.0
    axes = Axes((0.0, 1.0), (0.0, 1.0), left, right)
    y, group, parts = float(TOP), "", []
    for bar in bars:
        if bar.group != group:
            y, group = y + (22.0 if group else 14.0), bar.group
            parts.append(element("text", group, x=2, y=y - 2, class_="group"))
        parts += _drawn_bar(axes, bar, y, row)
        y += row
    grid = []
    for value in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        x = axes.at_x(value)
        grid.append(element("line", x1=x, x2=x, y1=TOP, y2=y, class_="grid"))
        grid.append(element("text", f"{value:.1f}", x=x, y=y + 15, text_anchor="middle", class_="tick"))
    grid.append(element("text", "mean reward", x=axes.at_x(0.5), y=y + 32, text_anchor="middle", class_="label"))
    return Figure(title, caption, svg(title, *grid, *parts, height=y + 40))


def _drawn_bar(axes: Axes, bar: Bar, y: float, row: float) -> list[Markup]:
    value = min(1.0, max(0.0, bar.value))
    start, end, middle = axes.at_x(0.0), axes.at_x(value), y + row / 2
    said = f"{bar.group}, {bar.label}: {bar.value:.3f}"
    shape = element("rect", x=start, y=y + 2, width=max(1.0, end - start), height=row - 4, class_=f"mark {bar.style}")
    parts = [element("text", bar.label, x=axes.left - 6, y=middle + 4, text_anchor="end", class_="tick"), shape]
    reach = end
    if bar.interval is not None:
        low, high = (axes.at_x(min(1.0, max(0.0, limit))) for limit in bar.interval)
        reach = max(end, high)
        said += f", 95 % interval [{bar.interval[0]:.3f}, {bar.interval[1]:.3f}]"
        for x1, x2, half in ((low, high, 0.0), (low, low, 4.0), (high, high, 4.0)):
            parts.append(element("line", x1=x1, x2=x2, y1=middle - half, y2=middle + half, class_="whisker"))
    parts.append(element("text", f"{bar.value:.3f}", x=reach + 5, y=middle + 4, class_="value"))
    return [element("g", element("title", said), *parts)]
