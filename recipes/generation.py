"""Sampling completions from a policy outside of training."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from httpx2 import HTTPError  # comes with huggingface_hub
from huggingface_hub import hf_hub_download, snapshot_download
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from aflow_ops.errors import UsageError
from aflow_ops.executor.types import Message
from aflow_ops.policy_prompt import PROMPT_STYLES, PromptStyle
from recipes.hub import BASE_FOLDER, is_repository
from recipes.run_config import CONFIG_FILE


def load_policy(model: str, adapter: str | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a policy for generation, on the GPU when there is one.

    Args:
        model (`str`): Hub name or folder of the base model; `"you/name/base_model"` is a folder of a repository.
        adapter (`str`, *optional*): Hub name or folder of a PEFT adapter for it.

    Raises:
        UsageError: one of them cannot be loaded; says why.
    """
    try:
        place = downloaded_folder(model)
        tokenizer = AutoTokenizer.from_pretrained(place, padding_side="left")
        policy = AutoModelForCausalLM.from_pretrained(place, dtype="auto")
    except (OSError, ValueError) as error:
        raise UsageError(f"--model {model} cannot be loaded: {error}") from error
    if adapter is not None:
        from peft import PeftModel  # only needed here

        try:
            policy = PeftModel.from_pretrained(policy, adapter)
        except (OSError, HTTPError, ValueError, RuntimeError) as error:
            raise UsageError(f"--adapter {adapter} cannot be loaded onto {model}: {error}") from error
    if tokenizer.chat_template is None:
        raise UsageError(f"--model {model}: its tokenizer has no chat template; use an instruction-tuned model")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return policy.to(device).eval(), tokenizer


def downloaded_folder(model: str) -> str:
    """Download `"you/name/folder"` and return where it is; any other name is returned as it is.

    The `subfolder` of transformers does not do: beside an adapter it loads the adapter too.

    Raises:
        OSError: it cannot be downloaded.
    """
    repository, folder = "/".join(model.split("/")[:2]), "/".join(model.split("/")[2:])
    if Path(model).exists() or not folder or not is_repository(repository):
        return model
    try:
        return str(Path(snapshot_download(repository, allow_patterns=f"{folder}/*")) / folder)
    except HTTPError as error:
        raise OSError(str(error)) from error


def base_model_of(adapter: str) -> str:
    """Return the base model that an adapter names, or the one that lies beside it.

    Args:
        adapter (`str`): Hub name or folder.

    Raises:
        UsageError: there is no adapter, or it does not say.
    """
    if (Path(adapter) / BASE_FOLDER / "config.json").is_file():
        return str(Path(adapter) / BASE_FOLDER)
    path = policy_file(adapter, "adapter_config.json")
    if path is None:
        raise UsageError(
            f"--adapter {adapter}: no adapter_config.json there; is it a folder, or on a Hub that can be reached?"
        )
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"--adapter {adapter}: its adapter_config.json cannot be read ({type(error).__name__}: {error}); name the "
            "base model with --model"
        ) from None


def policy_file(place: str, name: str) -> Path | None:
    """Return a file of a folder or of a repository on the Hub; `None` when it has no such file."""
    if Path(place).is_dir():
        path = Path(place) / name
        return path if path.is_file() else None
    if not is_repository(place):
        return None
    try:
        return Path(hf_hub_download(place, name))
    except (OSError, HTTPError):
        return None


def trained_prompt_style(place: str | None) -> PromptStyle | None:
    """Return the prompt style that a policy was trained with, from what a recipe's run left beside it.

    Args:
        place (`str`, *optional*): folder or Hub name of the adapter, or of the model that it was merged into.
    """
    for name in ("summary.json", CONFIG_FILE):
        style = _left_beside(place, name).get("prompt_style")
        if style in PROMPT_STYLES:
            return cast(PromptStyle, style)
    return None


def trained_sources(place: str | None) -> list[str]:
    """Return the sources of problems that a policy was trained on, as the run was told; none when nothing says so.

    Args:
        place (`str`, *optional*): as for `trained_prompt_style`.
    """
    sources = _left_beside(place, CONFIG_FILE).get("sources")
    return [str(source) for source in sources] if isinstance(sources, list) else []


def _left_beside(place: str | None, name: str) -> dict[str, Any]:
    """Read a JSON or YAML object beside an adapter; YAML reads both.

    Raises:
        UsageError: it is there and cannot be read.
    """
    path = policy_file(place, name) if place is not None else None
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) if path else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    return found if isinstance(found, dict) else {}


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
