"""The proposers that the command line offers."""

import argparse
import dataclasses
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aflow_ops.errors import BudgetExceededError, UsageError
from aflow_ops.executor import Executor, ExecutorConfig, check_executor, open_executor
from aflow_ops.executor.keys import read_key
from aflow_ops.executor.types import Message, Reply
from aflow_ops.policy_prompt import PromptStyle
from aflow_ops.search.expand import Proposer
from aflow_ops.search.grammar import GrammarProposer
from aflow_ops.search.kinds import kinds_of
from aflow_ops.search.llm import Model, ModelProposer
from aflow_ops.search.prompting import DesignPrompting, EditPrompting, Prompting
from data.problem import Problem
from recipes.policy.local import LocalPolicy, policy_facts
from recipes.run.spending import count_on

ProposerName = Literal["grammar", "openai", "policy"]
PROPOSERS: tuple[ProposerName, ...] = ("grammar", "openai", "policy")
OPTIMIZER_KEY, BUDGET_FLAG = "OPTIMIZER_API_KEY", "--optimizer_budget_usd"
# Samples of one seed are numbered from this multiple of it.
_SAMPLES_OF_A_SEED = 1_000_000

# From the validation problems of a search to its proposer.
MakeProposer = Callable[[Mapping[str, Problem]], Proposer]


@dataclass(frozen=True)
class ProposerSettings:
    """Who modifies workflows, and how it is asked: by flag.

    Args:
        proposer (`str`): one of `PROPOSERS`; the rest is of no use to the grammar but for the seed.
        optimizer_model (`str`): name at the endpoint; of a policy that is run here, a folder or Hub name.
        optimizer_base_url (`str`, *optional*): the endpoint.
        optimizer_adapter (`str`, *optional*): of a policy that is run here.
        optimizer_form (`str`): whether a policy is asked to modify a workflow (`edit`) or for a design (`design`).
        optimizer_budget_usd (`float`): 0 for no limit.
        optimizer_price (`Sequence[float]`, *optional*): USD per million tokens, in and out; by the table of prices, if
            not given.
        optimizer_temperature (`float`): at least 0.
        optimizer_top_p (`float`): of a policy that is run here, in (0, 1].
        optimizer_max_tokens (`int`): of a reply.
        prompt_style (`str`, *optional*): of the prompt for a design; as the policy was trained, if not given.
        seed (`int`): of the search.
    """

    proposer: ProposerName
    optimizer_model: str
    optimizer_base_url: str | None
    optimizer_adapter: str | None
    optimizer_form: str
    optimizer_budget_usd: float
    optimizer_price: Sequence[float] | None
    optimizer_temperature: float
    optimizer_top_p: float
    optimizer_max_tokens: int
    prompt_style: PromptStyle | None
    seed: int

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "ProposerSettings":
        """Return what a command line says of it."""
        return cls(**{setting.name: getattr(arguments, setting.name) for setting in dataclasses.fields(cls)})

    @property
    def runs_here(self) -> bool:
        """Whether the policy that proposes is run in this process."""
        return self.proposer == "policy" and not self.optimizer_base_url

    def style(self) -> PromptStyle:
        """Return the style of the policy's own prompt: as told, or as the policy was trained, or `"full"`."""
        if self.prompt_style is not None or not self.runs_here:
            return self.prompt_style or "full"
        from recipes.policy.loading import trained_prompt_style  # torch takes seconds to import

        return trained_prompt_style(self.optimizer_adapter or self.optimizer_model) or "full"


def optimizer_config(asked: ProposerSettings, config: ExecutorConfig) -> ExecutorConfig:
    """Return the settings of the model that proposes: as the executor's, but for model, endpoint, budget and key.

    Raises:
        UsageError: there is a budget, and the model's price is not known.
    """
    key = OPTIMIZER_KEY if os.environ.get(OPTIMIZER_KEY) else config.executor_api_key_env
    try:
        return dataclasses.replace(
            config,
            executor="openai",
            executor_model=asked.optimizer_model,
            executor_base_url=asked.optimizer_base_url,
            executor_budget_usd=asked.optimizer_budget_usd,
            executor_price=None if asked.optimizer_price is None else list(asked.optimizer_price),
            executor_api_key_env=key,
        )
    except ValueError as error:
        said = re.sub(r"\bexecutor_(?=model|base_url|budget_usd|price)", "optimizer_", str(error))
        raise UsageError(f"--optimizer_model {asked.optimizer_model}: {said}") from None


