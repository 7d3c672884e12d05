"""Sampling completions from a policy outside of training."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from aflow_ops.executor.types import Message


@torch.no_grad()
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
        on_batch (`Callable[[int], Any]`, *optional*): told how many prompts are done after each batch.
    """
    devices = [model.device] if model.device.type == "cuda" else []
    sampling = {"temperature": temperature, "top_p": top_p, "top_k": top_k} if temperature > 0 else {}
    completions: list[str] = []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        for start in range(0, len(prompts), batch_size):
            batch = [list(prompt) for prompt in prompts[start : start + batch_size]]
            inputs = tokenizer.apply_chat_template(
                batch, add_generation_prompt=True, tokenize=True, padding=True, return_dict=True, return_tensors="pt"
            ).to(model.device)
            output = model.generate(
                **inputs,
                max_new_tokens=max_new_tokens,
                do_sample=temperature > 0,
                pad_token_id=tokenizer.pad_token_id,
                repetition_penalty=repetition_penalty,
                **sampling,
            )
            written = output[:, inputs["input_ids"].shape[1] :]
            completions += tokenizer.batch_decode(written, skip_special_tokens=True)
            if on_batch is not None:
                on_batch(len(completions))
    return completions
