"""Settings of the executor: the same flags in every recipe and script."""

import argparse
import dataclasses
import math
import os
import re
from dataclasses import dataclass, field

from aflow_ops.errors import UsageError
from aflow_ops.executor.address import parse_address
from aflow_ops.executor.prices import PER_MILLION, price_of

KEY_VARIABLE, URL_VARIABLE = "OPENAI_API_KEY", "OPENAI_BASE_URL"
EMBEDDED_MODEL = "SmolLM2-135M-Instruct"


@dataclass
class ExecutorConfig:
    """Which LLM answers inside the operators, and how it is called.

    The key is not a setting: it is read from an environment variable only, `OPENAI_API_KEY` or the one that
    `executor_api_key_env` names.
    """

    executor: str = field(
        default="openai",
        metadata={
            "help": "'openai' for any OpenAI-compatible endpoint, 'local' for the embedded SmolLM2 (no key, no GPU), "
            "or your own transport as 'package.module:Class' or 'file.py:Class' (aflow_ops/executor/transport.py)."
        },
    )
    executor_model: str = field(default="gpt-4o-mini", metadata={"help": "Model name at the endpoint."})
    executor_base_url: str | None = field(
        default=None,
        metadata={
            "help": "Endpoint, e.g. http://localhost:8000/v1; $OPENAI_BASE_URL or OpenAI's own by default. Several, "
            "separated by commas, share the calls."
        },
    )
    executor_api_key_env: str = field(
        default=KEY_VARIABLE,
        metadata={
            "help": "Environment variable that holds the key; 'none' sends no key. An endpoint other than OpenAI's may "
            "need none."
        },
    )
    executor_max_concurrency: int = field(default=64, metadata={"help": "Most calls in flight in one process."})
    executor_timeout: float = field(default=60.0, metadata={"help": "Seconds for one attempt of a call."})
    executor_max_retries: int = field(default=5, metadata={"help": "Attempts after the first one of a failing call."})
    executor_max_backoff: float = field(
        default=30.0,
        metadata={
            "help": "Longest pause in seconds before a failed call is tried again; an endpoint may ask for more."
        },
    )
    executor_outage_seconds: float = field(
        default=120.0,
        metadata={
            "help": "How long calls wait for an endpoint that is down, or that asks for a pause, before their rollouts "
            "are left out."
        },
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
    executor_price: list[float] | None = field(
        default=None,
        metadata={
            "help": "Price of the model, two numbers: USD per million tokens in, and out. Needed for a budget when the "
            "model is not in aflow_ops/executor/prices.yaml."
        },
    )
    executor_thinking_tokens: int = field(
        default=4096,
        metadata={"help": "Tokens that a reasoning model may use for thinking, beyond each operator's own limit."},
    )
    executor_cache_dir: str = field(
        default=".cache/executor", metadata={"help": "Folder of the response cache; 'none' turns it off."}
    )
    executor_cache_namespace: str | None = field(
        default=None,
        metadata={
            "help": "Name under which replies are cached instead of the endpoint's address, so that several endpoints "
            "of one model share them."
        },
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
        if self.executor == "local":
            self.executor_model = EMBEDDED_MODEL
        elif self.executor == "openai":
            self.executor_base_url = self.executor_base_url or os.environ.get(URL_VARIABLE, "").strip() or None
        elif ":" not in self.executor:
            raise ValueError(
                f"executor={self.executor!r} must be 'openai', 'local', 'package.module:Class' or 'file.py:Class'"
            )
        for name in ("executor_max_concurrency", "executor_timeout", "executor_outage_seconds"):
            if not getattr(self, name) > 0:  # nan too, here and below
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")
        for name in (
            "executor_max_retries",
            "executor_max_backoff",
            "executor_hedge_seconds",
            "executor_rpm",
            "executor_tpm",
            "executor_budget_usd",
            "executor_thinking_tokens",
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        if not 0 <= (self.executor_temperature or 0.0) < math.inf:
            raise ValueError(f"executor_temperature={self.executor_temperature} must be a number of at least 0")
        self._check_names()
        self._check_addresses()
        self._check_price()

    def _check_names(self) -> None:
        if not self.executor_model.strip():
            raise ValueError("executor_model is empty: give the model's name at the endpoint, e.g. gpt-4o-mini")
        if not re.fullmatch(r"[A-Za-z_]\w*", self.executor_api_key_env, re.ASCII):
            raise ValueError(
                "executor_api_key_env must be the name of an environment variable that holds the key, such as "
                f"{KEY_VARIABLE}, and never the key itself"
            )

    def _check_addresses(self) -> None:
        try:
            for url in self.base_urls:
                parse_address(url)
        except ValueError as error:
            if self.executor_base_url == os.environ.get(URL_VARIABLE, "").strip():
                raise ValueError(f"{error} (it is what ${URL_VARIABLE} says)") from None
            raise

    def _check_price(self) -> None:
        price = self.executor_price
        if price is not None and (len(price) != 2 or not all(0 <= each < math.inf for each in price)):
            raise ValueError(f"executor_price={price} must be two numbers, USD per million tokens in and out")
        if self.executor_budget_usd > 0 and self.price_per_token is None:
            raise ValueError(
                f"executor_budget_usd={self.executor_budget_usd:g} cannot be kept: the price of {self.executor_model} "
                "is unknown; give --executor_price IN OUT, USD per million tokens (0 0 where it is free)"
            )

    @property
    def base_urls(self) -> list[str]:
        """The endpoints' addresses; none for OpenAI's own."""
        return [url.strip() for url in (self.executor_base_url or "").split(",") if url.strip()]

    @property
    def price_per_token(self) -> tuple[float, float] | None:
        """USD per token (input, output), or `None` when it is unknown."""
        if self.executor_price is None:
            return price_of(self.executor_model)
        return self.executor_price[0] / PER_MILLION, self.executor_price[1] / PER_MILLION

    def price(self, prompt_tokens: int, completion_tokens: int) -> float:
        """USD for so many tokens; 0 when the model's price is unknown."""
        price = self.price_per_token
        return 0.0 if price is None else prompt_tokens * price[0] + completion_tokens * price[1]

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
        name = _type_name(setting)
        kind = {"int": int, "float": float, "list[float]": float}.get(name, str)
        group.add_argument(
            f"--{setting.name}",
            type=kind,
            nargs=2 if name.startswith("list") else None,
            default=setting.default,
            choices=setting.metadata.get("choices"),
            metavar=_metavar(setting),
            help=_help(setting),
        )


def _help(setting: "dataclasses.Field[object]") -> str:
    """What a flag is for, and its default where the text does not say it."""
    text = str(setting.metadata["help"])
    return text if setting.default is None else f"{text} [{setting.default}]"


def _metavar(setting: "dataclasses.Field[object]") -> str | tuple[str, ...] | None:
    if "choices" in setting.metadata:
        return None
    return ("IN", "OUT") if setting.name == "executor_price" else setting.name.removeprefix("executor_").upper()


def _type_name(setting: "dataclasses.Field[object]") -> str:
    """Return a field's type without `None`, which transformers' parser of flags takes off the fields that it read."""
    name = setting.type.__name__ if isinstance(setting.type, type) else str(setting.type)
    return name.removesuffix(" | None")


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
