"""Numbers as a reader wants them; what is no number is `-`."""

from typing import Any

from scripts.reporting.reading import number, sequence


def amount(value: float | None) -> str:
    """Return a number as `0.147`, `12.3`, `23,334` or `1.2e-05`."""
    if value is None:
        return "-"
    size = abs(value)
    if size >= 1e9 or 0 < size < 1e-3:
        return f"{value:.2g}"
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.3g}" if size < 1 else f"{value:.2f}"


def shown(value: Any, form: str = "") -> str:
    """Return whatever a file holds in a format such as `+.3f`; by default as `amount` does."""
    known = number(value)
    return format(known, form) if known is not None and form else amount(known)


def bounds(value: Any) -> tuple[Any, Any]:
    """Return the ends of an interval, `None` of what is none."""
    ends = sequence(value)
    return (ends[0], ends[1]) if len(ends) == 2 else (None, None)


def signed_interval(value: Any) -> str:
    """Return an interval as `[+0.308, +0.520]`."""
    low, high = bounds(value)
    return f"[{shown(low, '+.3f')}, {shown(high, '+.3f')}]"


def duration(seconds: float | None) -> str:
    """Return seconds with a unit that suits them."""
    if seconds is None:
        return "-"
    return f"{amount(seconds)} s" if seconds >= 1 or seconds == 0 else f"{amount(1000 * seconds)} ms"


def dollars(value: float | None) -> str:
    """Return a sum of money, with four decimals below one dollar."""
    return "-" if value is None else f"${value:,.4f}" if 0 < value < 1 else f"${value:,.2f}"


def file_size(count: int) -> str:
    """Return bytes with a unit that suits them."""
    return f"{count:,} B" if count < 1_000 else f"{count / 1_000:,.0f} kB" if count < 1e6 else f"{count / 1e6:,.1f} MB"
