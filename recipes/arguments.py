"""Flags and YAML keys of the recipes: TRL's own, the executor's, and the few below."""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

import torch
import yaml
from trl import GRPOConfig, ModelConfig, TrlParser

from aflow_ops.errors import UsageError
from aflow_ops.executor import ExecutorConfig, check_key
from data.mixing import parse_mix
from data.problem import Domain
from recipes.curriculum import CURRICULA
from recipes.gpus import ChosenGpu, choose_gpu
from recipes.redaction import without_secrets
from rewards.judge import JudgeConfig
from rewards.wa_grpo import FEATURES, WAGRPOConfig

CONFIGS = Path(__file__).parent / "configs"


@dataclass
class WorkflowGRPOConfig(GRPOConfig):
    """`trl.GRPOConfig` with a linear temperature schedule.

    Args:
        temperature_final (`float`, *optional*):
            Sampling temperature after `temperature_steps`; it falls linearly from `temperature`. Constant when unset.
        temperature_steps (`int`, defaults to 150):
            Optimizer steps over which the temperature moves.
    """

    temperature_final: float | None = field(
        default=None, metadata={"help": "Temperature after temperature_steps; constant when unset."}
    )
    temperature_steps: int = field(default=150, metadata={"help": "Steps over which the temperature moves linearly."})

    def __getstate__(self) -> dict[str, Any]:
        """Leave the tokens out of `training_args.bin`, which goes into every checkpoint."""
        return {name: None if name.endswith("hub_token") else value for name, value in vars(self).items()}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature_final is not None and self.temperature_final <= 0:
            raise ValueError(f"temperature_final={self.temperature_final} must be above 0")
        if self.temperature_steps < 1:
            raise ValueError(f"temperature_steps={self.temperature_steps} must be at least 1")

    def to_dict(self) -> dict[str, Any]:
        """Return the values as trackers show them, without secrets."""
        return cast(dict[str, Any], without_secrets(super().to_dict()))


@dataclass
class BackupArguments:
    """Where a run is backed up.

    Args:
        backup_url (`str`, *optional*): folder or fsspec URL of this run's backups; `scripts/restore.py` reads it.
        backup_wait_seconds (`float`, defaults to 120): longest wait at the end for what is still on its way.
    """

    backup_url: str | None = field(
        default=None,
        metadata={
            "help": "Copy every checkpoint, and at the end the adapter and results, to this folder or fsspec URL "
            "(s3://, gs://, a mounted drive); one URL a run. scripts/restore.py brings them back."
        },
    )
    backup_wait_seconds: float = field(
        default=120.0, metadata={"help": "How long the end of a run waits for a backup that is still on its way."}
    )


