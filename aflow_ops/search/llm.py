"""A proposer that asks a language model, at any OpenAI-compatible endpoint."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from aflow_ops.executor.types import Message, Reply
from aflow_ops.search.edit_prompt import edit_messages, read_reply
from aflow_ops.search.expand import Context, Proposal
from aflow_ops.search.node import Origin
from data.problem import Domain

MAX_TOKENS = 2048
# Equal requests of one expansion, told apart for the cache.
_ATTEMPTS_APART = 10


class Model(Protocol):
    """The part of an executor that a proposer needs: its own endpoint, key, budget and prices."""

    async def complete(
        self, messages: Sequence[Message], *, temperature: float, max_tokens: int, sample: int = 0
    ) -> Reply:
        """Return one reply."""
        ...

    def price(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return what so many tokens cost in USD."""
        ...


class ModelProposer:
    """Asks a model for modifications.

    Args:
        model (`Model`): answers.
        kinds (`Sequence[tuple[Domain, bool]]`): kinds of problems, see `edit_messages`.
        temperature (`float`): of its sampling.
        origin (`str`): `"openai"`, or `"policy"` when the model is the policy itself, behind a server.
        first_sample (`int`): number of the first proposal; other numbers are other samples.
    """

    def __init__(
        self,
        model: Model,
        kinds: Sequence[tuple[Domain, bool]],
        *,
        temperature: float = 0.7,
        origin: Origin = "openai",
        first_sample: int = 0,
    ) -> None:
        self.model, self.kinds, self.temperature, self.first_sample = model, tuple(kinds), temperature, first_sample
        self._origin: Origin = origin

    @property
    def origin(self) -> Origin:
        """What its nodes' `origin` says."""
        return self._origin

    async def propose(self, context: Context, refused: Sequence[tuple[Proposal, str]]) -> Proposal:
        """Ask for one modification.

        Raises:
            ExecutorError: the model could not be asked.
            BudgetExceededError: its budget is spent.
        """
        messages = edit_messages(context, self.kinds, refused)
        sample = (self.first_sample + context.sample) * _ATTEMPTS_APART + len(refused)
        reply = await self.model.complete(messages, temperature=self.temperature, max_tokens=MAX_TOKENS, sample=sample)
        modification, completion = read_reply(reply.text)
        kept: tuple[Mapping[str, str], ...] = tuple({"role": m["role"], "content": m["content"]} for m in messages)
        return Proposal(
            completion=completion,
            modification=modification or "no modification was named",
            tokens=reply.prompt_tokens + reply.completion_tokens,
            cost_usd=self.model.price(reply.prompt_tokens, reply.completion_tokens),
            messages=kept,
        )
