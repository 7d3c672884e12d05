"""Finding and loading a trained policy, from a folder or from the Hub."""

import copy
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import yaml
from httpx2 import HTTPError  # comes with huggingface_hub
from huggingface_hub import hf_hub_download, snapshot_download
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from trl import GRPOConfig, ModelConfig, SFTConfig, get_peft_config, get_quantization_config

from aflow_ops.errors import UsageError
from aflow_ops.policy_prompt import PROMPT_STYLES, PromptStyle
from recipes.hub.publication import BASE_FOLDER, is_repository
from recipes.run.config import CONFIG_FILE, place_of

T = TypeVar("T", GRPOConfig, SFTConfig)


def load_policy(model: str, adapter: str | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a policy for generation, on the GPU when there is one; a base that was quantized in training is so here.

    Args:
        model (`str`): Hub name or folder of the base model; `"you/name/base_model"` is a folder of a repository.
        adapter (`str`, *optional*): Hub name or folder of a PEFT adapter for it.

    Raises:
        UsageError: one of them cannot be loaded; says why.
    """
    try:
        place = downloaded_folder(model)
        tokenizer = tokenizer_of(place, adapter)
        policy = AutoModelForCausalLM.from_pretrained(place, **_precision(adapter))
    except (OSError, ValueError) as error:
        raise UsageError(f"--model {model} cannot be loaded: {error}") from error
    if adapter is not None:
        from peft import PeftModel  # only needed here

        try:
            policy = PeftModel.from_pretrained(policy, adapter)
        except (OSError, HTTPError, ValueError, RuntimeError) as error:
            raise UsageError(f"--adapter {adapter} cannot be loaded onto {model}: {error}") from error
    if torch.cuda.is_available() and policy.device.type != "cuda":
        policy = policy.to("cuda")
    return policy.eval(), tokenizer


def _precision(adapter: str | None) -> dict[str, Any]:
    """How `from_pretrained` is to hold a base model: as the adapter's run did where it was quantized, else as it is."""
    told = _left_beside(adapter, CONFIG_FILE)
    if not (told.get("load_in_4bit") or told.get("load_in_8bit")) or not torch.cuda.is_available():
        return {"dtype": "auto"}
    if find_spec("bitsandbytes") is None:
        print(
            f"{adapter} was trained on a quantized base; without the package bitsandbytes it is loaded whole",
            file=sys.stderr,
        )
        return {"dtype": "auto"}
    settings = {setting.name: told[setting.name] for setting in fields(ModelConfig) if setting.name in told}
    return {
        "dtype": told.get("dtype", "auto"),
        "quantization_config": get_quantization_config(ModelConfig(**settings)),
        "device_map": {"": torch.cuda.current_device()},  # a quantized model cannot be moved
    }


def tokenizer_of(model: str, adapter: str | None = None, revision: str = "main") -> PreTrainedTokenizerBase:
    """Return the tokenizer that an adapter was saved with, else the model's.

    It pads on the left, for completions follow prompts, and with the token that TRL pads with.

    Args:
        model (`str`): Hub name or folder.
        adapter (`str`, *optional*): likewise. A warm start may have given its tokenizer another token that ends a turn.
        revision (`str`): of the model.

    Raises:
        OSError: there is no such tokenizer.
        UsageError: it has no chat template.
    """
    if adapter is not None and policy_file(adapter, "tokenizer_config.json") is not None:
        tokenizer = AutoTokenizer.from_pretrained(adapter, padding_side="left")
    else:
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision, padding_side="left")
    check_chat_template(tokenizer, model)
    if tokenizer.pad_token is None:  # Llama's have none
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_chat_template(tokenizer: PreTrainedTokenizerBase, model: str) -> None:
    """Refuse a tokenizer that cannot tell a policy's prompt from what it says.

    Raises:
        UsageError: it has no chat template; names the model.
    """
    if tokenizer.chat_template is None:
        raise UsageError(f"{model}: its tokenizer has no chat template; use an instruction-tuned model")


def with_model_settings(training: T, model: ModelConfig) -> T:
    """Return a copy of a trainer's settings that says how to load its model: revision, attention and dtype.

    Args:
        training (`GRPOConfig` or `SFTConfig`): its own `model_init_kwargs` win.
        model (`ModelConfig`): what `--model_revision`, `--attn_implementation` and `--dtype` say.
    """
    training = copy.copy(training)
    training.model_init_kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        **(training.model_init_kwargs or {}),
    }
    return training


def policy_settings(model: ModelConfig, training: GRPOConfig) -> dict[str, Any]:
    """Return what TRL's trainers take of a policy, by argument: its name, tokenizer, quantization and LoRA.

    Args:
        model (`ModelConfig`): flags of the model.
        training (`GRPOConfig`): flags of the training; returned as `args`, with how to load the model.

    Raises:
        OSError: there is no such tokenizer.
        UsageError: it has no chat template.
    """
    name = model.model_name_or_path
    return {
        "model": name,
        "args": with_model_settings(training, model),
        "processing_class": tokenizer_of(name, revision=model.model_revision),
        "quantization_config": get_quantization_config(model),
        "peft_config": get_peft_config(model),
    }


@contextmanager
def loading_policy(model: str) -> Iterator[None]:
    """Say which flag it was when a policy cannot be loaded inside.

    Raises:
        UsageError: transformers found no such model, or no whole one.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(f"--model_name_or_path {model}: {error}") from error


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
        name = str(json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"])
        return _from_here(name, adapter, "config.json")
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


def trained_template_kwargs(place: str | None) -> dict[str, Any]:
    """Return what a policy's chat template was told in training (`--chat_template_kwargs`); empty when nothing says so.

    Args:
        place (`str`, *optional*): as for `trained_prompt_style`.
    """
    told = _left_beside(place, CONFIG_FILE).get("chat_template_kwargs")
    return told if isinstance(told, dict) else {}


def trained_settings(place: str | None) -> dict[str, Any]:
    """Return the settings that a policy's run was told and that are no defaults; empty when nothing says so.

    Args:
        place (`str`, *optional*): as for `trained_prompt_style`.
    """
    return _left_beside(place, CONFIG_FILE)


def trained_sources(place: str | None) -> list[str]:
    """Return the sources of problems that a policy was trained on, as the run was told; none when nothing says so.

    Files among them are named as they are found from here.

    Args:
        place (`str`, *optional*): as for `trained_prompt_style`.
    """
    sources = _left_beside(place, CONFIG_FILE).get("sources")
    return [_from_here(str(source), str(place)) for source in sources] if isinstance(sources, list) else []


def _from_here(name: str, place: str, within: str = "") -> str:
    """A path that a run was given, as it is found from here; any other name as it is."""
    found = place_of(name, Path(place), within) if Path(place).is_dir() else None
    return name if found is None or (Path(name).exists() and found.samefile(name)) else str(found)


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
