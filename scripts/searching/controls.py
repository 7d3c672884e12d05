"""What a search has to beat, on the same held-out problems.

| control | what it is |
|---|---|
| `root` | the workflow that the search started from, the best of several |
| `independent_samples` | the best of proposals made from this root alone, for the executor tokens of the search |
| `single_agent` | a vote over as many Custom calls as cost what the found workflow costs (arXiv:2601.12307) |
| `fixed: NAME` | each of the fixed workflows (`rewards/baselines.py`) |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from aflow_ops.concurrency import gather_or_cancel
from aflow_ops.search.expand import as_completion
from aflow_ops.search.independent import Independent
from aflow_ops.search.node import Node, Sample
from aflow_ops.search.tree import Tree
from rewards.baselines import fixed_workflows
from rewards.searching.evaluation import Evaluation
from rewards.statistics import bootstrap_mean, paired_bootstrap

MAX_VOTES = 15


@dataclass(frozen=True)
class Control:
    """One control's result.

    Args:
        samples (`Mapping[str, Sequence[Sample]]`): its runs on the held-out problems.
        found_with (`int`): executor tokens that were spent to find it.
    """

    samples: Mapping[str, Sequence[Sample]]
    found_with: int = 0

    def to_dict(self, found: Mapping[str, Sequence[Sample]] | None = None) -> dict[str, Any]:
        """Return the JSON form: `heldout`, `tokens` and `cost_usd`, both of its held-out runs, and `found_with_tokens`.

        Args:
            found (`Mapping[str, Sequence[Sample]]`, *optional*): the runs of the workflow found, on the same problems;
                with them `gain` is what it earns more, paired by problem.
        """
        runs = [sample for group in self.samples.values() for sample in group]
        row = {
            "heldout": heldout_result(self.samples),
            "tokens": sum(sample.tokens for sample in runs),
            "cost_usd": sum(sample.cost_usd for sample in runs),
            "found_with_tokens": self.found_with,
        }
        if found is not None:
            gain, low, high = paired_bootstrap(problem_means(self.samples), problem_means(found), seed=0)
            row["gain"] = {"mean": gain, "ci95": [low, high]}
        return row


def problem_means(samples: Mapping[str, Sequence[Sample]]) -> list[float]:
    """Return the mean reward of each problem, in the order of the problems' ids."""
    return [fmean(sample.reward for sample in samples[key]) for key in sorted(samples)]


def heldout_result(samples: Mapping[str, Sequence[Sample]]) -> dict[str, Any]:
    """Add up runs on held-out problems, with a 95 % bootstrap interval over problems."""
    means = problem_means(samples)
    mean, low, high = bootstrap_mean(means, seed=0)
    correct = fmean(sample.correct for runs in samples.values() for sample in runs)
    return {"n": len(means), "reward": mean, "correct": correct, "ci95": [low, high]}


async def run_controls(
    evaluation: Evaluation, heldout: Sequence[str], nodes: Sequence[Node], best: Node, search: Independent
) -> dict[str, Control]:
    """Run every control on the held-out problems.

    Args:
        evaluation (`Evaluation`): runs workflows.
        heldout (`Sequence[str]`): ids of the held-out problems.
        nodes (`Sequence[Node]`): of the search.
        best (`Node`): what it found.
        search (`Independent`): what independent sampling needs.
    """
    root = Tree([node for node in nodes if node.parent is None]).best(len(search.rungs.problems))
    assert root is not None, "the best of the roots is run on the whole slice"
    controls = {"root": Control(await evaluation.on(as_completion(root.workflow, root.prompts), heldout))}
    spent = int(sum(node.tokens.executor for node in nodes if node.parent is not None))
    await search.run(root, spent)
    controls["independent_samples"] = Control(await evaluation.on(search.best, heldout), search.tokens)
    first = next(node for node in nodes if node.parent is None and node.status == "ok")
    controls["single_agent"] = Control(await evaluation.on(_single_agent(best, first), heldout))
    fixed = fixed_workflows()
    ran = await gather_or_cancel(evaluation.on(workflow, heldout) for workflow in fixed.values())
    return controls | {f"fixed: {name}": Control(samples) for name, samples in zip(fixed, ran, strict=True)}


def _single_agent(best: Node, first: Node) -> str:
    """One agent, asked as often as the found workflow's tokens allow; the first root is one call."""
    each = first.tokens_per_run
    votes = min(MAX_VOTES, max(1, round(best.tokens_per_run / each))) if each else 1
    if votes == 1:
        return "async def workflow(problem):\n    return (await custom(input=problem))['response']"
    return (
        "async def workflow(problem):\n"
        f"    drafts = [(await custom(input=problem))['response'] for _ in range({votes})]\n"
        "    return (await sc_ensemble(solutions=drafts, problem=problem))['response']"
    )
