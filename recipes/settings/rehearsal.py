"""The values of a run tried where it costs nothing: what libraries would refuse in the middle of it, they refuse here.

The optimizer is built for one number, the schedule for that optimizer, the adapter on a policy without weights.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, Trainer, get_scheduler
from trl import ModelConfig, get_peft_config

from aflow_ops.errors import UsageError
from recipes.settings.arguments import WorkflowGRPOConfig

Check = tuple[Callable[[Any], bool], str]

_POSITIVE: Check = (lambda value: value > 0, "above 0")
_NOT_NEGATIVE: Check = (lambda value: value >= 0, "at least 0")
_AT_LEAST_ONE: Check = (lambda value: value >= 1, "at least 1")
_SHARE: Check = (lambda value: 0 <= value <= 1, "from 0 to 1")
_SEED: Check = (lambda value: 0 <= value < 2**32, "from 0 to 4294967295")
# trl/trainer/grpo_trainer.py, `_compute_loss`.
LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo")
# Unset values are the libraries' own.
TRAINING: dict[str, Check] = {
    "temperature": (lambda value: value > 0, "above 0: every completion of a group would be the same"),
    "top_p": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "top_k": (lambda value: value >= 0, "at least 0; 0 turns it off"),
    "min_p": _SHARE,
    "repetition_penalty": _POSITIVE,
    "seed": _SEED,
    "data_seed": _SEED,
    "max_completion_length": _AT_LEAST_ONE,
    "per_device_train_batch_size": _AT_LEAST_ONE,
    "gradient_accumulation_steps": _AT_LEAST_ONE,
    "steps_per_generation": _AT_LEAST_ONE,
    "generation_batch_size": _AT_LEAST_ONE,
    "num_iterations": _AT_LEAST_ONE,
    "learning_rate": _POSITIVE,
    "beta": _NOT_NEGATIVE,
    "epsilon": _NOT_NEGATIVE,
    "weight_decay": _NOT_NEGATIVE,
    "max_grad_norm": _NOT_NEGATIVE,
    "logging_steps": _POSITIVE,
    "save_steps": _POSITIVE,
    "scale_rewards": (
        lambda value: value in ("group", "batch", "none"),
        "group, batch or none; none is what False means",
    ),
    "loss_type": (lambda value: value in LOSSES, f"one of {', '.join(LOSSES)}"),
    "save_strategy": (
        lambda value: str(getattr(value, "value", value)) != "best",
        "steps, epoch or no; --heldout_every keeps the best adapter",
    ),
    "importance_sampling_level": (lambda value: value in ("token", "sequence"), "token or sequence"),
}
ADAPTER: dict[str, Check] = {
    "lora_r": _AT_LEAST_ONE,
    "lora_alpha": _POSITIVE,
    "lora_dropout": (lambda value: 0 <= value < 1, "at least 0 and below 1"),
}
# What libraries say about values; a bug of ours would be none of these.
_REFUSALS = (ValueError, TypeError, ImportError, NotImplementedError, RuntimeError)


def rehearse(model: ModelConfig, training: WorkflowGRPOConfig) -> None:
    """Try the values.

    Args:
        model (`ModelConfig`): the policy and its adapter.
        training (`WorkflowGRPOConfig`): sampling, optimizer, schedule.

    Raises:
        UsageError: one of them cannot work; names it.
    """
    check_base_model(model)
    _check(TRAINING, training)
    evaluation = str(getattr(training.eval_strategy, "value", training.eval_strategy))
    if evaluation != "no":
        raise UsageError(
            f"eval_strategy={evaluation}: the recipes evaluate on held-out problems themselves; use --heldout_every N"
        )
    if training.max_steps < 1 and not training.num_train_epochs > 0:
        raise UsageError(
            f"num_train_epochs={training.num_train_epochs:g} with max_steps={training.max_steps}: nothing would be "
            "trained; give one of them above 0"
        )
    if training.use_vllm and training.vllm_mode == "server" and model.load_in_4bit:
        raise UsageError(
            "load_in_4bit with vllm_mode=server: TRL would send the server packed weights, which it cannot read; use "
            "vllm_mode=colocate, or --load_in_4bit False"
        )
    _rehearse_generation(training)
    _rehearse_optimizer(training)
    if model.use_peft:
        _check(ADAPTER, model)
        rehearse_adapter(model)


def check_base_model(model: ModelConfig) -> None:
    """Refuse an adapter's folder as policy: a run trains an adapter of its own, on a whole model.

    Raises:
        UsageError: it is one; says how to merge it.
    """
    folder = Path(str(model.model_name_or_path))
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise UsageError(
            f"model_name_or_path: {folder} is an adapter, and a run trains one of its own on a whole model; merge it: "
            f"python scripts/merge_adapter.py {folder} --output {folder}_merged"
        )


def rehearse_adapter(model: ModelConfig) -> None:
    """Put the adapter on a policy of the right shape that has no weights; nothing is done while there is no such model.

    Raises:
        UsageError: it does not fit.
    """
    try:
        config = AutoConfig.from_pretrained(model.model_name_or_path, revision=model.model_revision)
    except (OSError, ValueError):  # not built yet, or not to be had: loading it says so
        return
    from peft import get_peft_model  # takes seconds

    try:
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(config, attn_implementation=model.attn_implementation)
            get_peft_model(empty, get_peft_config(model))
    except _REFUSALS as error:
        said = " ".join(str(error).split())
        raise UsageError(f"the adapter does not fit {model.model_name_or_path}: {said[:400]}") from None


def _check(table: dict[str, Check], settings: Any) -> None:
    for name, (is_fine, told) in table.items():
        value = getattr(settings, name, None)
        if value is not None and not is_fine(value):
            raise UsageError(f"{name}={value} must be {told}")


def _rehearse_generation(training: WorkflowGRPOConfig) -> None:
    """Build what says how completions are sampled.

    Raises:
        UsageError: it has no such setting.
    """
    given = training.generation_kwargs or {}
    unknown = [name for name in given if not hasattr(GenerationConfig(), name)]
    if unknown:
        raise UsageError(f"generation_kwargs: {', '.join(unknown)}: transformers' GenerationConfig has no such setting")
    try:
        GenerationConfig(cache_implementation=training.cache_implementation, **given).validate()
    except _REFUSALS as error:
        raise UsageError(f"generation settings: {' '.join(str(error).split())[:400]}") from None


def _rehearse_optimizer(training: WorkflowGRPOConfig) -> None:
    """Build optimizer and schedule.

    Raises:
        UsageError: a package is missing, or a value is out of the optimizer's range.
    """
    name = getattr(training.optim, "value", training.optim)
    try:
        optimizer_class, values = Trainer.get_optimizer_cls_and_kwargs(training, torch.nn.Linear(1, 1))
        if not {"model", "params", "optimizer_dict"} & values.keys() and isinstance(optimizer_class, type):
            optimizer = optimizer_class([torch.nn.Parameter(torch.zeros(1))], **values)
            _rehearse_schedule(training, optimizer)
    except _REFUSALS as error:
        hint = '; pip install --editable ".[quantized]"' if "bitsandbytes" in str(error) else ""
        raise UsageError(f"optim={name}: {' '.join(str(error).split())[:400]}{hint}") from None


def _rehearse_schedule(training: WorkflowGRPOConfig, optimizer: torch.optim.Optimizer) -> None:
    steps = training.max_steps if training.max_steps > 0 else math.inf
    total = int(min(steps, 10_000))
    name = getattr(training.lr_scheduler_type, "value", training.lr_scheduler_type)
    try:
        get_scheduler(
            training.lr_scheduler_type,
            optimizer,
            num_warmup_steps=training.get_warmup_steps(total),
            num_training_steps=total,
            scheduler_specific_kwargs=training.lr_scheduler_kwargs or {},
        )
    except _REFUSALS as error:
        raise UsageError(f"lr_scheduler_type={name}: {' '.join(str(error).split())[:400]}") from None