@dataclass
class RecipeArguments(BackupArguments):
    """What a recipe needs beside TRL's and the executor's flags: problems, policy and evaluation.

    Args:
        sources (`list[str]`): problem sources by name (see `data/registry.py`), or paths of JSONL files.
        domain_mix (`str`): share of each domain in an epoch, e.g. `"math=0.4,qa=0.3,code=0.3"`.
        num_train_problems (`int`): problems in one epoch.
        num_heldout_problems (`int`): held-out problems, the same mix, for the evaluation before and after.
    """

    sources: list[str] = field(
        default_factory=lambda: ["gsm_symbolic", "invented_facts", "humaneval", "small_functions"],
        metadata={"help": "Problem sources: names of data/registry.py, or JSONL files of question/answer/source rows."},
    )
    domain_mix: str = field(
        default="math=0.4,qa=0.3,code=0.3", metadata={"help": "Share of each domain in an epoch, exact."}
    )
    num_train_problems: int = field(default=400, metadata={"help": "Training problems in one epoch."})
    curriculum: str = field(
        default="none",
        metadata={
            "help": "Order of the training problems in each epoch: 'none' shuffles, 'order' keeps the sources' order, "
            "'pass_rate' begins each domain with what the policy of curriculum_rows does best. Domain shares stay.",
            "choices": list(CURRICULA),
        },
    )
    curriculum_rows: str | None = field(
        default=None,
        metadata={"help": "rows.jsonl of scripts/evaluate.py, the base policy on the training problems."},
    )
    num_heldout_problems: int = field(default=60, metadata={"help": "Held-out problems evaluated before and after."})
    heldout_every: int = field(
        default=0,
        metadata={"help": "Evaluate on the held-out problems every so many steps and keep the best adapter; 0 never."},
    )
    eval_samples: int = field(default=1, metadata={"help": "Workflows sampled per held-out problem."})
    eval_temperature: float = field(default=0.15, metadata={"help": "Temperature of the held-out evaluation."})
    baselines: bool = field(
        default=True, metadata={"help": "Also run every fixed baseline workflow on the held-out problems."}
    )
    prompt_style: str = field(
        default="full",
        metadata={
            "help": "Policy prompt: 'full' describes the operators and shows an example, 'brief' only names them "
            "(for a policy that a warm start taught the language).",
            "choices": ["full", "brief"],
        },
    )
    warm_start_config: str | None = field(
        default=None,
        metadata={
            "help": "YAML of recipes/sft_warmstart.py, run first when model_name_or_path is a local folder that does "
            "not exist yet; 'none' for no warm start."
        },
    )
    workflow_timeout: float = field(default=180.0, metadata={"help": "Wall-clock limit of one workflow, seconds."})
    max_outage_steps: int = field(
        default=3, metadata={"help": "Stop, with a checkpoint, after so many steps in a row without a single reward."}
    )
    collapse_patience: int = field(
        default=10,
        metadata={
            "help": "Roll back and lower the learning rate when the share of valid workflows stays below half of what "
            "it was for so many steps; 0 never."
        },
    )
    collapse_lr_factor: float = field(
        default=0.1, metadata={"help": "What a roll-back multiplies the learning rate with."}
    )
    rollouts_part_mb: float = field(
        default=256.0,
        metadata={"help": "Size from which rollouts.jsonl is closed and compressed to a part, MB."},
    )
    unsafe_subprocess: bool = field(
        default=False, metadata={"help": "Run solution code with rlimits only, where the kernel has no Landlock."}
    )
    gpu: str | None = field(
        default=None,
        metadata={
            "help": "GPU class of recipes/configs/gpus.yaml; its values sit below the YAML's. Detected when not given."
        },
    )
    dry_run: bool = field(
        default=False,
        metadata={"help": "Check flags, files and packages, print the effective values, and stop. Needs no GPU."},
    )
    judge: bool = field(
        default=False,
        metadata={"help": "Ask the executor about answers that the rules call unequal and may be wrong about."},
    )
    judge_domains: list[str] = field(
        default_factory=lambda: ["math", "qa"], metadata={"help": "Domains whose answers the judge sees."}
    )
    judge_audit: float = field(
        default=0.05, metadata={"help": "Share of right answers it is asked about too, to log how often it agrees."}
    )
    wa_grpo: bool = field(
        default=True, metadata={"help": "Break ties inside a group with WA-GRPO; --no_wa_grpo is plain GRPO."}
    )
    wa_alpha: float = field(default=0.12, metadata={"help": "Size of the tie-break, below the smallest tier gap 0.2."})
    level_weight: float = field(
        default=0.0,
        metadata={"help": "Weight, in groups without a signal, of the distance to what the domain earned lately."},
    )
    wa_diversity: float = field(default=0.35, metadata={"help": "Weight of the distance to the group's others."})
    wa_revise_gain: float = field(default=0.25, metadata={"help": "Weight of what Revise/Test improved."})
    wa_exec_success: float = field(default=0.20, metadata={"help": "Weight of how the run ended."})
    wa_efficiency: float = field(default=0.10, metadata={"help": "Weight of few executor tokens."})
    wa_op_variety: float = field(default=0.10, metadata={"help": "Weight of distinct operators used."})
    wa_features: list[str] = field(
        default_factory=lambda: list(FEATURES), metadata={"help": "Features that count; the others weigh nothing."}
    )

    def __post_init__(self) -> None:
        _ = self.mix, self.wa_config, self.judge_config  # each says what is wrong with its values
        if self.heldout_every < 0:
            raise ValueError(f"heldout_every={self.heldout_every} must not be negative")
        if not 0 <= self.level_weight < math.inf:
            raise ValueError(f"level_weight={self.level_weight} must be a number of at least 0")
        if self.collapse_patience < 0 or not 0 < self.collapse_lr_factor < 1:
            raise ValueError(
                f"collapse_patience={self.collapse_patience} must not be negative, and collapse_lr_factor="
                f"{self.collapse_lr_factor} must be between 0 and 1"
            )
        if self.curriculum not in CURRICULA:
            raise ValueError(f"curriculum={self.curriculum!r} must be one of {', '.join(CURRICULA)}")
        if (self.curriculum == "pass_rate") != (self.curriculum_rows is not None):
            raise ValueError(
                f"curriculum={self.curriculum!r} with curriculum_rows={self.curriculum_rows!r}: 'pass_rate' needs the "
                "rows.jsonl of an evaluation, and nothing else takes one"
            )
        if not self.workflow_timeout > 0:
            raise ValueError(f"workflow_timeout={self.workflow_timeout} must be above 0")
        if self.eval_temperature < 0:
            raise ValueError(f"eval_temperature={self.eval_temperature} must not be negative")
        if not self.rollouts_part_mb > 0:
            raise ValueError(f"rollouts_part_mb={self.rollouts_part_mb} must be above 0; 1e9 keeps one file")
        for name in ("num_train_problems", "num_heldout_problems", "eval_samples", "max_outage_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")

    @property
    def mix(self) -> dict[Domain, float]:
        """`domain_mix` as ratios by domain."""
        return parse_mix(self.domain_mix)

    @property
    def wa_config(self) -> WAGRPOConfig:
        """The WA-GRPO settings."""
        return WAGRPOConfig(
            enabled=self.wa_grpo,
            alpha=self.wa_alpha,
            diversity=self.wa_diversity,
            revise_gain=self.wa_revise_gain,
            exec_success=self.wa_exec_success,
            efficiency=self.wa_efficiency,
            op_variety=self.wa_op_variety,
            features=tuple(self.wa_features),
        )

    @property
    def judge_config(self) -> JudgeConfig:
        """The judge's settings."""
        return JudgeConfig(self.judge, tuple(cast(list[Domain], self.judge_domains)), self.judge_audit)


