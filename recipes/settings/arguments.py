"""Flags and YAML keys of the GRPO recipes beside TRL's and the executor's."""

import math
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, Self, cast

from trl import DPOConfig, GRPOConfig

from aflow_ops.policy_prompt import PromptStyle
from aflow_ops.secrets import without_secrets
from data.mixing import DEFAULT_MIX, parse_mix
from data.problem import Domain
from data.registry import DEFAULT_SOURCES
from recipes.settings.replay import ReplayArguments
from rewards.domains import judged_domains
from rewards.judge import JudgeConfig
from rewards.wa_grpo import WAGRPOConfig

CURRICULA = ("none", "order", "pass_rate")


class WithoutSecrets:
    """Training settings that take no token with them: neither into checkpoints nor to trackers."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave the tokens out of `training_args.bin`, which goes into every checkpoint."""
        return {name: None if name.endswith("hub_token") else value for name, value in vars(self).items()}

    def __copy__(self) -> Self:
        """Keep the tokens in a copy, which stays in this process; what is pickled has none."""
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def to_dict(self) -> dict[str, Any]:
        """Return the values as trackers show them, without secrets."""
        return cast(dict[str, Any], without_secrets(super().to_dict()))  # type: ignore[misc]


@dataclass
class WorkflowDPOConfig(WithoutSecrets, DPOConfig):
    """`trl.DPOConfig` that keeps its tokens to itself."""


@dataclass
class WorkflowGRPOConfig(WithoutSecrets, GRPOConfig):
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

    def __post_init__(self) -> None:
        if self.num_generations < 1:  # TRL divides by it
            raise ValueError(f"num_generations={self.num_generations} must be at least 2")
        super().__post_init__()
        if self.temperature_final is not None and self.temperature_final <= 0:
            raise ValueError(f"temperature_final={self.temperature_final} must be above 0")
        if self.temperature_steps < 1:
            raise ValueError(f"temperature_steps={self.temperature_steps} must be at least 1")


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
class RecipeArguments(ReplayArguments, BackupArguments):
    """What a recipe needs beside TRL's and the executor's flags: problems, policy and evaluation.

    Args:
        sources (`list[str]`): problem sources by name (see `data/registry.py`), or paths of JSONL files.
        train_on_test_set (`bool`): allow sources that are nothing but a benchmark's test set.
        domain_mix (`str`): share of each domain in an epoch, e.g. `"math=0.4,qa=0.3,code=0.3"`.
        num_train_problems (`int`): problems in one epoch.
        num_heldout_problems (`int`): held-out problems, the same mix, for the evaluation before and after.
        reward_funcs (`list[str]`): rewards by name or path (`rewards/reward_funcs.py`).
        operators (`list[str]`): modules or files that register operators (`aflow_ops/operators/registry.py`).

    Attributes:
        without_use (`frozenset[str]`): flags that a recipe of this class does nothing with, and refuses.
    """

    without_use: ClassVar[frozenset[str]] = frozenset()

    sources: list[str] = field(
        default_factory=lambda: list(DEFAULT_SOURCES),
        metadata={"help": "Problem sources: names of data/registry.py, or JSONL files of question/answer/source rows."},
    )
    train_on_test_set: bool = field(
        default=False, metadata={"help": "Allow sources that are nothing but a benchmark's test set, as humaneval."}
    )
    domain_mix: str = field(default=DEFAULT_MIX, metadata={"help": "Share of each domain in an epoch, exact."})
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
    prompt_style: PromptStyle = field(
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
    rollouts_ahead: int = field(
        default=0,
        metadata={
            "help": "Generations sampled before their turn: while their workflows run, earlier ones are trained on. 1 "
            "hides the executor's latency; what is trained on is then one generation off-policy, and corrected for it."
        },
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
        default_factory=lambda: list(judged_domains()), metadata={"help": "Domains whose answers the judge sees."}
    )
    judge_audit: float = field(
        default=JudgeConfig.audit,
        metadata={"help": "Share of right answers it is asked about too, to log how often it agrees."},
    )
    reward_funcs: list[str] = field(
        default_factory=lambda: ["workflow"],
        metadata={
            "help": "Rewards, added with reward_weights: 'workflow', 'valid', or paths package.module:callable of "
            "callables with TRL's signature. Only the workflow reward has its ties broken."
        },
    )
    operators: list[str] = field(
        default_factory=list,
        metadata={"help": "Operators of your own: package.module, file.py, or one class as package.module:Class."},
    )
    wa_grpo: bool = field(
        default=WAGRPOConfig.enabled,
        metadata={"help": "Break ties inside a group with WA-GRPO; --no_wa_grpo is plain GRPO."},
    )
    wa_alpha: float = field(
        default=WAGRPOConfig.alpha, metadata={"help": "Size of the tie-break, below the smallest gap between tiers."}
    )
    level_weight: float = field(
        default=0.0,
        metadata={"help": "Weight, in groups without a signal, of the distance to what the domain earned lately."},
    )
    shape_entropy_coef: float = field(
        default=0.0,
        metadata={
            "help": "Entropy bonus over designs (sequences of operators) within a domain, in units of the advantages; "
            "falls to 0 over the run. 0.4 keeps a policy from settling early."
        },
    )
    wa_diversity: float = field(
        default=WAGRPOConfig.diversity, metadata={"help": "Weight of the distance to the group's others."}
    )
    wa_revise_gain: float = field(
        default=WAGRPOConfig.revise_gain, metadata={"help": "Weight of what Revise/Test improved."}
    )
    wa_exec_success: float = field(default=WAGRPOConfig.exec_success, metadata={"help": "Weight of how the run ended."})
    wa_efficiency: float = field(default=WAGRPOConfig.efficiency, metadata={"help": "Weight of few executor tokens."})
    wa_op_variety: float = field(
        default=WAGRPOConfig.op_variety, metadata={"help": "Weight of distinct operators used."}
    )
    wa_features: list[str] = field(
        default_factory=lambda: list(WAGRPOConfig.features),
        metadata={"help": "Features that count; the others weigh nothing."},
    )

    def __post_init__(self) -> None:
        _ = self.mix, self.wa_config, self.judge_config  # each says what is wrong with its values
        self._refuse_without_use()
        self.check_replay()
        if self.rollouts_ahead < 0:
            raise ValueError(f"rollouts_ahead={self.rollouts_ahead} must not be negative")
        if self.rollouts_ahead and self.replay:
            raise ValueError(
                f"rollouts_ahead={self.rollouts_ahead} with replay={self.replay}: what is replayed depends on how the "
                "generation before did, which is not known yet; leave one of them out"
            )
        if self.heldout_every < 0:
            raise ValueError(f"heldout_every={self.heldout_every} must not be negative")
        for name in ("level_weight", "shape_entropy_coef"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)} must be a number of at least 0")
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

    def _refuse_without_use(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            default = setting.default_factory() if setting.default_factory is not MISSING else setting.default
            if setting.name in self.without_use and value != default:
                raise ValueError(f"{setting.name}={value}: this recipe has no use for it; leave it out")

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
        return JudgeConfig(self.judge, tuple(self.judge_domains), self.judge_audit)
