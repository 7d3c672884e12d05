"""Executors that cost nothing: one that listens to the real one, and ones that answer in its place with decoys."""

import re
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from aflow_ops.executor.types import Executor, ExecutorUsage, Message, Reply
from aflow_ops.fault_clock import FaultClock
from rewards.provenance.decoys import Decoys, prompt_names

_CHOICE = re.compile(r"^[A-Z]:$", re.MULTILINE)


@dataclass(frozen=True)
class Exchange:
    """One request of a run and its reply.

    Args:
        prompt (`str`): name of the operator prompt.
        request (`str`): the last message: what the workflow wrote, inside the operator's own words.
        reply (`str`): what came back.
    """

    prompt: str
    request: str
    reply: str


class _Substitute:
    """What the executors here share: the accounts of the real one, or none."""

    cache_statistics = None

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.exchanges: list[Exchange] = []
        self._names = prompt_names(executor.prompt_set)
        self.on_paid: Callable[[str | None, ExecutorUsage], None] | None = None

    @property
    def prompt_set(self) -> str:
        """As the real one has."""
        return self.executor.prompt_set

    @property
    def temperature(self) -> float:
        """As the real one has."""
        return self.executor.temperature

    @property
    def usage(self) -> ExecutorUsage:
        """Of the real one: a substitute counts nothing."""
        return self.executor.usage

    def restore(self, usage: ExecutorUsage) -> None:
        """Nothing is counted here."""

    def price(self, prompt_tokens: int, completion_tokens: int) -> float:
        """As the real one has."""
        return self.executor.price(prompt_tokens, completion_tokens)

    def _noted(self, messages: Sequence[Message], reply: str) -> None:
        self.exchanges.append(Exchange(self._prompt(messages), messages[-1]["content"], reply))

    def _prompt(self, messages: Sequence[Message]) -> str:
        system = messages[0]["content"] if messages[0]["role"] == "system" else ""
        return self._names.get(system, "custom")


class ListeningExecutor(_Substitute):
    """The real executor, with a record of what it was asked in one run and what it replied.

    Args:
        executor (`Executor`): the real one.
    """

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
        """Ask the real executor."""
        reply = await self.executor.complete(
            messages, temperature=temperature, max_tokens=max_tokens, stop=stop, sample=sample, faults=faults
        )
        self._noted(messages, reply.text)
        return reply


class DecoyExecutor(_Substitute):
    """Answers with decoys.

    Args:
        executor (`Executor`): the real one, for its settings only.
        decoys (`Decoys`, *optional*): where replies come from; without it, recorded replies are repeated unchanged.
        recorded (`Sequence[Exchange]`): replies of a real run: each is what becomes of the same prompt's reply there.
            Without any, and beyond their number, replies are invented.
        kept (`Collection[Exchange]`): those of them that the same request gets unchanged.
    """

    def __init__(
        self,
        executor: Executor,
        decoys: Decoys | None,
        recorded: Sequence[Exchange] = (),
        kept: Collection[Exchange] = (),
    ) -> None:
        super().__init__(executor)
        self.decoys, self.kept = decoys, kept
        self._queues: dict[str, list[Exchange]] = defaultdict(list)
        for exchange in recorded:
            self._queues[exchange.prompt].append(exchange)

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
        """Return a decoy."""
        start = time.monotonic()
        text = self._reply(self._prompt(messages), messages[-1]["content"])
        self._noted(messages, text)
        return Reply(text, 0, 0, 0.0, time.monotonic() - start, True)

    def _reply(self, prompt: str, request: str) -> str:
        queue = self._queues[prompt]
        same = next((exchange for exchange in queue if exchange.request == request), queue[0] if queue else None)
        if same is not None:
            queue.remove(same)
            stays = self.decoys is None or (same in self.kept and same.request == request)
            return same.reply if self.decoys is None or stays else self.decoys.corrupted(same.reply, prompt)
        return "" if self.decoys is None else self.decoys.invented(prompt, request, len(_CHOICE.findall(request)))
