"""Settings of the executor: the same flags in every recipe and script."""

import argparse
import dataclasses
from dataclasses import dataclass, field

from aflow_ops.errors import UsageError

KEY_VARIABLE = "OPENAI_API_KEY"
EMBEDDED_MODEL = "SmolLM2-135M-Instruct"


@dataclass
class ExecutorConfig:
    """Which LLM answers inside the operators, and how it is called.

    The key is not a setting: it is read from the environment variable `OPENAI_API_KEY` only.
    """

    executor: str = field(
        default="openai",
        metadata={
            "help": "'openai' for any OpenAI-compatible endpoint, 'local' for the embedded SmolLM2 (no key, no GPU).",
            "choices": ["openai", "local"],
        },
    )
    executor_model: str = field(default="gpt-4o-mini", metadata={"help": "Model name at the endpoint."})
    executor_base_url: str | None = field(
        default=None,
        metadata={
            "help": "Endpoint, e.g. http://localhost:8000/v1; OpenAI's own by default. Several, separated by commas, "
            "share the calls."
        },
    )
    executor_max_concurrency: int = field(default=64, metadata={"help": "Most calls in flight in one process."})
    executor_timeout: float = field(default=60.0, metadata={"help": "Seconds for one attempt of a call."})
    executor_max_retries: int = field(default=5, metadata={"help": "Attempts after the first one of a failing call."})
    executor_outage_seconds: float = field(
        default=120.0,
        metadata={"help": "How long calls wait for an endpoint that is down before their rollouts are left out."},
    )
    executor_hedge_seconds: float = field(
        default=0.0,
        metadata={"help": "Send a call again when no reply came for so long, take the first; 0 never. May cost twice."},
    )
    executor_rpm: int = field(
        default=0, metadata={"help": "Requests a minute of all processes together, 0 for no limit."}
    )
    executor_tpm: int = field(
        default=0, metadata={"help": "Tokens a minute of all processes together, 0 for no limit."}
    )
    executor_budget_usd: float = field(
        default=0.0, metadata={"help": "Stop before the run has cost more than this, 0 for no limit."}
    )
    executor_cache_dir: str = field(
        default=".cache/executor", metadata={"help": "Folder of the response cache; 'none' turns it off."}
    )
    executor_temperature: float | None = field(
        default=None, metadata={"help": "Temperature of operator calls; 0.7, or 0 for the embedded executor."}
    )
    executor_prompts: str | None = field(
        default=None,
        metadata={
            "help": "Operator prompts: 'standard', or 'small' (few-shot, for models of a few hundred million "
            "parameters; the default of the embedded executor).",
            "choices": ["standard", "small"],
        },
    )

    def __post_init__(self) -> None:
        for name in ("executor_max_concurrency", "executor_timeout", "executor_outage_seconds"):
            if not getattr(self, name) > 0:  # nan too, here and below
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")
        for name in (
            "executor_max_retries",
            "executor_hedge_seconds",
            "executor_rpm",
            "executor_tpm",
            "executor_budget_usd",
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        if self.executor not in ("openai", "local"):
            raise ValueError(f"executor={self.executor!r} must be 'openai' or 'local'")
        for url in (self.executor_base_url or "").split(","):
            if url.strip() and not url.strip().startswith(("http://", "https://")):
                raise ValueError(f"executor_base_url={url.strip()!r} must start with http:// or https://")
        if self.executor == "local":
            self.executor_model = EMBEDDED_MODEL

    @property
    def temperature(self) -> float:
        """The effective temperature of operator calls."""
        if self.executor_temperature is not None:
            return self.executor_temperature
        return 0.0 if self.executor == "local" else 0.7

    def shared_by(self, processes: int, nodes: int = 1) -> "ExecutorConfig":
        """The part of one process of several: an equal share of the budget, and its machine's share of the rate limits.

        The processes of a machine share its limits over a ledger (`open_executor`).
        """
        return dataclasses.replace(
            self,
            executor_budget_usd=self.executor_budget_usd / processes,
            executor_rpm=self.executor_rpm and max(1, self.executor_rpm // nodes),
            executor_tpm=self.executor_tpm and max(1, self.executor_tpm // nodes),
        )

    @property
    def workflows_at_once(self) -> int:
        """Workflows worth running at the same time: enough to keep the executor busy, no more.

        A workflow's deadline runs while its calls wait for their turn, so starting everything at once would let the
        queue time out workflows that did nothing wrong.
        """
        return 16 if self.executor == "local" else 4 * self.executor_max_concurrency

    @property
    def prompt_set(self) -> str:
        """The effective set of operator prompts."""
        return self.executor_prompts or ("small" if self.executor == "local" else "standard")


def executor_argument_group(parser: argparse.ArgumentParser) -> None:
    """Add every executor flag to a script's parser."""
    group = parser.add_argument_group("executor", "the LLM that answers inside the operators; its key: OPENAI_API_KEY")
    for setting in dataclasses.fields(ExecutorConfig):
        kind = {"int": int, "float": float, "float | None": float}.get(_type_name(setting), str)
        group.add_argument(
            f"--{setting.name}",
            type=kind,
            default=setting.default,
            choices=setting.metadata.get("choices"),
            metavar=None if "choices" in setting.metadata else setting.name.removeprefix("executor_").upper(),
            help=f"{setting.metadata['help']} [{setting.default}]",
        )


def _type_name(setting: "dataclasses.Field[object]") -> str:
    return setting.type.__name__ if isinstance(setting.type, type) else str(setting.type)


def executor_config_from(arguments: argparse.Namespace) -> ExecutorConfig:
    """Collect the executor flags of a parsed command line.

    Raises:
        UsageError: a value is out of range.
    """
    values = {item.name: getattr(arguments, item.name) for item in dataclasses.fields(ExecutorConfig)}
    try:
        return ExecutorConfig(**values)
    except ValueError as error:
        raise UsageError(str(error)) from None
