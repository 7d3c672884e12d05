"""What a run really does: the values that matter, and where each came from."""

import sys
from dataclasses import fields
from typing import Any

from accelerate import PartialState

from recipes.settings.parse import Arguments

# One screen. Every other flag is in --help; what is not set in a YAML has its default.
SHOWN = (
    "model_name_or_path",
    "dtype",
    "load_in_4bit",
    "bf16",
    "fp16",
    "lora_r",
    "lora_alpha",
    "num_generations",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "activation_checkpointing",
    "max_completion_length",
    "learning_rate",
    "max_steps",
    "beta",
    "temperature",
    "temperature_final",
    "temperature_steps",
    "use_vllm",
    "domain_mix",
    "executor",
    "executor_model",
    "executor_budget_usd",
    "judge",
    "reward_funcs",
    "wa_grpo",
    "output_dir",
)
OFF = ("no", "None", "0")


def effective_values(args: Arguments[Any]) -> list[tuple[str, str, str]]:
    """Return (flag, value, origin) of the values that matter, as the run uses them."""
    values = {
        setting.name: getattr(part, setting.name)
        for part in (args.executor, args.model, args.training, args.recipe)
        for setting in fields(part)
    }
    shown = [name for name in SHOWN if name not in args.recipe.without_use]
    rows = [(name, _text(values[name]), args.layers.origin(name)) for name in shown]
    if args.training.use_vllm:
        position = shown.index("use_vllm") + 1
        rows.insert(position, ("vllm_mode", args.training.vllm_mode, args.layers.origin("vllm_mode")))
    return rows


def print_effective_values(args: Arguments[Any]) -> None:
    """Print them on standard error, with the GPU class and why it was chosen; the main process does.

    A dry run, which is for reading them, has a line for each; a run has one paragraph, without what is off.
    """
    if not PartialState().is_main_process:
        return
    gpu, rows = args.layers.gpu, effective_values(args)
    chosen = f"{gpu.gpu.name} ({gpu.reason})" if gpu else "none"
    print(f"GPU class: {chosen}; config: {args.layers.config.name}", file=sys.stderr)
    if args.recipe.dry_run:
        width = max(len(value) for _, value, _ in rows)
        for name, value, origin in rows:
            print(f"  {name:<28} {value:<{width}}  {origin}", file=sys.stderr)
        return
    said = [row for row in rows if row[1] not in OFF and row[0] not in _unsaid(args)]
    parts = [
        f"{origin}: " + ", ".join(f"{name} {value}" for name, value, its in said if its == origin)
        for origin in dict.fromkeys(origin for _, _, origin in said)
    ]
    print("; ".join(parts), file=sys.stderr)


def _unsaid(args: Arguments[Any]) -> set[str]:
    unsaid = {"output_dir"}
    if args.training.temperature_final is None:
        unsaid.add("temperature_steps")
    if args.recipe.reward_funcs == ["workflow"]:
        unsaid.add("reward_funcs")
    return unsaid


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
