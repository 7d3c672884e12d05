"""A policy that proposes workflows, run in this process by transformers."""

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aflow_ops.errors import CallRefusedError, UsageError
from aflow_ops.executor.types import Message, Reply

# Turns of the event loop that a batch waits: those who ask in answer to the same replies need a few to get here.
_HOPS = 16


@dataclass
class _Batch:
    """What is written together: chats, each with the number of its sample."""

    temperature: float
    max_tokens: int
    asked: list[tuple[Sequence[Message], int]] = field(default_factory=list)
    written: "asyncio.Task[list[Reply | ValueError]] | None" = None


class LocalPolicy:
    """A model for `ModelProposer`. What is asked at the same time is one batch; a reply does not depend on its batch,
    but for the last digits of its log-probabilities, and what is in a batch depends on no clock. In bfloat16 the last
    digits are the third ones, and now and then decide a token.

    Args:
        model (`PreTrainedModel`): the policy, in evaluation mode.
        tokenizer (`PreTrainedTokenizerBase`): its.
        seed (`int`): of the sampling.
        top_p (`float`): nucleus in (0, 1].
        top_k (`int`): candidates, 0 for all.
        chat_template_kwargs (`Mapping[str, Any]`, *optional*): what the chat template is told.
        remedy (`str`): what helps against prompts that are too long.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        seed: int,
        *,
        top_p: float = 1.0,
        top_k: int = 0,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        remedy: str,
    ) -> None:
        self.seed, self.top_p, self.top_k, self.remedy = seed, top_p, top_k, remedy
        self.chat_template_kwargs = chat_template_kwargs
        self._model, self._tokenizer = model, tokenizer
        self._lock = asyncio.Lock()
        self._open: dict[tuple[float, int], _Batch] = {}
        self._has_written = False

    def price(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return 0: it runs here."""
        return 0.0

    async def complete(
        self, messages: Sequence[Message], *, temperature: float, max_tokens: int, sample: int = 0
    ) -> Reply:
        """Return one reply with its tokens.

        Raises:
            UsageError: the prompt is too long for the policy, and it has not written anything yet.
            CallRefusedError: it is too long, and others were not.
        """
        batch = self._open.get((temperature, max_tokens))
        if batch is None:
            batch = self._open[temperature, max_tokens] = _Batch(temperature, max_tokens)
            batch.written = asyncio.create_task(self._written(batch))
        index = len(batch.asked)
        batch.asked.append((messages, sample))
        assert batch.written is not None
        reply = (await asyncio.shield(batch.written))[index]
        if isinstance(reply, Reply):
            return reply
        told = f"the policy that proposes: {reply}; {self.remedy}"
        raise CallRefusedError(told) if self._has_written else UsageError(told)

    async def _written(self, batch: "_Batch") -> "list[Reply | ValueError]":
        """Write a batch once the one before it is written: until then whoever asks joins it."""
        for _ in range(_HOPS):
            await asyncio.sleep(0)
        async with self._lock:
            del self._open[batch.temperature, batch.max_tokens]
            replies = await asyncio.to_thread(self._write, batch)
        self._has_written |= any(isinstance(reply, Reply) for reply in replies)
        return replies

    def _write(self, batch: "_Batch") -> "list[Reply | ValueError]":
        from recipes.policy.generation import sample_completions  # torch takes seconds to import

        start = time.monotonic()
        try:
            written = sample_completions(
                self._model,
                self._tokenizer,
                [messages for messages, _ in batch.asked],
                [_seed_of(self.seed, messages, sample) for messages, sample in batch.asked],
                max_new_tokens=batch.max_tokens,
                temperature=batch.temperature,
                top_p=self.top_p,
                top_k=self.top_k,
                chat_template_kwargs=self.chat_template_kwargs,
            )
        except ValueError as error:  # a prompt is too long: the others are not to suffer for it
            if len(batch.asked) == 1:
                return [error]
            return [self._write(replace(batch, asked=[asked]))[0] for asked in batch.asked]
        seconds = time.monotonic() - start
        return [
            Reply(each.text, each.prompt_tokens, len(each.tokens), 0.0, seconds, cached=False, tokens=each.tokens)
            for each in written
        ]


def _seed_of(seed: int, messages: Sequence[Message], sample: int) -> int:
    said = "\x1f".join(message["content"] for message in messages)
    digest = hashlib.sha256(f"{seed} {sample} {said}".encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:7], "big")


def policy_facts(model: str, adapter: str | None) -> Mapping[str, Any]:
    """Return `model`, `adapter` and `step` as training rows name the policy; the step is a checkpoint folder's.

    Args:
        model (`str`): Hub name, folder, or name at an endpoint.
        adapter (`str`, *optional*): likewise.
    """
    _, found, step = Path(adapter or model).name.rpartition("checkpoint-")
    return {"model": model, "adapter": adapter, "step": int(step) if found and step.isdigit() else None}
