"""What a search has to beat, on the same held-out problems.

| control | what it is |
|---|---|
| `root` | the workflow that the search started from, the best of several |
| `independent_samples` | the best of proposals made from this root alone, for the executor tokens of the search |
| `single_agent` | a vote over as many calls of one operator as cost what the found workflow costs (arXiv:2601.12307) |
| `fixed: NAME` | each of the fixed workflows (`rewards/baselines.py`) |

The single agent's operator is what a search starts from when it is told nothing: CustomCodeGenerate where all problems
ask for functions, else Custom.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from aflow_ops.concurrency import gather_or_cancel
from aflow_ops.search.expand import as_completion
from aflow_ops.search.independent import Independent
from aflow_ops.search.kinds import kinds_of, root_workflow
from aflow_ops.search.node import Node, Sample
from aflow_ops.search.plan import print_plan, read_plan, vote
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

    @property
    def tokens(self) -> int:
        """Executor tokens of its runs."""
        return sum(sample.tokens for runs in self.samples.values() for sample in runs)

    def to_dict(self, found: Mapping[str, Sequence[Sample]] | None = None) -> dict[str, Any]:
        """Return the JSON form: `heldout`, `tokens` and `cost_usd`, both of its held-out runs, and `found_with_tokens`.

        Args:
            found (`Mapping[str, Sequence[Sample]]`, *optional*): the runs of the workflow found, on the same problems;
                with them `gain` is what it earns more, paired by problem.
        """
        runs = [sample for group in self.samples.values() for sample in group]
        row = {
            "heldout": heldout_result(self.samples),
            "tokens": self.tokens,
            "cost_usd": sum(sample.cost_usd for sample in runs),
            "found_with_tokens": self.found_with,
        }
        if found is not None:
            shared = self.samples.keys() & found.keys()  # the executor may have refused to answer on others
            mine, others = ({key: samples[key] for key in shared} for samples in (self.samples, found))
            gain, low, high = paired_bootstrap(problem_means(mine), problem_means(others), seed=0)
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
    """Run every control on the held-out problems, all of them side by side.

    Args:
        evaluation (`Evaluation`): runs workflows.
        heldout (`Sequence[str]`): ids of the held-out problems.
        nodes (`Sequence[Node]`): of the search.
        best (`Node`): what it found.
        search (`Independent`): what independent sampling needs.
    """
    roots = Tree([node for node in nodes if node.round == 0], search.objective, search.price_per_usd)
    root = roots.best(len(search.rungs.problems))
    assert root is not None, "the best of the roots is run on the whole slice"
    spent = int(sum(node.tokens.executor for node in nodes if node.round > 0))

    async def sampled() -> Control:
        await search.run(root, spent)
        return Control(await evaluation.on(search.best, heldout), search.tokens)

    async def of(workflow: str) -> Control:
        return Control(await evaluation.on(workflow, heldout))

    running = {
        "root": of(as_completion(root.workflow, root.prompts)),
        "independent_samples": sampled(),
        "single_agent": _single_agent(evaluation, heldout, best),
        **{f"fixed: {name}": of(workflow) for name, workflow in fixed_workflows().items()},
    }
    return dict(zip(running, await gather_or_cancel(running.values()), strict=True))


async def _single_agent(evaluation: Evaluation, heldout: Sequence[str], best: Node) -> Control:
    """One agent, asked as often as the found workflow's tokens allow; what one call takes is seen on the problems."""
    kinds = kinds_of(evaluation.problems[key] for key in heldout)
    root = read_plan(root_workflow(kinds))
    assert root is not None, "a search's first workflow is a plan"
    once = Control(await evaluation.on(root_workflow(kinds), heldout))
    each = once.tokens / len(heldout)
    votes = min(MAX_VOTES, round(best.tokens_per_run / each)) if each else 1
    if votes < 2:
        return once
    asked = vote("ScEnsemble", *[root] * votes)
    text = print_plan(asked, has_entry_point=all(flag for _, flag in kinds))
    return Control(await evaluation.on(text, heldout))
