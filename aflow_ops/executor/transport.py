"""What a provider brings: one request over the wire, and what its failures mean.

Everything else (cache, budget, limits, retries, hedging, outages, usage) is `MeteredExecutor`'s and the same for all
providers. A provider of one's own is one class:

    class Parrot(Transport):
        async def send(self, call: Call) -> Completion:
            return Completion(call.messages[-1]["content"], call.prompt_tokens, 1)

It is named where the flag is: `--executor my_package.parrot:Parrot`, or `--executor parrot.py:Parrot`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

from aflow_ops.executor.config import ExecutorConfig
from aflow_ops.executor.types import Message
from aflow_ops.fault_clock import FaultClock

# What a failed attempt says, and what becomes of the call:
#   again    the transport learnt how to ask: tried again at once, which costs no retry
#   outage   the endpoint is down: tried again, and counted by the circuit breaker
#   busy     it is up, but not now (rate limit, no answer in the reply): tried again
#   call     it refuses this call only (content filter, malformed request): this rollout has no reward
#   fatal    it refuses every call (key, model, address): the run ends
#   spent    the account has no credit left: the run ends as on a spent budget
Failure = Literal["again", "outage", "busy", "call", "fatal", "spent"]


@dataclass(frozen=True)
class Call:
    """One request.

    Args:
        messages (`Sequence[Message]`): the chat so far.
        temperature (`float`): sampling temperature, at least 0.
        max_tokens (`int`): most tokens in the reply.
        stop (`Sequence[str]`): at most four strings that end the reply.
        faults (`FaultClock`, *optional*): the clock of the run that it belongs to.
        probe (`bool`): it asks whether the endpoint works: any reply will do.
    """

    messages: Sequence[Message]
    temperature: float
    max_tokens: int
    stop: Sequence[str] = ()
    faults: FaultClock | None = None
    probe: bool = False

    @property
    def prompt_tokens(self) -> int:
        """A safe estimate, before the endpoint has counted."""
        return sum(estimated_tokens(message["content"]) for message in self.messages)

    def waiting(self) -> AbstractContextManager[None]:
        """While inside, the call waits through no fault of its own."""
        return nullcontext() if self.faults is None else self.faults.waiting()

    def lost(self, seconds: float) -> None:
        """Count time that a failed attempt took."""
        if self.faults is not None:
            self.faults.add(seconds)


@dataclass(frozen=True)
class Completion:
    """What came back.

    Args:
        text (`str`): the answer, without what the model thought before it.
        prompt_tokens (`int`): as the provider bills them, at least 0.
        completion_tokens (`int`): likewise, thoughts included.
        tokens (`tuple[tuple[int, float], ...]`, *optional*): id and log-probability of every token of the answer, where
            the transport asks for them.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    tokens: tuple[tuple[int, float], ...] | None = None


class TransportError(Exception):
    """An attempt that brought no answer.

    Args:
        failure (`str`): what it says; see `Failure`.
        reason (`str`): one sentence, fit to be shown to a person and without any key.
        retry_after (`float`, *optional*): seconds that the provider asks to wait.
        billed (`Completion`, *optional*): what had to be paid for it all the same.
    """

    def __init__(
        self, failure: Failure, reason: str, *, retry_after: float | None = None, billed: Completion | None = None
    ) -> None:
        super().__init__(reason)
        self.failure = failure
        self.retry_after = retry_after
        self.billed = billed


class Transport(ABC):
    """One address of a provider.

    Args:
        config (`ExecutorConfig`): the flags.

    Attributes:
        room (`int`): completion tokens beyond a call's own limit that a request may use, for thinking; they count when
            budget and rate limits are estimated.
    """

    room = 0

    def __init__(self, config: ExecutorConfig) -> None:
        self.config = config

    @property
    def identity(self) -> str:
        """Who answers, as a part of the cache's keys. It holds no key or password."""
        return self.config.executor

    @abstractmethod
    async def send(self, call: Call) -> Completion:
        """Make one attempt.

        Raises:
            TransportError: it brought no answer.
        """

    async def close(self) -> None:  # noqa: B027 - a transport without connections has nothing to close
        """Close all connections."""

    def __str__(self) -> str:
        return self.identity


def estimated_tokens(text: str) -> int:
    """Return about as many tokens as a text has, rather more: three bytes each, at least one unless it is empty."""
    return -(-len(text.encode("utf-8", "replace")) // 3)
