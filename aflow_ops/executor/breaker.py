"""The circuit breaker, which keeps an endpoint that is down from costing more than time."""

import time
from collections.abc import Callable
from typing import Literal

# Failures in a row, over all calls, after which the endpoint is taken to be down.
FAILURES_TO_OPEN = 8
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0


class CircuitBreaker:
    """Pauses all calls while the endpoint is down, instead of letting each burn its retries.

    Closed, every attempt passes. After `FAILURES_TO_OPEN` failures in a row it opens: attempts wait, and one at a time
    is let through to see whether the endpoint is back, after 1, 2, 4, ... 30 seconds. A success closes it. Held, on the
    endpoint's own wish, nothing passes.

    Args:
        clock (`Callable[[], float]`): seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._open_since: float | None = None
        self._next_probe = 0.0
        self._pause = FIRST_PAUSE
        self._probing = False
        self._held_until = float("-inf")

    def try_admit(self) -> Literal["pass", "probe"] | None:
        """Tell whether an attempt may be made now, and as what; `None` when it must wait."""
        if self.held_seconds > 0:
            return None
        if self._open_since is None:
            return "pass"
        if not self._probing and self._clock() >= self._next_probe:
            self._probing = True
            return "probe"
        return None

    @property
    def down_seconds(self) -> float:
        """Seconds since it opened; 0 when closed."""
        return 0.0 if self._open_since is None else self._clock() - self._open_since

    @property
    def held_seconds(self) -> float:
        """Seconds until the end of the pause that the endpoint asked for; 0 when there is none."""
        return max(0.0, self._held_until - self._clock())

    def hold(self, seconds: float) -> None:
        """Let nothing pass for so long: the endpoint asked for it."""
        self._held_until = max(self._held_until, self._clock() + seconds)

    def succeeded(self) -> None:
        """An attempt got an answer, be it an error that is about the request."""
        self._failures = 0
        self._open_since = None
        self._probing = False
        self._pause = FIRST_PAUSE

    def failed(self, probe: bool) -> None:
        """An attempt found the endpoint down: no connection, no reply in time, or a server error."""
        self._failures += 1
        now = self._clock()
        if probe:
            self._probing = False
            self._pause = min(LONGEST_PAUSE, 2 * self._pause)
            self._next_probe = now + self._pause
        elif self._open_since is None and self._failures >= FAILURES_TO_OPEN:
            self._open_since = now
            self._pause = FIRST_PAUSE
            self._next_probe = now + self._pause

    def withdrawn(self, probe: bool) -> None:
        """An attempt was cancelled and says nothing."""
        if probe:
            self._probing = False
