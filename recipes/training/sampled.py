"""Workflows that a policy writes for training problems, run and graded: trajectories of its own making."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import fmean
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

from aflow_ops.concurrency import gather_or_cancel
from aflow_ops.executor import ExecutorConfig
from aflow_ops.policy_prompt import PromptStyle, policy_messages
from data.files import write_atomically
from data.problem import Problem
from data.trajectories import Trajectory
from recipes.policy.generation import generate_completions
from recipes.policy.loading import load_policy
from recipes.run.bars import Bar
from recipes.training.accounts import keep_accounts, process_share, rate_ledger
from rewards.opening import open_scorer
from rewards.rollout import Rollout, RolloutScorer

Written = tuple[Problem, str]


def write_workflows(
    model: str,
    adapter: str | None,
    problems: Sequence[Problem],
    *,
    samples: int,
    style: PromptStyle,
    max_new_tokens: int,
    temperature: float,
    batch_size: int,
    seed: int,
) -> list[Written]:
    """Let a policy write `samples` workflows for each of this process's share of the problems.

    Args:
        model (`str`): folder or Hub name of the base model.
        adapter (`str`, *optional*): of an adapter for it.
        problems (`Sequence[Problem]`): of all processes; a problem that comes twice is written for once.
        samples (`int`): workflows of each.
        style (`str`): of the prompt.
        max_new_tokens (`int`): longest workflow.
        temperature (`float`): above 0.
        batch_size (`int`): prompts at once.
        seed (`int`): of the sampling.
    """
    state = PartialState()
    different = list({(problem.source, problem.id): problem for problem in problems}.values())
    mine = [problem for problem in different[state.process_index :: state.num_processes] for _ in range(samples)]
    policy, tokenizer = load_policy(model, adapter)
    with Bar("sampling workflows", len(mine), visible=state.is_main_process) as bar:
        texts = generate_completions(
            policy,
            tokenizer,
            [policy_messages(problem.view, style) for problem in mine],
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            batch_size=batch_size,
            seed=seed + state.process_index,
            on_batch=bar.update,
        )
    return list(zip(mine, texts, strict=True))


def score_workflows(
    written: Sequence[Written],
    config: ExecutorConfig,
    run_dir: Path,
    *,
    runs: int,
    style: PromptStyle,
    policy: str,
    **options: Any,
) -> list[Trajectory]:
    """Run each different workflow several times and return the trajectories of all processes.

    What was paid is kept in the run's folder, so that the budget holds for all starts of a run together.

    Args:
        written (`Sequence[Written]`): this process's problems and completions.
        config (`ExecutorConfig`): the executor.
        run_dir (`Path`): `outputs/<run>`.
        runs (`int`): of each workflow; its reward is their mean.
        style (`str`): of the prompt that they were written for.
        policy (`str`): what wrote them, for the record.
        options: as for `open_scorer`.

    Raises:
        FatalExecutorError: the budget is spent, or the executor refuses every call.
    """
    different = list(dict.fromkeys((problem, text) for problem, text in written))
    rollouts = asyncio.run(_score(different, config, runs, run_dir, options))
    rows = [
        _trajectory(problem, text, results, style, policy)
        for (problem, text), results in zip(different, rollouts, strict=True)
    ]
    return list(gather_object([row for row in rows if row is not None]))


async def _score(
    written: Sequence[Written], config: ExecutorConfig, runs: int, run_dir: Path, options: dict[str, Any]
) -> list[list[Rollout]]:
    async with AsyncExitStack() as resources:
        opening = open_scorer(process_share(config), run_dir=run_dir, ledger=rate_ledger(resources), **options)
        scorer = await resources.enter_async_context(opening)
        keep_accounts(scorer.runtime.executor, run_dir, resources, fresh=False)
        with Bar("scoring workflows", len(written), visible=PartialState().is_main_process) as bar:

            async def one(problem: Problem, text: str) -> list[Rollout]:
                results = await _runs(scorer, problem, text, runs)
                bar.update()
                return results

            found = await gather_or_cancel(one(problem, text) for problem, text in written)
        if scorer.spent is not None:
            raise scorer.spent
        return found


async def _runs(scorer: RolloutScorer, problem: Problem, text: str, runs: int) -> list[Rollout]:
    """Run a workflow; one that does not parse earns the same every time."""
    first = await scorer.score(text, problem)
    if first.workflow is None:
        return [first]
    return [first, *await gather_or_cancel(scorer.score(text, problem, repeat) for repeat in range(1, runs))]


def _trajectory(
    problem: Problem, text: str, results: Sequence[Rollout], style: PromptStyle, policy: str
) -> Trajectory | None:
    graded = [result for result in results if result.reward is not None]
    if not graded:
        return None
    row = graded[0].to_row()
    prompt = policy_messages(problem.view, style)
    return Trajectory.from_row(
        {
            "group": hashlib.sha256(f"{problem.source}/{problem.id}".encode()).hexdigest()[:16],
            "problem": {"id": problem.id, "source": problem.source, "domain": problem.domain},
            "prompt": prompt,
            "completion": row["completion"],
            "reward": fmean(result.reward or 0.0 for result in graded),
            "correct": all(result.grade is not None and result.grade.correct for result in graded),
            "outcome": row["outcome"],
            "origin": "policy",
            "form": "design",
            "policy": {"model": policy, "adapter": None, "step": None},
        }
    )


def write_trajectories(path: Path, trajectories: Sequence[Trajectory]) -> None:
    """Write a file that `read_trajectories` reads."""
    with write_atomically(path) as file:
        file.writelines(json.dumps(row.to_row(), ensure_ascii=False) + "\n" for row in trajectories)
