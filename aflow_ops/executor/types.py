"""What an executor is to the rest of the code: messages in, one reply out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypedDict

from aflow_ops.fault_clock import FaultClock


class Message(TypedDict):
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Reply:
    """One executor reply.

    Args:
        text (`str`): what the executor wrote (may be empty).
        prompt_tokens (`int`): tokens of the messages.
        completion_tokens (`int`): tokens of the reply.
        cost_usd (`float`): price paid for this reply: 0 when cached, or when the model's price is unknown.
        seconds (`float`): wall time, retries and waiting included.
        cached (`bool`): whether it came from the response cache.
        tokens (`tuple[tuple[int, float], ...]`, *optional*): id and log-probability of every token of the text, from an
            executor that was opened for them.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    seconds: float
    cached: bool
    tokens: tuple[tuple[int, float], ...] | None = None


@dataclass(frozen=True)
class ExecutorUsage:
    """Totals of one executor over its life, cached replies included in `calls` and `cache_hits` only."""

    calls: int = 0
    cache_hits: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens that were really processed."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: "ExecutorUsage") -> "ExecutorUsage":
        return ExecutorUsage(
            self.calls + other.calls,
            self.cache_hits + other.cache_hits,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cost_usd + other.cost_usd,
        )


class Executor(Protocol):
    """A frozen LLM that answers inside the operators, with its accounts.

    Attributes:
        on_paid (`Callable`, *optional*): told the cache key (`None` without a cache) and the cost of each paid reply.
    """

    on_paid: Callable[[str | None, ExecutorUsage], None] | None

    @property
    def prompt_set(self) -> str:
        """Name of the operator prompts that suit this executor: `"standard"` or `"small"`."""
        ...

    @property
    def temperature(self) -> float:
        """Sampling temperature of operator calls that do not ask for another one."""
        ...

    @property
    def usage(self) -> ExecutorUsage:
        """Totals so far."""
        ...

    @property
    def cache_statistics(self) -> dict[str, int] | None:
        """`entries` and `bytes` on disk, and `dropped`, the broken entries met so far; `None` without a cache."""
        ...

    def restore(self, usage: ExecutorUsage) -> None:
        """Go on counting from what earlier starts of a run used: it counts against the budget."""
        ...

    def price(self, prompt_tokens: int, completion_tokens: int) -> float:
        """USD for so many tokens; 0 when the price is unknown."""
        ...

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        temperature: float,
        max_tokens: int,
        stop: Sequence[str] = (),
        sample: int = 0,
        faults: FaultClock | None = None,
    ) -> Reply:
        """Return one reply.

        Args:
            messages (`Sequence[Message]`): the chat so far.
            temperature (`float`): sampling temperature, at least 0.
            max_tokens (`int`): most tokens in the reply.
            stop (`Sequence[str]`): at most four strings that end the reply.
            sample (`int`): tells apart equal requests that must be different samples; part of the cache key unless
                the temperature is 0.
            faults (`FaultClock`, *optional*): counts the time for which the call waits through no fault of its own.

        Raises:
            ExecutorError: no answer after all retries, or this call is refused.
            FatalExecutorError: every call is refused.
            BudgetExceededError: the call would pass the USD budget, or the account has no credit left.
        """
        ...
