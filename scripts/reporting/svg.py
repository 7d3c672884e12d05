"""Inline SVG and the axes of a plot; every element is made by `element`, which escapes text and attributes."""

import math
from dataclasses import dataclass

from markupsafe import Markup, escape

from scripts.reporting.formatting import amount

Point = tuple[float, float]

WIDTH, HEIGHT = 440, 240
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 10, 40


def element(name: str, *children: object, **attributes: object) -> Markup:
    """Return an element; `class_` stands for `class`, `text_anchor` for `text-anchor`; `None` leaves one out."""
    parts = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    ]
    inside = "".join(str(escape(child)) for child in children)
    return Markup(f"<{name}{''.join(parts)}>{inside}</{name}>")


def _short(value: object) -> object:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value


def svg(label: str, *children: object, width: float = WIDTH, height: float = HEIGHT, class_: str = "plot") -> Markup:
    """Return the frame of a plot; `label` is what a screen reader says of it."""
    box = f"0 0 {width:.0f} {height:.0f}"
    return element(
        "svg", *children, viewBox=box, width=width, height=height, role="img", aria_label=label, class_=class_
    )


def ticks(low: float, high: float, count: int = 4, least: float = 0.0) -> list[float]:
    """Return round numbers from `low` to `high`, about `count` of them; integers when `least` is 1."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    raw = max(least, span / count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(
        power * factor for factor in ((1, 2, 5, 10) if least else (1, 2, 2.5, 5, 10)) if power * factor >= raw * 0.999
    )
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Axes:
    """Maps values to places inside a plot's frame.

    Args:
        x, y (`tuple[float, float]`): lowest and highest value.
        left (`float`): where the plot begins.
        right (`float`): room behind it.
    """

    x: Point
    y: Point
    left: float = LEFT
    right: float = RIGHT

    def at_x(self, value: float) -> float:
        """Return the horizontal place of a value."""
        span = self.x[1] - self.x[0]
        share = (value - self.x[0]) / span if span else 0.5
        return self.left + share * (WIDTH - self.left - self.right)

    def at_y(self, value: float) -> float:
        """Return the vertical place of a value."""
        span = self.y[1] - self.y[0]
        share = (value - self.y[0]) / span if span else 0.5
        return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)

    def drawn(self, y_label: str, x_label: str = "GRPO step", x_least: float = 1.0) -> list[Markup]:
        """Return grid, ticks and labels of a plot.

        Args:
            y_label (`str`): name and unit of the vertical axis.
            x_label (`str`): likewise, of the horizontal one.
            x_least (`float`): smallest distance of its ticks; 1 for whole numbers.
        """
        right, bottom = WIDTH - self.right, HEIGHT - BOTTOM
        parts = []
        for value in ticks(*self.y):
            y = self.at_y(value)
            parts.append(element("line", x1=self.left, x2=right, y1=y, y2=y, class_="grid"))
            parts.append(element("text", amount(value), x=self.left - 6, y=y + 4, text_anchor="end", class_="tick"))
        for value in ticks(*self.x, count=5, least=x_least):
            x = self.at_x(value)
            parts.append(element("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis"))
            parts.append(element("text", amount(value), x=x, y=bottom + 17, text_anchor="middle", class_="tick"))
        parts.append(element("line", x1=self.left, x2=right, y1=bottom, y2=bottom, class_="axis"))
        middle_x, middle_y = (self.left + right) / 2, (TOP + bottom) / 2
        parts.append(element("text", x_label, x=middle_x, y=HEIGHT - 5, text_anchor="middle", class_="label"))
        turn = f"translate(12 {middle_y:.0f}) rotate(-90)"
        parts.append(element("text", y_label, text_anchor="middle", transform=turn, class_="label"))
        return parts