@dataclass(frozen=True)
class Layers:
    """What a run's values were read from, strongest first: flags, the YAML, the GPU class, the defaults.

    Args:
        flags (`Mapping[str, str]`): what follows each flag on the command line, by name; empty for a bare flag.
        config (`Path`): the YAML.
        values (`Mapping[str, Any]`): what it sets.
        gpu (`ChosenGpu`, *optional*): the GPU class.
    """

    flags: Mapping[str, str]
    config: Path
    values: Mapping[str, Any]
    gpu: ChosenGpu | None

    def origin(self, name: str) -> str:
        """Return where the value of a flag came from: `flag`, the YAML's name, the GPU class, or `default`."""
        if name in self.flags:
            return "flag"
        if name in self.values:
            return self.config.name
        if name in self.class_values:
            return f"GPU class {self.gpu.gpu.name}" if self.gpu else "default"
        return "default"

    @property
    def class_values(self) -> Mapping[str, Any]:
        """The GPU class's values, without its precision where a flag or the YAML chose the other one."""
        values = dict(self.gpu.gpu.values) if self.gpu else {}
        for one, other in (("bf16", "fp16"), ("fp16", "bf16")):
            if self.flags.get(one, str(self.values.get(one, False))).lower() not in ("false", "0", "no", "none"):
                values.pop(other, None)
        return values


@dataclass(frozen=True)
class Arguments:
    """Everything a recipe was told, and where each value came from."""

    recipe: RecipeArguments
    training: WorkflowGRPOConfig
    model: ModelConfig
    executor: ExecutorConfig
    layers: Layers


def parse_arguments(
    default_config: str, description: str, argv: Sequence[str] | None = None, *, planning: bool = False
) -> Arguments:
    """Read a GRPO recipe's flags over its YAML over the GPU class over the defaults.

    Args:
        default_config (`str`): file in `recipes/configs/` used when `--config` is not given.
        description (`str`): first lines of `--help`.
        argv (`Sequence[str]`, *optional*): arguments; `sys.argv[1:]` by default.
        planning (`bool`): nothing will run: neither a key nor a GPU is needed.

    Raises:
        UsageError: no key for the executor, or a bad flag or YAML key, with the reason.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    layers = read_layers(argv, default_config, with_gpu_class=True)
    if not planning and not {"-h", "--help"} & set(argv):
        check_key(_executor_config(argv, layers))
    classes = (RecipeArguments, WorkflowGRPOConfig, ModelConfig, ExecutorConfig)
    return Arguments(*_parse(classes, layers, description, argv, planning=planning), layers)


def _executor_config(argv: Sequence[str], layers: Layers) -> ExecutorConfig:
    """Read the executor's flags alone: a missing key is said before anything about GPUs and models."""
    parser = TrlParser((ExecutorConfig,), add_help=False, allow_abbrev=False)
    parser.set_defaults_with_config(**typed_values(layers, (ExecutorConfig,)))
    try:
        executor, _ = parser.parse_args_into_dataclasses(args=list(argv), return_remaining_strings=True)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return cast(ExecutorConfig, executor)


