"""Rewards by name: `reward_funcs: [workflow, my_package.rewards:brevity]`, as TRL's own scripts name them.

A reward is a plain callable with TRL's signature, sync or async: it takes `prompts`, `completions`, `completion_ids`,
the dataset's columns (ours has `problem`, a JSON row for each completion), `trainer_state`, `log_extra` and
`log_metric`, all by keyword, and returns one float or `None` for each completion.

    def brevity(completions, **kwargs):
        return [max(0.0, 1 - len(completion_text(completion)) / 2000) for completion in completions]
"""

import functools
import importlib
import inspect
import json
import math
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from aflow_ops.errors import UsageError, WorkflowError
from aflow_ops.language import parse_workflow
from data.problem import Problem
from rewards.workflow_reward import WorkflowReward, completion_text

Rewards = Sequence[float | None]
RewardFunc = Callable[..., Rewards | Awaitable[Rewards]]

# What TRL 1.16 passes to every reward, with the one column of our dataset that is not the prompt.
PASSED = ("prompts", "completions", "completion_ids", "problem", "trainer_state", "log_extra", "log_metric")


def valid(completions: Sequence[Any], problem: Sequence[str], **_: Any) -> list[float]:
    """Reward what parses as a workflow, whatever it answers: 1.0 or 0.0. Costs no executor call.

    Args:
        completions (`Sequence`): texts or conversations.
        problem (`Sequence[str]`): `Problem.to_row()` as JSON, one for each completion.
    """
    pairs = zip(completions, problem, strict=True)
    return [_valid(completion_text(completion), Problem.from_row(json.loads(row))) for completion, row in pairs]


def _valid(completion: str, problem: Problem) -> float:
    try:
        parse_workflow(completion, domain=problem.domain, has_entry_point=problem.entry_point is not None)
    except WorkflowError:
        return 0.0
    return 1.0


# Name -> what makes the reward. `workflow` runs the workflow and grades its answer; the trainer gives it its scorer.
REGISTRY: dict[str, Callable[[], RewardFunc]] = {"workflow": WorkflowReward, "valid": lambda: valid}


def load_rewards(named: Sequence[str | RewardFunc], weights: Sequence[float] | None = None) -> list[RewardFunc]:
    """Return the rewards of a run, and refuse what would only go wrong in the first step.

    Args:
        named (`Sequence`): names of `REGISTRY`, dotted paths `package.module:callable`, or callables, in the order of
            their columns. `workflow` must be among them; a weight of 0 keeps it from counting.
        weights (`Sequence[float]`, *optional*): one for each, any finite numbers; all 1 by default.

    Raises:
        UsageError: an unknown name, a path that cannot be imported, something that is no reward, two rewards of one
            name, no `workflow`, or another number of weights.
    """
    rewards = [load_reward(item) if isinstance(item, str) else _checked(item, repr(item)) for item in named]
    names = [reward_name(reward) for reward in rewards]
    if sum(isinstance(reward, WorkflowReward) for reward in rewards) != 1:
        raise UsageError(
            f"reward_funcs={names} must name 'workflow' once: it runs what the policy writes; a weight of 0 in "
            "reward_weights keeps it from counting"
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"reward_funcs: {twice[0]!r} is there twice; metrics go by this name, so rename one")
    if weights is not None:
        if len(weights) != len(rewards):
            raise UsageError(
                f"reward_weights={list(weights)} are {len(weights)} for {len(rewards)} rewards ({', '.join(names)}); "
                "give one for each, in the order of reward_funcs"
            )
        if not all(math.isfinite(weight) for weight in weights):
            raise UsageError(f"reward_weights={list(weights)} must be finite numbers")
    return rewards


def load_reward(name: str) -> RewardFunc:
    """Return the reward of a name of `REGISTRY` or a dotted path; the current folder's modules are found too.

    Raises:
        UsageError: says what of the path is wrong.
    """
    if name in REGISTRY:
        return REGISTRY[name]()
    module_name, colon, attribute = name.partition(":")
    if not colon:  # TRL's own form
        module_name, _, attribute = name.rpartition(".")
    if not module_name or not attribute:
        known = ", ".join(REGISTRY)
        raise UsageError(f"reward_funcs: {name!r} is unknown; known: {known}, or a path package.module:callable")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(f"reward_funcs: {name}: cannot import {module_name}: {error}") from error
    except Exception as error:
        raise UsageError(
            f"reward_funcs: {name}: {module_name} fails when it is imported: {type(error).__name__}: {error}"
        ) from error
    try:
        reward = functools.reduce(getattr, attribute.split("."), module)
    except AttributeError:
        where = getattr(module, "__file__", None) or "a namespace package"
        raise UsageError(f"reward_funcs: {name}: {module_name} ({where}) has no {attribute!r}") from None
    return _checked(reward, name)


def reward_name(reward: RewardFunc) -> str:
    """Return the name of a reward's column: `rewards/NAME/mean` in the metrics, `rewards.NAME` in rollouts.jsonl."""
    while isinstance(reward, functools.partial):
        reward = reward.func
    return str(getattr(reward, "__name__", type(reward).__name__))


def _checked(reward: Any, name: str) -> RewardFunc:
    """Return a reward that TRL can call.

    Raises:
        UsageError: it is not callable, or not with what TRL passes.
    """
    if not callable(reward) or isinstance(reward, type):
        what = "a class: name a function or an instance" if isinstance(reward, type) else "not callable"
        raise UsageError(f"reward_funcs: {name} is {what}")
    try:
        signature = inspect.signature(reward)
    except ValueError:  # some builtins have none
        raise UsageError(f"reward_funcs: {name} does not say what it takes; wrap it in a function") from None
    try:
        signature.bind(**dict.fromkeys(PASSED))
    except TypeError as error:
        raise UsageError(
            f"reward_funcs: {name} cannot be called as TRL calls rewards ({error}): it gets {', '.join(PASSED)} by "
            "keyword; take those that you need, and **kwargs"
        ) from None
    found: RewardFunc = reward
    return found
