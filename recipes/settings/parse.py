"""From a command line to the dataclasses of a recipe."""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import torch
from transformers.utils import is_torch_bf16_gpu_available
from trl import ModelConfig, TrlParser

from aflow_ops.errors import UsageError
from aflow_ops.executor import ExecutorConfig, check_key
from recipes.settings.arguments import RecipeArguments, WorkflowGRPOConfig
from recipes.settings.chosen import RunConfig
from recipes.settings.layers import Layers, check_finite, read_layers, typed_values

R = TypeVar("R", bound=RecipeArguments)


@dataclass(frozen=True)
class Arguments(Generic[R]):
    """Everything a recipe was told, and where each value came from."""

    recipe: R
    training: WorkflowGRPOConfig
    model: ModelConfig
    executor: ExecutorConfig
    layers: Layers

    @property
    def parts(self) -> tuple[R, WorkflowGRPOConfig, ModelConfig, ExecutorConfig]:
        """The settings, without where they came from."""
        return self.recipe, self.training, self.model, self.executor

    def config(self, script: str) -> RunConfig:
        """Return what the run's `config.yaml` says, the values of its GPU class too.

        Args:
            script (`str`): the recipe's file.
        """
        return RunConfig.of(script, *self.parts, always=frozenset(self.layers.class_values))


def parse_arguments(
    default_config: str | Path,
    description: str | None,
    argv: Sequence[str] | None = None,
    *,
    recipe_class: type[R] = RecipeArguments,  # type: ignore[assignment]
    defaults: Mapping[str, Any] | None = None,
    planning: bool = False,
    needs_key: bool = True,
) -> Arguments[R]:
    """Read a GRPO recipe's flags over its YAML over the GPU class over the defaults.

    Args:
        default_config (`str` or `Path`): the YAML used when `--config` is not given: a name in `recipes/configs/`, or
            the path of one of your own.
        description (`str`, *optional*): first lines of `--help`.
        argv (`Sequence[str]`, *optional*): arguments; `sys.argv[1:]` by default.
        recipe_class (`type`): a dataclass that adds flags of the recipe's own to `RecipeArguments`.
        defaults (`Mapping[str, Any]`, *optional*): the recipe's own defaults, by flag.
        planning (`bool`): nothing will run: neither a key nor a GPU is needed.
        needs_key (`bool`): the executor is called in any case, so that a missing key is said at once.

    Raises:
        UsageError: no key for the executor, or a bad flag or YAML key, with the reason.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    layers = read_layers(argv, default_config, with_gpu_class=True)
    if needs_key and not planning and not {"-h", "--help"} & set(argv):
        check_key(_executor_config(argv, layers))
    classes = (recipe_class, WorkflowGRPOConfig, ModelConfig, ExecutorConfig)
    parsed = _parse(classes, layers, description, argv, defaults=defaults or {}, planning=planning)
    recipe, training, model, executor = parsed
    return Arguments(recipe, training, model, executor, layers)


def _executor_config(argv: Sequence[str], layers: Layers) -> ExecutorConfig:
    """Read the executor's flags alone: a missing key is said before anything about GPUs and models."""
    parser = TrlParser((ExecutorConfig,), add_help=False, allow_abbrev=False)
    parser.set_defaults_with_config(**typed_values(layers, (ExecutorConfig,)))
    try:
        executor, _ = parser.parse_args_into_dataclasses(args=list(argv), return_remaining_strings=True)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return cast(ExecutorConfig, executor)


def parse_with_config(classes: Sequence[type], default_config: str, description: str | None) -> tuple[Any, ...]:
    """Read the command line's flags over the YAML into dataclasses.

    Raises:
        UsageError: a bad flag or YAML key, with the reason.
    """
    argv = sys.argv[1:]
    layers = read_layers(argv, default_config, with_gpu_class=False)
    return _parse(classes, layers, description, argv, defaults={})


def _parse(
    classes: Sequence[type],
    layers: Layers,
    description: str | None,
    argv: Sequence[str],
    *,
    defaults: Mapping[str, Any],
    planning: bool = False,
) -> tuple[Any, ...]:
    parser = TrlParser(
        classes,
        usage="%(prog)s [--config YAML] [--flag value ...]",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    try:
        parser.set_defaults_with_config(**defaults)
        parser.set_defaults_with_config(**layers.class_values)
        unknown = parser.set_defaults_with_config(**typed_values(layers, classes))
        if unknown:
            raise UsageError(f"unknown keys in the config: {', '.join(unknown[::2])}; --help lists the known ones")
        if (planning or "dry_run" in layers.flags) and not torch.cuda.is_available():
            parser.set_defaults_with_config(use_cpu=True)  # a GPU's values are to be read where there is none
        _check_device(parser.parse_known_args(list(argv))[0], classes[0])
        *parsed, unused = parser.parse_args_into_dataclasses(args=list(argv), return_remaining_strings=True)
        if unused:
            raise UsageError(f"unknown flags: {' '.join(unused)}; --help lists the known ones")
        check_finite(parsed, layers)
        return tuple(parsed)
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error


def _check_device(values: argparse.Namespace, recipe: type) -> None:
    """Refuse half precision on the CPU of a machine without a GPU, unless the CPU is asked for by name.

    Raises:
        UsageError: names the configs that need no GPU.
        ValueError: from the recipe's own settings, which are looked at first: they are wrong on any machine.
    """
    if values.use_cpu or torch.cuda.is_available():
        return
    bf16 = not values.fp16 if values.bf16 is None else values.bf16  # as TRL reads it
    if (bf16 and not is_torch_bf16_gpu_available()) or (values.fp16 and not torch.accelerator.is_available()):
        recipe(**{item.name: getattr(values, item.name) for item in dataclasses.fields(recipe) if item.init})
        raise UsageError(
            "this config trains in bf16 or fp16 on a GPU, and none was found; the configs that run without one are "
            "recipes/configs/quickstart.yaml and, for a warm start, recipes/configs/quickstart_warmstart.yaml"
        )