def parse_with_config(
    classes: Sequence[type], default_config: str, description: str | None, argv: Sequence[str] | None = None
) -> tuple[Any, ...]:
    """Read flags over the YAML into dataclasses.

    Raises:
        UsageError: a bad flag or YAML key, with the reason.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    layers = read_layers(argv, default_config, with_gpu_class=False)
    return _parse(classes, layers, description, argv)


def _parse(
    classes: Sequence[type], layers: Layers, description: str | None, argv: Sequence[str], *, planning: bool = False
) -> tuple[Any, ...]:
    parser = TrlParser(
        classes,
        usage="%(prog)s [--config YAML] [--flag value ...]",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    try:
        parser.set_defaults_with_config(**layers.class_values)
        unknown = parser.set_defaults_with_config(**typed_values(layers, classes))
        if unknown:
            raise UsageError(f"unknown keys in the config: {', '.join(unknown[::2])}; --help lists the known ones")
        if (planning or "dry_run" in layers.flags) and not torch.cuda.is_available():
            parser.set_defaults_with_config(use_cpu=True)  # a GPU's values are to be read where there is none
        *parsed, unused = parser.parse_args_into_dataclasses(args=list(argv), return_remaining_strings=True)
        if unused:
            raise UsageError(f"unknown flags: {' '.join(unused)}; --help lists the known ones")
        check_finite(parsed, layers)
        return tuple(parsed)
    except (ValueError, TypeError) as error:
        if "use_cpu" in str(error) and not torch.cuda.is_available():
            raise UsageError(
                "this config trains in bf16 or fp16 on a GPU, and none was found; the configs that run without one are "
                "recipes/configs/quickstart.yaml and, for a warm start, recipes/configs/quickstart_warmstart.yaml"
            ) from error
        raise UsageError(str(error)) from error


def read_layers(argv: list[str], default_config: str, *, with_gpu_class: bool) -> Layers:
    """Take `--config PATH` out of `argv`, read it or the default one, and choose the GPU class.

    Raises:
        UsageError: the YAML cannot be read, or there is no such GPU class.
    """
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    reader.add_argument("--config", type=Path, default=CONFIGS / default_config)
    known, argv[:] = reader.parse_known_args(argv)
    values = _read_yaml(known.config)
    flags = _flags(argv)
    gpu = choose_gpu(flags.get("gpu"), values) if with_gpu_class else None
    return Layers(flags, known.config, values, gpu)


def typed_values(layers: Layers, classes: Sequence[type]) -> dict[str, Any]:
    """Return the YAML's values in their settings' types: argparse converts a default only when it is text.

    Settings of several types, or of none of ours, are left to the library that they are of.

    Raises:
        UsageError: a value of another type; names it.
    """
    settings = {setting.name: (setting, hint) for cls in classes for setting, hint in _hinted(cls)}
    values = dict(layers.values)
    for name, value in values.items():
        if name not in settings:
            continue
        setting, hint = settings[name]
        kinds = [hint]
        if get_origin(hint) in (Union, UnionType):
            kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        if value is None and (hint is not kinds[0] or setting.default is None):
            continue
        try:
            values[name] = _typed(value, get_origin(kinds[0]) or kinds[0]) if len(kinds) == 1 else value
        except ValueError as error:
            raise UsageError(f"--config {layers.config}: {name}: {value!r} must be {error}") from None
    return values


def _hinted(cls: type) -> list[tuple[Field[Any], Any]]:
    hints = get_type_hints(cls)
    return [(setting, hints[setting.name]) for setting in fields(cls)]


def _typed(value: Any, kind: type) -> Any:
    """Return a YAML value as what a setting takes; text is left to argparse.

    Raises:
        ValueError: it cannot be that; says what it must be.
    """
    if isinstance(value, str):
        return [value] if kind is list else value
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is list and not isinstance(value, list):
        raise ValueError("a list")
    if kind is int and not (number and float(value).is_integer()):
        raise ValueError("a whole number")
    if kind is float and not number:
        raise ValueError("a number")
    if kind is bool and not isinstance(value, (bool, int)):
        raise ValueError("true or false")
    if kind is str and not number:
        raise ValueError("text")
    return kind(value) if kind in (int, str) else value


def check_finite(parsed: Sequence[Any], layers: Layers) -> None:
    """Refuse nan and inf: every comparison with nan is false, so limits that are nan would not limit anything.

    Raises:
        UsageError: names the setting.
    """
    for part in parsed:
        for name, value in vars(part).items():
            given = name in layers.flags or name in layers.values
            if given and isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"{name}={value} must be a finite number")


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"--config {path}: no such file; recipes/configs/ has the ones that come with it") from None
    except yaml.YAMLError as error:
        raise UsageError(f"--config {path}: not valid YAML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path}: cannot be read: {error}") from None
    if not isinstance(config, dict) or not all(isinstance(name, str) for name in config):
        raise UsageError(f"--config {path}: must be a mapping of flags to values")
    return config


def _flags(argv: Sequence[str]) -> dict[str, str]:
    """Return the word behind each flag; `--no_x` counts as `x`, which is then False."""
    flags: dict[str, str] = {}
    for position, word in enumerate(argv):
        if not word.startswith("--"):
            continue
        name, _, value = word[2:].partition("=")
        name = name.replace("-", "_")
        following = argv[position + 1] if position + 1 < len(argv) else ""
        flags[name] = value or ("" if following.startswith("--") else following)
        if name.startswith("no_"):
            flags[name.removeprefix("no_")] = "False"
    return flags
