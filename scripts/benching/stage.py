"""A stage of `scripts/bench.py`."""

import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stage:
    """One line of the table: what is measured, in which unit, and what to hold it against."""

    name: str
    measure: Callable[[], Coroutine[Any, Any, float]]
    unit: str
    compare: str = ""


async def seconds_of(work: Callable[[], Awaitable[object]]) -> float:
    """Wall seconds of one await."""
    start = time.monotonic()
    await work()
    return time.monotonic() - start
