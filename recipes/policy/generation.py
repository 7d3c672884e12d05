"""Sampling completions from a policy outside of training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from aflow_ops.executor.types import Message


@torch.no_grad()  # type: ignore[untyped-decorator] # mypy reads nothing of torch
def generate_completions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[Message]],
    *,
    max_new_tokens: int,
    temperature: float,
    top_p: float = 1.0,
    top_k: int = 0,
    repetition_penalty: float = 1.0,
    batch_size: int = 32,
    seed: int = 0,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    on_batch: Callable[[int], Any] | None = None,
) -> list[str]:
    """Sample one completion for every prompt.

    Args:
        model (`PreTrainedModel`): the policy, in evaluation mode.
        tokenizer (`PreTrainedTokenizerBase`): with a chat template, padding on the left.
        prompts (`Sequence[Sequence[Message]]`): chats.
        max_new_tokens (`int`): longest completion.
        temperature (`float`): at least 0; 0 is greedy.
        top_p (`float`): nucleus in (0, 1].
        top_k (`int`): candidates, 0 for all.
        repetition_penalty (`float`): as in training, whatever the model's own default (Qwen2.5 has 1.05); 1 is none.
        batch_size (`int`): prompts at once.
        seed (`int`): sampling seed; the global random state is put back afterwards.
        chat_template_kwargs (`Mapping[str, Any]`, *optional*): what the chat template is told, as in training.
        on_batch (`Callable[[int], Any]`, *optional*): told how many prompts are done after each batch.
    """
    devices = [model.device] if model.device.type == "cuda" else []
    sampling = {"temperature": temperature, "top_p": top_p, "top_k": top_k} if temperature > 0 else {}
    completions: list[str] = []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        for start in range(0, len(prompts), batch_size):
            batch = prompts[start : start + batch_size]
            inputs = _prompt_tensors(tokenizer, batch, chat_template_kwargs).to(model.device)
            output = model.generate(
                **inputs,
                max_new_tokens=max_new_tokens,
                do_sample=temperature > 0,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=end_tokens(model, tokenizer),
                repetition_penalty=repetition_penalty,
                **sampling,
            )
            written = output[:, inputs["input_ids"].shape[1] :]
            completions += tokenizer.batch_decode(written, skip_special_tokens=True)
            if on_batch is not None:
                on_batch(len(completions))
    return completions


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens that end a completion, those that TRL trains with: the model's own and the tokenizer's."""
    own = model.generation_config.eos_token_id
    ends = own if isinstance(own, list) else [own]
    return [token for token in dict.fromkeys([tokenizer.eos_token_id, *ends]) if token is not None]


def _prompt_tensors(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[Message]],
    chat_template_kwargs: Mapping[str, Any] | None,
) -> Any:
    return tokenizer.apply_chat_template(
        [list(prompt) for prompt in prompts],
        add_generation_prompt=True,
        tokenize=True,
        padding=True,
        return_dict=True,
        return_tensors="pt",
        **(chat_template_kwargs or {}),
    )


@dataclass(frozen=True)
class Sampled:
    """One completion as it was sampled.

    Args:
        text (`str`): it, without special tokens.
        prompt_tokens (`int`): length of the prompt.
        tokens (`tuple[tuple[int, float], ...]`): id and log-probability of each token, the end of the turn included;
            log-probabilities are those of the whole vocabulary at the temperature of the sampling, as TRL's are.
    """

    text: str
    prompt_tokens: int
    tokens: tuple[tuple[int, float], ...]


@torch.no_grad()  # type: ignore[untyped-decorator] # mypy reads nothing of torch
def sample_completions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[Message]],
    seeds: Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float,
    top_p: float = 1.0,
    top_k: int = 0,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> list[Sampled]:
    """Sample one completion for every prompt, each from a seed of its own, whatever else is in the batch.

    Sampled by the Gumbel-max trick: the largest of log-probabilities with Gumbel noise is a sample of them.

    Args:
        model (`PreTrainedModel`): the policy, in evaluation mode.
        tokenizer (`PreTrainedTokenizerBase`): with a chat template, padding on the left.
        prompts (`Sequence[Sequence[Message]]`): chats.
        seeds (`Sequence[int]`): one for each prompt.
        max_new_tokens (`int`): longest completion.
        temperature (`float`): at least 0; 0 is greedy, with the log-probabilities of temperature 1.
        top_p (`float`): nucleus in (0, 1].
        top_k (`int`): candidates, 0 for all.
        chat_template_kwargs (`Mapping[str, Any]`, *optional*): what the chat template is told, as in training.

    Raises:
        ValueError: a prompt with its completion is longer than the model reads; says by how much.
    """
    inputs = _prompt_tensors(tokenizer, prompts, chat_template_kwargs).to(model.device)
    width = inputs["input_ids"].shape[1]
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and width + max_new_tokens > longest:
        raise ValueError(f"a prompt of {width} tokens and {max_new_tokens} new ones do not fit the {longest} it reads")
    noise, ends = _SeededNoise(seeds, temperature, top_p, top_k), end_tokens(model, tokenizer)
    output = model.generate(
        **inputs,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=ends,
        repetition_penalty=1.0,
        logits_processor=LogitsProcessorList([noise]),
    )
    found = []
    for row, (ids, prompt) in enumerate(zip(output[:, width:].tolist(), inputs["attention_mask"], strict=True)):
        length = next((at + 1 for at, token in enumerate(ids) if token in ends), len(ids))
        logprobs = [float(step[row]) for step in noise.logprobs[:length]]
        text = tokenizer.decode(ids[:length], skip_special_tokens=True)
        found.append(Sampled(text, int(prompt.sum()), tuple(zip(ids[:length], logprobs, strict=True))))
    return found


class _SeededNoise(LogitsProcessor):
    """Adds Gumbel noise from each row's own generator; keeps the log-probabilities of what greedy decoding then takes.

    Those of whole vocabularies would be gigabytes after a thousand tokens.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float, top_k: int) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.temperature = temperature
        warpers: list[LogitsProcessor] = [TopKLogitsWarper(top_k)] if top_k else []
        self.warpers = LogitsProcessorList([*warpers, TopPLogitsWarper(top_p)] if top_p < 1 else warpers)
        self.logprobs: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        logprobs = torch.log_softmax(scores.float() / (self.temperature or 1.0), dim=-1)
        noisy = logprobs if self.temperature == 0 else self._with_noise(input_ids, logprobs)
        taken = noisy.argmax(dim=-1, keepdim=True)
        self.logprobs.append(logprobs.gather(-1, taken).squeeze(-1).cpu())
        return noisy

    def _with_noise(self, input_ids: torch.Tensor, logprobs: torch.Tensor) -> torch.Tensor:
        size = logprobs.shape[-1]
        uniform = torch.stack([torch.rand(size, generator=generator) for generator in self.generators])
        exponential = -torch.log(uniform.clamp_min(1e-20))
        gumbel = -torch.log(exponential.clamp_min(1e-20))
        warped: torch.Tensor = self.warpers(input_ids, logprobs)
        return warped + gumbel.to(warped.device)
