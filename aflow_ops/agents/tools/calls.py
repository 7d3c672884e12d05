"""Tool calls of one episode: counted, bounded and kept for the record."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aflow_ops.errors import InfraError

# Of an argument, as the record keeps it.
RECORDED_CHARS = 200


class ToolRefusalError(Exception):
    """The agent asked for what a tool does not do; the message is for the agent."""


class ToolTimeoutError(InfraError):
    """A tool hung: costs the episode, and says nothing about the agent."""


@dataclass(frozen=True)
class ToolCall:
    """One call as it was.

    Args:
        tool (`str`): its name.
        argument (`str`): its beginning.
        ok (`bool`): the tool did what it was asked for; a refusal, a repetition and one call too many are not.
        seconds (`float`): how long it took.
        chars (`int`): of the reply.
    """

    tool: str
    argument: str
    ok: bool
    seconds: float
    chars: int


class ToolCalls:
    """What agents of one episode may call, and what they have called.

    An agent that asks the same thing again is given the same reply; one that has no call left is told so. Both are
    recorded, and neither runs the tool, so a loop of calls ends by itself.

    Args:
        max_calls (`int`): calls of all tools together.
        max_chars (`int`): of one reply; the rest is cut off, with a word about it.
        seconds (`float`): for one call.
    """

    def __init__(self, *, max_calls: int = 16, max_chars: int = 4_000, seconds: float = 60.0) -> None:
        self._max_calls, self._max_chars, self._seconds = max_calls, max_chars, seconds
        self._replies: dict[tuple[str, str], str] = {}
        self.calls: list[ToolCall] = []

    @property
    def left(self) -> int:
        """Calls that are left."""
        return max(0, self._max_calls - len(self.calls))

    @property
    def succeeded(self) -> int:
        """Calls that did what they were asked for."""
        return sum(call.ok for call in self.calls)

    async def __call__(self, tool: str, argument: str, work: Callable[[], Awaitable[str]]) -> str:
        """Do one call and return what the agent is told.

        Args:
            tool (`str`): its name.
            argument (`str`): what it is asked for; two calls with equal ones are the same.
            work (`Callable`): does it; raises `ToolRefusalError` when it will not.

        Raises:
            InfraError: the tool failed or hung.
        """
        start = time.monotonic()
        key = (tool, argument)
        if not self.left:
            return self._record(key, f"no tool call is left: {self._max_calls} were made", start, ok=False)
        if key in self._replies:
            return self._record(key, self._replies[key], start, ok=False)
        try:
            async with asyncio.timeout(self._seconds):
                reply, ok = await work(), True
        except ToolRefusalError as error:
            reply, ok = str(error), False
        except TimeoutError:
            raise ToolTimeoutError(f"{tool} took more than {self._seconds:g} s") from None
        if len(reply) > self._max_chars:
            reply = f"{reply[: self._max_chars]}\n[cut: {len(reply)} characters]"
        self._replies[key] = reply
        return self._record(key, reply, start, ok=ok)

    def _record(self, key: tuple[str, str], reply: str, start: float, *, ok: bool) -> str:
        if len(self.calls) < 4 * self._max_calls:  # what a loop adds beyond that tells nothing
            seconds = time.monotonic() - start
            self.calls.append(ToolCall(key[0], key[1][:RECORDED_CHARS], ok, seconds, len(reply)))
        return reply
