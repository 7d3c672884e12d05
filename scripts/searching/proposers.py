"""The proposers that the command line offers."""

import argparse
import dataclasses
import os
from contextlib import AsyncExitStack

from aflow_ops.errors import UsageError
from aflow_ops.executor import ExecutorConfig, open_executor
from aflow_ops.search.expand import Proposer
from aflow_ops.search.grammar import GrammarProposer
from aflow_ops.search.llm import ModelProposer
from scripts.searching.problems import Slices

PROPOSERS = ("grammar", "openai", "policy")
OPTIMIZER_KEY = "OPTIMIZER_API_KEY"


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


async def open_proposer(
    arguments: argparse.Namespace, config: ExecutorConfig, slices: Slices, stack: AsyncExitStack
) -> Proposer:
    """Open the proposer that was asked for; the stack closes it.

    Raises:
        UsageError: no key.
    """
    if arguments.proposer == "grammar":
        texts = {key: problem.view.text for key, problem in slices.validation.items()}
        return GrammarProposer(slices.kinds, arguments.seed, texts)
    model = await stack.enter_async_context(open_executor(optimizer_config(arguments, config), proven=True))
    return ModelProposer(
        model,
        slices.kinds,
        temperature=arguments.optimizer_temperature,
        origin=arguments.proposer,
        first_sample=arguments.seed * 1_000_000,
    )
