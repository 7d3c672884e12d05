"""What would go wrong later, said before anything is loaded or paid."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from trl import ModelConfig

from aflow_ops.errors import UsageError
from data.benchmarks import benchmarks
from data.registry import is_test_set
from recipes.settings.arguments import WorkflowGRPOConfig
from recipes.settings.parse import Arguments
from recipes.settings.places import from_here_or_project
from recipes.settings.rehearsal import rehearse
from recipes.settings.replay import ReplayArguments
from recipes.settings.urls import check_url

# Groups smaller than this often carry no signal.
SMALL_GROUP = 4


def check_settings(args: Arguments[Any], domains: Collection[str]) -> None:
    """Refuse what cannot work, and warn of what seldom does.

    Args:
        args (`Arguments`): everything the recipe was told.
        domains (`Collection[str]`): those that the recipe is for.

    Raises:
        UsageError: another domain, a package or file that is missing, an unknown tracker, a URL that can never work.
    """
    recipe, training = args.recipe, args.training
    check_output(training.output_dir)
    check_domains(recipe.mix, domains, recipe.domain_mix)
    check_packages(args.model, training, args.layers.origin)
    rehearse(args.model, training)
    if recipe.warm_start_config not in (None, "none") and not from_here_or_project(recipe.warm_start_config).is_file():
        raise UsageError(f"warm_start_config: {recipe.warm_start_config} does not exist")
    check_sources(recipe.sources, allowed=recipe.train_on_test_set)
    check_trackers(training.report_to)
    if recipe.backup_url is not None:
        check_url("--backup_url", recipe.backup_url)
    check_replay(recipe, training)
    warn_of_spread_model(training)
    if training.num_generations < SMALL_GROUP and PartialState().is_main_process:
        print(
            f"warning: num_generations={training.num_generations}: groups this small often carry no signal or collapse "
            f"the policy (two rewards scale to advantages of exactly +-1); use at least {SMALL_GROUP} where memory "
            "allows",
            file=sys.stderr,
        )


def check_output(folder: str | None) -> None:
    """Refuse an output folder that cannot be one, before anything is loaded.

    Raises:
        UsageError: it is empty, as a variable is that nobody set, or a file.
    """
    if folder is not None and not folder.strip():
        raise UsageError("--output_dir is empty; name a folder, such as outputs/mine")
    if folder is not None and any(path.is_file() for path in (Path(folder), *Path(folder).parents)):
        raise UsageError(f"--output_dir {folder} is a file, or lies in one; name a folder")


def warn_of_spread_model(training: WorkflowGRPOConfig) -> None:
    """Say that TRL spreads the model over all GPUs that a single process sees, where only one works at a time."""
    count = torch.cuda.device_count()
    if count > 1 and not training.use_cpu and PartialState().num_processes == 1:
        print(
            f"warning: one process sees {count} GPUs, and its model is spread over all of them: set "
            "CUDA_VISIBLE_DEVICES=0 to keep to one, or launch with accelerate_configs/multi_gpu_zero2.yaml to use all",
            file=sys.stderr,
        )


def check_replay(recipe: ReplayArguments, training: WorkflowGRPOConfig) -> None:
    """Refuse settings that the weights of replayed rows have no meaning with.

    Raises:
        UsageError: names the flag.
    """
    if recipe.replay and training.importance_sampling_level != "token":
        raise UsageError(
            f"importance_sampling_level={training.importance_sampling_level} with --replay: replayed rows are weighted "
            "by token; use token"
        )


def check_domains(mix: Mapping[Any, float], domains: Collection[str], given: str) -> None:
    """Refuse a domain mix that the recipe is not for.

    Args:
        mix (`Mapping[str, float]`): share of each domain.
        domains (`Collection[str]`): those that the recipe is for.
        given (`str`): the mix as the flag has it.

    Raises:
        UsageError: names the domain and the recipe that takes it.
    """
    for domain, share in mix.items():
        if share > 0 and domain not in domains:
            raise UsageError(
                f"domain_mix={given!r}: this recipe is for {', '.join(domains)} only; for {domain} use "
                "recipes/grpo_mixed.py, which takes every domain, or a recipe of its own (recipes/README.md)"
            )


def check_sources(sources: Sequence[str], *, allowed: bool) -> None:
    """Refuse to train on what people publish test scores on.

    Args:
        sources (`Sequence[str]`): names and paths.
        allowed (`bool`): `train_on_test_set`.

    Raises:
        UsageError: one is a benchmark that is nothing but a test set.
    """
    tests = [source for source in sources if is_test_set(source)]
    if tests and not allowed:
        raise UsageError(
            f"sources: {', '.join(tests)} is a test set: a score on it would mean nothing afterwards. Train on others "
            f"({', '.join(name for name in benchmarks() if not is_test_set(name))}, or a JSONL file), or say "
            "--train_on_test_set"
        )


def check_packages(model: ModelConfig, training: WorkflowGRPOConfig, origin: Callable[[str], str]) -> None:
    """Look for the optional packages that the values need.

    Args:
        model (`ModelConfig`): quantization.
        training (`WorkflowGRPOConfig`): vLLM, fused layers.
        origin (`Callable[[str], str]`): where a flag's value came from (`Layers.origin`).

    Raises:
        UsageError: names what is missing and how to get it.
    """
    wanted = {
        "bitsandbytes": (model.load_in_4bit or model.load_in_8bit, "load_in_4bit", "quantized"),
        "vllm": (training.use_vllm, "use_vllm", "vllm"),
        "liger_kernel": (training.use_liger_kernel, "use_liger_kernel", "liger"),
    }
    for package, (needed, flag, extra) in wanted.items():
        if needed and find_spec(package) is None:
            raise UsageError(
                f'{flag} ({origin(flag)}) needs the package {package}: pip install --editable ".[{extra}]"'
            )


def check_trackers(report_to: Sequence[str]) -> None:
    """Refuse a tracker that is unknown or not installed.

    Raises:
        UsageError: names it and what installs it.
    """
    for name in report_to:
        if name not in INTEGRATION_TO_CALLBACK:
            raise UsageError(f"--report_to {name}: unknown tracker; use wandb, trackio, tensorboard or none")
        packages = (name, "tensorboardX") if name == "tensorboard" else (name,)
        extra = f'".[{name}]"' if name in ("trackio", "tensorboard") else name
        if name in ("wandb", "trackio", "tensorboard") and not any(find_spec(package) for package in packages):
            raise UsageError(f"--report_to {name} needs the package {name}: pip install --editable {extra}")
