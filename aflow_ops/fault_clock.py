"""The clock of what a workflow run loses through no fault of its own."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class FaultClock:
    """Counts the seconds in which a workflow run waits for us.

    For retries, rate limits, an outage, a free slot at the executor or in the sandbox: that time is not the workflow's,
    so it does not count against its deadline.
    """

    def __init__(self) -> None:
        self._waiting = 0
        self._since = 0.0
        self._total = 0.0

    @property
    def seconds(self) -> float:
        """Seconds so far, a wait that goes on included."""
        return self._total + (time.monotonic() - self._since if self._waiting else 0.0)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the block; blocks at the same time count once."""
        if self._waiting == 0:
            self._since = time.monotonic()
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            if self._waiting == 0:
                self._total += time.monotonic() - self._since

    def add(self, seconds: float) -> None:
        """Count time that turned out to be lost: a failed attempt's. Not twice while something is waited for."""
        if self._waiting == 0:
            self._total += seconds
