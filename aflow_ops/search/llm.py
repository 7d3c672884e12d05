"""A proposer that asks a language model: at any OpenAI-compatible endpoint, or one that is run in this process."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from aflow_ops.executor.types import Message, Reply
from aflow_ops.search.edit_prompt import MAX_REPLY_CHARS
from aflow_ops.search.expand import Context, Proposal
from aflow_ops.search.node import Attempt, Origin
from aflow_ops.search.prompting import Prompting

MAX_TOKENS = 2048
# Equal requests of one expansion, told apart for the cache.
_ATTEMPTS_APART = 10


class Model(Protocol):
    """What a proposer needs of a model: an executor has it, with its own endpoint, key, budget and prices."""

    async def complete(
        self, messages: Sequence[Message], *, temperature: float, max_tokens: int, sample: int = 0
    ) -> Reply:
        """Return one reply; `Reply.tokens` where ids and log-probabilities of what was written are known."""
        ...

    def price(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return what so many tokens cost in USD."""
        ...


class ModelProposer:
    """Asks a model for workflows.

    Args:
        model (`Model`): answers.
        prompting (`Prompting`): what it is asked.
        temperature (`float`): of its sampling.
        max_tokens (`int`): most tokens of a reply.
        origin (`str`): `"openai"`, or `"policy"` when the model is the policy itself.
        policy (`Mapping[str, Any]`, *optional*): `model`, `adapter` and `step` of the policy.
        first_sample (`int`): number of the first proposal; other numbers are other samples.
    """

    def __init__(
        self,
        model: Model,
        prompting: Prompting,
        *,
        temperature: float = 0.7,
        max_tokens: int = MAX_TOKENS,
        origin: Origin = "openai",
        policy: Mapping[str, Any] | None = None,
        first_sample: int = 0,
    ) -> None:
        self.model, self.prompting, self.temperature, self.max_tokens = model, prompting, temperature, max_tokens
        self.policy, self.first_sample = policy, first_sample
        self._origin: Origin = origin

    @property
    def origin(self) -> Origin:
        """What its nodes' `origin` says."""
        return self._origin

    async def propose(self, context: Context, refused: Sequence[tuple[Proposal, str]]) -> Proposal:
        """Ask for one workflow.

        Raises:
            ExecutorError: the model could not be asked.
            BudgetExceededError: its budget is spent.
        """
        messages = self.prompting.messages(context, refused)
        sample = (self.first_sample + context.sample) * _ATTEMPTS_APART + len(refused)
        reply = await self.model.complete(
            messages, temperature=self.temperature, max_tokens=self.max_tokens, sample=sample
        )
        modification, completion = self.prompting.read(context, reply.text)
        return Proposal(
            completion=completion,
            modification=modification,
            tokens=reply.prompt_tokens + reply.completion_tokens,
            cost_usd=self.model.price(reply.prompt_tokens, reply.completion_tokens),
            attempt=self._attempt(context, messages, reply),
        )

    def _attempt(self, context: Context, messages: Sequence[Message], reply: Reply) -> Attempt | None:
        """Keep what was asked and written; nothing of a reply that no model of sense writes."""
        if len(reply.text) > MAX_REPLY_CHARS:
            return None
        ids, logprobs = zip(*reply.tokens, strict=True) if reply.tokens else (None, None)
        return Attempt(
            messages=tuple({"role": message["role"], "content": message["content"]} for message in messages),
            completion=reply.text,
            form=self.prompting.form,
            problem=self.prompting.problem(context),
            policy=self.policy,
            completion_ids=ids,
            logprobs=logprobs,
        )