async def check_proposer(asked: ProposerSettings, config: ExecutorConfig) -> None:
    """Ask a remote proposer for a tiny reply, before anything is paid for.

    Raises:
        UsageError: there is no key for it.
        ExecutorError: it refuses or cannot be reached.
    """
    if asked.proposer == "grammar" or asked.runs_here:
        return
    settings = optimizer_config(asked, config)
    key = settings.executor_api_key_env
    if not settings.base_urls and read_key(key) is None:
        raise UsageError(
            f"no --proposer {asked.proposer}: neither {OPTIMIZER_KEY} nor {key} is set. Set one of them, give "
            "--optimizer_base_url of an endpoint that needs no key, or take --proposer grammar, which asks no model"
        )
    if settings.price_per_token is None:
        print(
            f"warning: the price of {settings.executor_model} is not in aflow_ops/executor/prices.yaml: its tokens are "
            "counted, its cost is not; --optimizer_price IN OUT (USD per million tokens) tells it",
            file=sys.stderr,
        )
    await check_executor(_priced(settings))


def _priced(settings: ExecutorConfig) -> ExecutorConfig:
    """A model whose price is not known costs nothing: the executor's own warning would name the executor's flag."""
    return settings if settings.price_per_token else dataclasses.replace(settings, executor_price=[0.0, 0.0])


class _Optimizer:
    """The model that proposes, behind an executor whose errors name the executor's flags."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    async def complete(
        self, messages: Sequence[Message], *, temperature: float, max_tokens: int, sample: int = 0
    ) -> Reply:
        """Return one reply.

        Raises:
            BudgetExceededError: as the executor's, by the optimizer's flag.
            ExecutorError: no answer.
        """
        try:
            return await self.executor.complete(messages, temperature=temperature, max_tokens=max_tokens, sample=sample)
        except BudgetExceededError as error:
            said = str(error).replace("--executor_budget_usd", BUDGET_FLAG)
            raise BudgetExceededError(said.replace("the executor budget", "the optimizer's budget")) from None

    def price(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return what so many tokens cost in USD."""
        return self.executor.price(prompt_tokens, completion_tokens)


async def open_proposer(
    asked: ProposerSettings,
    config: ExecutorConfig,
    stack: AsyncExitStack,
    folder: Path,
    offered: Mapping[str, str] | None = None,
) -> MakeProposer:
    """Open the proposer that was asked for; the stack closes it. What earlier starts paid counts against its budget.

    Args:
        asked (`ProposerSettings`): who proposes.
        config (`ExecutorConfig`): the executor's flags.
        stack (`AsyncExitStack`): closes it.
        folder (`Path`): gets the record of what is paid.
        offered (`Mapping[str, str]`, *optional*): no other operators than these, each with what is said of it.

    Returns:
        `Callable`: makes the proposer of a search, from its validation problems.

    Raises:
        UsageError: no key, or a policy that cannot be loaded.
    """
    if asked.proposer == "grammar":
        return lambda problems: _grammar(problems, asked.seed, offered)
    if asked.runs_here:
        model: Model = _loaded(asked)
    else:
        settings = _priced(optimizer_config(asked, config))
        opening = open_executor(settings, proven=True, token_ids=asked.proposer == "policy")
        executor = await stack.enter_async_context(opening)
        count_on(executor, folder / ".spent-optimizer.json", stack, fresh=False)
        model = _Optimizer(executor)
    policy = policy_facts(asked.optimizer_model, asked.optimizer_adapter) if asked.proposer == "policy" else None
    return lambda problems: ModelProposer(
        model,
        _prompting(asked, problems, offered),
        temperature=asked.optimizer_temperature,
        max_tokens=asked.optimizer_max_tokens,
        origin=asked.proposer,
        policy=policy,
        first_sample=asked.seed * _SAMPLES_OF_A_SEED,
    )


def _loaded(asked: ProposerSettings) -> LocalPolicy:
    """Load the policy that is run here.

    Raises:
        UsageError: it cannot be loaded; says why.
    """
    # torch takes seconds to import, and no other proposer needs it
    from recipes.policy.loading import load_policy, trained_template_kwargs
    from recipes.settings.libraries import quiet_libraries

    quiet_libraries()
    try:
        model, tokenizer = load_policy(asked.optimizer_model, asked.optimizer_adapter)
    except UsageError as error:
        raise UsageError(re.sub(r"--(?=model |adapter )", "--optimizer_", str(error))) from None
    return LocalPolicy(
        model,
        tokenizer,
        asked.seed,
        top_p=asked.optimizer_top_p,
        chat_template_kwargs=trained_template_kwargs(asked.optimizer_adapter or asked.optimizer_model),
        remedy="lower --optimizer_max_tokens, or ask for designs",
    )


def _grammar(problems: Mapping[str, Problem], seed: int, offered: Mapping[str, str] | None) -> Proposer:
    texts = {key: problem.view.text for key, problem in problems.items()}
    return GrammarProposer(kinds_of(problems.values()), seed, texts, offered)


def _prompting(
    asked: ProposerSettings, problems: Mapping[str, Problem], offered: Mapping[str, str] | None
) -> Prompting:
    if asked.proposer == "policy" and asked.optimizer_form == "design":
        return DesignPrompting({key: problem.view for key, problem in problems.items()}, asked.style())
    return EditPrompting(kinds_of(problems.values()), offered)
