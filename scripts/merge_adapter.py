"""Merge a trained adapter into its base model: one ordinary model, for servers that load no adapters.

    python scripts/merge_adapter.py outputs/grpo_mixed --output outputs/merged
    python scripts/merge_adapter.py you/workflow-designer --output outputs/merged --model Qwen/Qwen2.5-7B-Instruct
    python scripts/merge_adapter.py outputs/math_tool --output outputs/verifier --role verifier

The merged model is read back and must give the same logits as base and adapter; the folder appears only when it does.
Tokenizer, chat template, settings and results go along, so `scripts/evaluate.py --model`, `scripts/run_workflow.py
--model` and `scripts/push_to_hub.py` take the folder. Exit code: 0 when it is there, 1 when the check failed, 2 for bad
usage.
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from httpx2 import HTTPError  # comes with huggingface_hub
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from aflow_ops.domains import DOMAIN_PROMPTS
from aflow_ops.errors import InfraError, UsageError
from aflow_ops.policy_prompt import policy_messages
from recipes.policy.loading import base_model_of, downloaded_folder, policy_file, tokenizer_of
from recipes.run.command import CommandParser, run_command
from recipes.run.config import CONFIG_FILE
from recipes.run.role_adapters import DEFAULT, NAMES_FILE, is_split, read_role_adapters
from recipes.settings.libraries import quiet_libraries

# Largest relative difference of the logits (in the 2-norm) that rounding explains.
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
KEPT_FILES = (CONFIG_FILE, "summary.json", "reward_curve.png")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(description=__doc__)
    parser.add_argument(
        "adapter", metavar="RUN_OR_ADAPTER", help="a run's folder, an adapter's, or its name on the Hub"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the merged model; must not exist")
    parser.add_argument("--model", help="base model: a Hub name or a folder [the one that the adapter names]")
    parser.add_argument("--role", help="whose adapter, where the roles of a team have one each (--adapters per_agent)")
    dtypes = ["auto", "float32", "bfloat16", "float16"]
    parser.add_argument("--dtype", choices=dtypes, default="auto", help="of the merged weights [the base model's]")
    return parser.parse_args()


def find_base(model: str) -> str:
    """Find a base model, and refuse one that cannot take up an adapter exactly.

    Returns:
        `str`: what transformers loads it from.

    Raises:
        UsageError: it cannot be found, or is quantised.
    """
    try:
        place = downloaded_folder(model)
        config = AutoConfig.from_pretrained(place)
    except (OSError, ValueError) as error:
        raise UsageError(f"base model {model} cannot be loaded: {error}; name another with --model") from None
    quantized: Any = getattr(config, "quantization_config", None)
    if quantized is not None:
        method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized.quant_method
        raise UsageError(
            f"base model {model} is quantised ({method}): merging would round the adapter away; give the unquantised "
            "model that it was made from with --model"
        )
    return place


def subfolder_of(adapter: str, role: str | None) -> str | None:
    """Return the folder in an adapter's place that has a role's; `None` for the place itself.

    Args:
        adapter (`str`): folder or Hub name.
        role (`str`, *optional*): of a team.

    Raises:
        UsageError: there are several adapters and none was chosen, or there is none of that role.
    """
    names = read_role_adapters(policy_file(adapter, NAMES_FILE))
    roles = ", ".join(name for name, its in names.items() if its is not None)
    if role is None and is_split(names):
        raise UsageError(f"{adapter} has an adapter for each role, a merged model one: choose with --role ({roles})")
    if role is not None and names.get(role) is None:
        raise UsageError(
            f"--role {role}: {adapter} has no adapter of such a role" + (f"; {roles} have" if roles else "")
        )
    name = names.get(role or "")
    return None if name in (None, DEFAULT) else name


def load_adapted(
    model: str, adapter: str, dtype: str, subfolder: str | None = None
) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """Load base model, adapter and tokenizer; the tokenizer is the adapter's if it has one.

    Args:
        model (`str`): what transformers loads the base from.
        adapter (`str`): folder or Hub name.
        dtype (`str`): of the weights.
        subfolder (`str`, *optional*): where in the adapter's place it is.

    Raises:
        UsageError: one of them cannot be loaded, or the adapter is of a kind that cannot be merged.
    """
    base = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    try:
        adapted = PeftModel.from_pretrained(base, adapter, subfolder=subfolder)
    except (OSError, HTTPError, ValueError, RuntimeError) as error:
        raise UsageError(f"{adapter} cannot be loaded onto {model}: {error}") from None
    if not hasattr(adapted.base_model, "merge_and_unload"):
        raise UsageError(f"{adapter}: an adapter of type {adapted.active_peft_config.peft_type} cannot be merged")
    return adapted.eval(), tokenizer_of(model, adapter)


@torch.no_grad()  # type: ignore[untyped-decorator] # mypy reads nothing of torch
def probe_logits(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[torch.Tensor]:
    """Return the logits after every token of one prompt a domain, each of shape (tokens, vocabulary), in float32."""
    logits = []
    for problem in (prompt.sample for prompt in DOMAIN_PROMPTS.values()):
        inputs = tokenizer.apply_chat_template(
            policy_messages(problem, "brief"), add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        logits.append(model(**inputs).logits[0].float())
    return logits


def largest_difference(expected: list[torch.Tensor], found: list[torch.Tensor]) -> float:
    """Return the largest relative difference among pairs of logits, in the 2-norm."""
    return max(float((a - b).norm() / a.norm()) for a, b in zip(expected, found, strict=True))


def save_checked(
    merged: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, expected: list[torch.Tensor], folder: Path
) -> float:
    """Save the merged model, read it back and compare.

    Returns:
        `float`: the relative difference of its logits.

    Raises:
        InfraError: it is larger than rounding explains.
    """
    dtype = merged.dtype
    merged.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    del merged
    found = probe_logits(AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval(), tokenizer)
    difference = largest_difference(expected, found)
    if not difference <= TOLERANCES.get(dtype, 1e-4):  # NaN too
        raise InfraError(
            f"the merged model's logits differ from the adapter's by {difference:.1e}, more than {dtype} explains; "
            "nothing was written (tied embeddings cannot take up an adapter of the head); try --dtype float32"
        )
    return difference


def main() -> None:
    """Merge, check, and move the folder to its place."""
    arguments = parse_arguments()
    quiet_libraries()
    output: Path = arguments.output
    if output.exists():
        raise UsageError(f"--output {output} exists already; choose another folder")
    model = find_base(arguments.model or base_model_of(arguments.adapter))
    subfolder = subfolder_of(arguments.adapter, arguments.role)
    adapted, tokenizer = load_adapted(model, arguments.adapter, arguments.dtype, subfolder)
    expected = probe_logits(adapted, tokenizer)
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        difference = save_checked(adapted.merge_and_unload(safe_merge=True), tokenizer, expected, partial)
        for name in KEPT_FILES:
            if (path := policy_file(arguments.adapter, name)) is not None:
                shutil.copyfile(path, partial / name)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"merged model in {output}; its logits are those of {arguments.adapter} within {difference:.1e}")


if __name__ == "__main__":
    sys.exit(run_command(main))
