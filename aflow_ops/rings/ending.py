"""How an interpreter's work on a workflow ended, and the deadline that both interpreters keep."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Literal

from aflow_ops.rings.calls import Run
from aflow_ops.trace import TraceError

# A run that we keep waiting for longer than this many times its limit is given up, as a failure of ours.
MAX_LOST_LIMITS = 10


@dataclass(frozen=True)
class Ending:
    """How it ended.

    Args:
        kind (`str`): `"returned"`, `"raised"`, `"timeout"` (the deadline) or `"lost"` (its process is gone).
        value (`Any`): what the workflow returned.
        error (`TraceError`, *optional*): what it raised, or what happened to its process.
        final (`bool`): nothing is gained by running it again: a limit ended it.
    """

    kind: Literal["returned", "raised", "timeout", "lost"]
    value: Any = None
    error: TraceError | None = None
    final: bool = False


async def within_deadline(run: Run, work: Coroutine[Any, Any, Any]) -> Any:
    """Await the run for as long as its own time is within the limit: time that we lost for it does not count.

    Raises:
        asyncio.TimeoutError: its time is up, or we lost far more than the limit; the work is cancelled.
    """
    task, limit = asyncio.ensure_future(work), run.limits.timeout
    try:
        while not task.done():
            left = limit - run.own_seconds
            if left <= 0 or run.faults.seconds > MAX_LOST_LIMITS * limit:
                raise TimeoutError
            await asyncio.wait([task], timeout=left)
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # it is known, also where this wait was cut off: asyncio says nothing of it
