"""What searches problem by problem have to beat, on the same problems, and `controls.jsonl`, which has it.

| control | what it is |
|---|---|
| `root` | the workflow that each search started from, run once more |
| `independent_samples` | proposals made from it alone, for the executor tokens of the problem's search |
| `single_agent` | one operator asked again and again for these tokens (`controls.py` says which operator) |
| `fixed: NAME` | each of the fixed workflows (`rewards/baselines.py`) |

Their pass@k is over all that was tried for a problem, as the search's is.

    {"control": "single_agent", "problem": "gsm8k/3", "rewards": [1.0, 0.2], "tokens": 180, "cost_usd": 0.0}
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from aflow_ops.concurrency import gather_or_cancel
from aflow_ops.errors import CallRefusedError
from aflow_ops.search.expand import as_completion
from aflow_ops.search.independent import Independent
from aflow_ops.search.kinds import kinds_of, root_workflow
from aflow_ops.search.node import Sample
from data.files import write_atomically
from rewards.baselines import fixed_workflows
from rewards.searching.evaluation import Evaluation
from rewards.searching.per_problem import Searched, pass_at_k_of
from rewards.statistics import bootstrap_mean

FILE = "controls.jsonl"
# Runs of a single agent on one problem, at most.
MAX_RUNS = 64


@dataclass(frozen=True)
class Tried:
    """What a control came to on one problem: a row of the file.

    Args:
        control (`str`): its name.
        problem (`str`): the problem's id.
        rewards (`tuple[float, ...]`): of its runs.
        tokens (`int`): executor tokens of all of them.
        cost_usd (`float`): their price.
    """

    control: str
    problem: str
    rewards: tuple[float, ...]
    tokens: int
    cost_usd: float


async def try_controls(
    evaluation: Evaluation, searches: Sequence[Searched], independent: Callable[[str], Independent]
) -> list[Tried]:
    """Run every control on every problem.

    Args:
        evaluation (`Evaluation`): runs workflows.
        searches (`Sequence[Searched]`): what they are compared with.
        independent (`Callable[[str], Independent]`): what independent sampling needs, for a problem.

    Raises:
        InfraError: a failure of ours that did not pass, or the budget is spent.
    """
    found = await gather_or_cancel(
        _on_one(evaluation, searched, independent(searched.problem)) for searched in searches
    )
    names = list(dict.fromkeys(row.control for rows in found for row in rows))
    return [row for name in names for rows in found for row in rows if row.control == name]


async def _on_one(evaluation: Evaluation, searched: Searched, independent: Independent) -> list[Tried]:
    key, root = searched.problem, next(node for node in searched.nodes if node.status != "rejected")
    spent = int(sum(node.tokens.executor for node in searched.nodes if node.round > 0))

    async def once(name: str, workflow: str) -> Tried | None:
        with suppress(CallRefusedError):
            return _tried(name, key, (await evaluation.on(workflow, [key]))[key])
        return None

    async def sampled() -> Tried:
        await independent.run(root, spent)
        nodes = independent.nodes
        rewards = tuple(reward for node in nodes for each in node.per_problem.values() for reward in each)
        cost = sum(node.cost_usd.executor for node in nodes)
        return Tried("independent_samples", key, rewards, independent.tokens, cost)

    async def again() -> Tried | None:
        agent = root_workflow(kinds_of([evaluation.problems[key]]))
        with suppress(CallRefusedError):
            first = (await evaluation.on(agent, [key]))[key]
            runs = min(MAX_RUNS, spent // first[0].tokens) if first[0].tokens else 1
            samples = first if runs < 2 else (await evaluation.on(agent, [key], repeats=runs))[key]
            return _tried("single_agent", key, samples)
        return None

    fixed = (once(f"fixed: {name}", workflow) for name, workflow in fixed_workflows().items())
    found = await gather_or_cancel(
        [once("root", as_completion(root.workflow, root.prompts)), sampled(), again(), *fixed]
    )
    return [row for row in found if row is not None and row.rewards]


def _tried(name: str, problem: str, samples: Sequence[Sample]) -> Tried:
    tokens, cost = sum(sample.tokens for sample in samples), sum(sample.cost_usd for sample in samples)
    return Tried(name, problem, tuple(sample.reward for sample in samples), tokens, cost)


def summarised(rows: Iterable[Tried]) -> dict[str, dict[str, Any]]:
    """Return what the summary says of each control: `heldout`, the mean over its runs, tokens, dollars and pass@k."""
    by_name: dict[str, list[Tried]] = {}
    for row in rows:
        by_name.setdefault(row.control, []).append(row)
    return {name: _summary(own) for name, own in by_name.items()}


def _summary(rows: Sequence[Tried]) -> dict[str, Any]:
    means = [fmean(row.rewards) for row in rows]
    mean, low, high = bootstrap_mean(means, seed=0)
    right = [sum(reward >= 1.0 for reward in row.rewards) for row in rows]
    correct = fmean(count / len(row.rewards) for count, row in zip(right, rows, strict=True))
    return {
        "heldout": {"n": len(rows), "reward": mean, "correct": correct, "ci95": [low, high]},
        "tokens": sum(row.tokens for row in rows),
        "cost_usd": sum(row.cost_usd for row in rows),
        "pass_at_k": pass_at_k_of([(len(row.rewards), count) for row, count in zip(rows, right, strict=True)]),
    }


def write_tried(folder: Path, rows: Iterable[Tried]) -> None:
    """Write a search's `controls.jsonl`."""
    with write_atomically(folder / FILE) as file:
        file.writelines(json.dumps(vars(row), ensure_ascii=False) + "\n" for row in rows)


def read_tried(folders: Iterable[Path]) -> list[Tried]:
    """Read the files of some folders, those that there are, as one search would have left them."""
    lines = [line for folder in folders if (folder / FILE).is_file() for line in (folder / FILE).open(encoding="utf-8")]
    rows = [Tried(**{**row, "rewards": tuple(row["rewards"])}) for row in map(json.loads, lines)]
    names: Mapping[str, None] = dict.fromkeys(row.control for row in rows)
    return [row for name in names for row in rows if row.control == name]
