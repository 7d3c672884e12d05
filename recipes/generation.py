"""Sampling completions from a policy outside of training."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from aflow_ops.errors import UsageError
from aflow_ops.executor.types import Message


def load_policy(model: str, adapter: str | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a policy for generation, on the GPU when there is one.

    Args:
        model (`str`): Hub name or folder of the base model.
        adapter (`str`, *optional*): Hub name or folder of a PEFT adapter for it.

    Raises:
        UsageError: one of them cannot be loaded; says why.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
        policy = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
    except (OSError, ValueError) as error:
        raise UsageError(f"--model {model} cannot be loaded: {error}") from error
    if adapter is not None:
        from peft import PeftModel  # only needed here

        try:
            policy = PeftModel.from_pretrained(policy, adapter)
        except (OSError, ValueError, RuntimeError) as error:
            raise UsageError(f"--adapter {adapter} cannot be loaded onto {model}: {error}") from error
    if tokenizer.chat_template is None:
        raise UsageError(f"--model {model}: its tokenizer has no chat template; use an instruction-tuned model")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return policy.to(device).eval(), tokenizer


def trained_prompt_style(folder: str | None) -> str | None:
    """Return the prompt style that a recipe's run wrote into the `summary.json` beside its adapter, if it did."""
    summary = Path(folder or "") / "summary.json"
    if folder is None or not summary.is_file():
        return None
    style: str | None = json.loads(summary.read_text(encoding="utf-8")).get("prompt_style")
    return style


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
                **sampling,
            )
            written = output[:, inputs["input_ids"].shape[1] :]
            completions += tokenizer.batch_decode(written, skip_special_tokens=True)
            if on_batch is not None:
                on_batch(len(completions))
    return completions
