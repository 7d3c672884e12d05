"""The proposers that the command line offers."""

import argparse
import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

from aflow_ops.errors import UsageError
from aflow_ops.executor import ExecutorConfig, check_executor, open_executor
from aflow_ops.executor.keys import read_key
from aflow_ops.policy_prompt import PromptStyle
from aflow_ops.search.expand import Proposer
from aflow_ops.search.grammar import GrammarProposer
from aflow_ops.search.kinds import kinds_of
from aflow_ops.search.llm import Model, ModelProposer
from aflow_ops.search.prompting import DesignPrompting, EditPrompting, Prompting
from data.problem import Problem
from recipes.policy.local import LocalPolicy, policy_facts

PROPOSERS = ("grammar", "openai", "policy")
OPTIMIZER_KEY = "OPTIMIZER_API_KEY"
# Samples of one seed are numbered from this multiple of it.
_SAMPLES_OF_A_SEED = 1_000_000

# From the validation problems of a search to its proposer.
MakeProposer = Callable[[Mapping[str, Problem]], Proposer]


def optimizer_config(arguments: argparse.Namespace, config: ExecutorConfig) -> ExecutorConfig:
    """Return the settings of the model that proposes: as the executor's, but for model, endpoint, budget and key.

    Raises:
        UsageError: there is a budget, and the model's price is not known.
    """
    key = OPTIMIZER_KEY if os.environ.get(OPTIMIZER_KEY) else config.executor_api_key_env
    try:
        return dataclasses.replace(
            config,
            executor="openai",
            executor_model=arguments.optimizer_model,
            executor_base_url=arguments.optimizer_base_url,
            executor_budget_usd=arguments.optimizer_budget_usd,
            executor_price=None,
            executor_api_key_env=key,
        )
    except ValueError as error:
        raise UsageError(f"--optimizer_model {arguments.optimizer_model}: {error}") from None


def runs_here(arguments: argparse.Namespace) -> bool:
    """Whether the policy that proposes is run in this process."""
    return arguments.proposer == "policy" and not arguments.optimizer_base_url


async def check_proposer(arguments: argparse.Namespace, config: ExecutorConfig) -> None:
    """Ask a remote proposer for a tiny reply, before anything is paid for.

    Raises:
        UsageError: there is no key for it.
        ExecutorError: it refuses or cannot be reached.
    """
    if arguments.proposer == "grammar" or runs_here(arguments):
        return
    settings = optimizer_config(arguments, config)
    key = settings.executor_api_key_env
    if not settings.base_urls and read_key(key) is None:
        raise UsageError(
            f"no --proposer {arguments.proposer}: neither {OPTIMIZER_KEY} nor {key} is set. Set one of them, give "
            "--optimizer_base_url of an endpoint that needs no key, or take --proposer grammar, which asks no model"
        )
    await check_executor(settings)


async def open_proposer(arguments: argparse.Namespace, config: ExecutorConfig, stack: AsyncExitStack) -> MakeProposer:
    """Open the proposer that was asked for; the stack closes it.

    Returns:
        `Callable`: makes the proposer of a search, from its validation problems.

    Raises:
        UsageError: no key, or a policy that cannot be loaded.
    """
    if arguments.proposer == "grammar":
        return lambda problems: _grammar(problems, arguments.seed)
    first = arguments.seed * _SAMPLES_OF_A_SEED
    adapter = arguments.optimizer_adapter
    if runs_here(arguments):
        model: Model = _loaded(arguments)
    else:
        executor = open_executor(
            optimizer_config(arguments, config), proven=True, token_ids=arguments.proposer == "policy"
        )
        model = await stack.enter_async_context(executor)
    policy = policy_facts(arguments.optimizer_model, adapter) if arguments.proposer == "policy" else None
    return lambda problems: ModelProposer(
        model,
        _prompting(arguments, problems),
        temperature=arguments.optimizer_temperature,
        max_tokens=arguments.optimizer_max_tokens,
        origin=arguments.proposer,
        policy=policy,
        first_sample=first,
    )


def _loaded(arguments: argparse.Namespace) -> LocalPolicy:
    """Load the policy that is run here.

    Raises:
        UsageError: it cannot be loaded; says why.
    """
    # torch takes seconds to import, and no other proposer needs it
    from recipes.policy.loading import load_policy
    from recipes.settings.libraries import quiet_libraries

    quiet_libraries()
    try:
        model, tokenizer = load_policy(arguments.optimizer_model, arguments.optimizer_adapter)
    except UsageError as error:
        raise UsageError(re.sub(r"--(?=model |adapter )", "--optimizer_", str(error))) from None
    remedy = "lower --optimizer_max_tokens, or ask for designs"
    return LocalPolicy(model, tokenizer, arguments.seed, top_p=arguments.optimizer_top_p, remedy=remedy)


def _grammar(problems: Mapping[str, Problem], seed: int) -> Proposer:
    texts = {key: problem.view.text for key, problem in problems.items()}
    return GrammarProposer(kinds_of(problems.values()), seed, texts)


def _prompting(arguments: argparse.Namespace, problems: Mapping[str, Problem]) -> Prompting:
    if arguments.proposer == "policy" and arguments.optimizer_form == "design":
        return DesignPrompting({key: problem.view for key, problem in problems.items()}, prompt_style(arguments))
    return EditPrompting(kinds_of(problems.values()))


def prompt_style(arguments: argparse.Namespace) -> PromptStyle:
    """Return the style of the policy's own prompt: as told, or as the policy was trained, or `"full"`."""
    if arguments.prompt_style is not None or not runs_here(arguments):
        return arguments.prompt_style or "full"
    from recipes.policy.loading import trained_prompt_style  # torch takes seconds to import

    return trained_prompt_style(arguments.optimizer_adapter or arguments.optimizer_model) or "full"
