"""What is done with many trajectories before anything is learnt from them: grouped, made distinct, capped, counted.

Whether two completions are the same workflow is decided by whoever calls: a `WorkflowKey` says it.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import fmean, pstdev
from typing import Any, Literal

from data.catalogue import benchmarks
from data.jsonl import read_problems
from data.problem import DataError, Problem
from data.registry import PROCESSED_FOLDER, SOURCES, in_heldout_part, iter_problems
from data.trajectories import Trajectory

# Equal for the same workflow, however it is written.
WorkflowKey = Callable[[Trajectory], Hashable]
# Rewards that differ by less are equal.
SAME_REWARD = 1e-6
# Runs with the domain's mean reward that a workflow is given beside its own: one lucky run is not the best of all.
PRIOR_RUNS = 8


def by_group(trajectories: Iterable[Trajectory]) -> dict[str, list[Trajectory]]:
    """Return the rows of each group, groups and rows in the order of their first appearance."""
    groups: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        groups.setdefault(trajectory.group, []).append(trajectory)
    return groups


def by_problem(trajectories: Iterable[Trajectory]) -> dict[tuple[str, str], list[Trajectory]]:
    """Return the rows of each problem, by source and id, whatever their prompts."""
    problems: dict[tuple[str, str], list[Trajectory]] = {}
    for trajectory in trajectories:
        problems.setdefault(trajectory.key, []).append(trajectory)
    return problems


def has_signal(group: Sequence[Trajectory]) -> bool:
    """Whether a group has two different rewards: only then does any of its rows have an advantage."""
    rewards = [trajectory.reward for trajectory in group]
    return bool(rewards) and max(rewards) - min(rewards) > SAME_REWARD


def distinct(trajectories: Iterable[Trajectory], key: WorkflowKey) -> list[Trajectory]:
    """Return one row for each workflow of a group, its reward the mean of all its runs.

    Of equal workflows the first with log-probabilities is kept, else the first.

    Args:
        trajectories (`Iterable[Trajectory]`): of any groups.
        key (`WorkflowKey`): what makes two completions one workflow.
    """
    same: dict[Hashable, list[Trajectory]] = {}
    for trajectory in trajectories:
        same.setdefault((trajectory.group, key(trajectory)), []).append(trajectory)
    return [_merged(rows) for rows in same.values()]


def _merged(rows: Sequence[Trajectory]) -> Trajectory:
    kept = next((row for row in rows if row.logprobs is not None), rows[0])
    return replace(
        kept,
        reward=min(1.0, _earned(rows) / _runs(rows)),
        correct=all(row.correct for row in rows),
        rewards=_runs(rows),
    )


@dataclass(frozen=True)
class Standing:
    """What a workflow earns in a domain, over all of its problems.

    Args:
        mean (`float`): reward in [0, 1], shrunk to the domain's mean.
        error (`float`): standard error of it.
    """

    mean: float
    error: float


def standings(trajectories: Iterable[Trajectory], key: WorkflowKey) -> dict[tuple[str, Hashable], Standing]:
    """Return how each workflow does in each domain.

    Args:
        trajectories (`Iterable[Trajectory]`): all that there are, not the best ones alone.
        key (`WorkflowKey`): what makes two completions one workflow.

    Returns:
        `dict`: by domain and workflow.
    """
    runs: dict[tuple[str, Hashable], list[Trajectory]] = {}
    domains: dict[str, list[Trajectory]] = {}
    for row in trajectories:
        runs.setdefault((row.domain, key(row)), []).append(row)
        domains.setdefault(row.domain, []).append(row)
    means = {domain: _earned(rows) / _runs(rows) for domain, rows in domains.items()}
    spreads = {domain: pstdev([row.reward for row in rows]) for domain, rows in domains.items()}
    found = {}
    for (domain, name), rows in runs.items():
        count = _runs(rows) + PRIOR_RUNS
        mean = (_earned(rows) + PRIOR_RUNS * means[domain]) / count
        found[domain, name] = Standing(mean, spreads[domain] / sqrt(count))
    return found


def simplest_first(
    rows: Iterable[Trajectory], known: Mapping[tuple[str, Hashable], Standing], key: WorkflowKey
) -> list[Trajectory]:
    """Order designs that earned as much on a problem, where each reward is one draw and luck decides among many.

    First comes the shortest of those whose standing is within one standard error of the best one's (Breiman et al.,
    Classification and Regression Trees, 1984, 3.4.3), then the same of the rest, and so on.

    Args:
        rows (`Iterable[Trajectory]`): of one problem.
        known (`Mapping`): standings of all of them.
        key (`WorkflowKey`): what makes two completions one workflow.
    """
    left, ordered = [(row, known[row.domain, key(row)]) for row in rows], list[Trajectory]()
    while left:
        best = max((standing for _, standing in left), key=lambda standing: standing.mean)
        near = [index for index, (_, standing) in enumerate(left) if standing.mean >= best.mean - best.error]
        taken = min(near, key=lambda index: (len(left[index][0].completion), -left[index][1].mean))
        ordered.append(left.pop(taken)[0])
    return ordered


def _earned(rows: Iterable[Trajectory]) -> float:
    return sum(row.reward * row.rewards for row in rows)


def _runs(rows: Iterable[Trajectory]) -> int:
    return sum(row.rewards for row in rows)


def capped(
    trajectories: Iterable[Trajectory],
    key: WorkflowKey,
    *,
    per_group: int,
    per_workflow: int,
    order: Literal["best", "spread"],
) -> list[Trajectory]:
    """Return so few rows of each group, and of each workflow over all groups, that no shape drowns the rest.

    Groups take turns, so a workflow that is good everywhere is not kept for the first groups alone.

    Args:
        trajectories (`Iterable[Trajectory]`): distinct ones.
        key (`WorkflowKey`): what makes two completions one workflow.
        per_group (`int`): rows of a group, at least 1.
        per_workflow (`int`): rows of a workflow, at least 1.
        order (`str`): a group gives its rows `best` first, or `spread`: the best, the worst, the second best, ...
    """
    for name, value in (("per_group", per_group), ("per_workflow", per_workflow)):
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
    queues = [_ordered(rows, order) for rows in by_group(trajectories).values()]
    kept: list[list[Trajectory]] = [[] for _ in queues]
    counts: Counter[Hashable] = Counter()
    open_groups = list(range(len(queues)))
    while open_groups:
        for index in list(open_groups):
            taken = _next(queues[index], counts, key, per_workflow)
            if taken is not None:
                kept[index].append(taken)
            if taken is None or len(kept[index]) == per_group:
                open_groups.remove(index)
    return [trajectory for rows in kept for trajectory in rows]


def _next(queue: list[Trajectory], counts: Counter[Hashable], key: WorkflowKey, per_workflow: int) -> Trajectory | None:
    while queue:
        trajectory = queue.pop(0)
        name = key(trajectory)
        if counts[name] < per_workflow:
            counts[name] += 1
            return trajectory
    return None


def _ordered(rows: Sequence[Trajectory], order: Literal["best", "spread"]) -> list[Trajectory]:
    best = sorted(rows, key=lambda row: -row.reward)
    if order == "best":
        return best
    half = (len(best) + 1) // 2
    first, last = best[:half], best[half:][::-1]
    pairs = [(first[i], *last[i : i + 1]) for i in range(half)]
    return [row for pair in pairs for row in pair]


@dataclass(frozen=True)
class TrajectoryStatistics:
    """What a set of trajectories holds.

    Args:
        rows (`int`): trajectories.
        problems (`int`): different problems.
        groups (`int`): different prompts.
        groups_with_signal (`int`): groups with two different rewards.
        workflows (`int`): different workflows.
        largest_workflow (`float`): share of the rows that are the most frequent workflow.
        reward (`float`): mean.
        correct (`float`): share.
        own (`int`): rows with log-probabilities.
        domains (`Mapping[str, int]`): rows by domain.
        origins (`Mapping[str, int]`): rows by origin.
        outcomes (`Mapping[str, int]`): rows by outcome.
    """

    rows: int
    problems: int
    groups: int
    groups_with_signal: int
    workflows: int
    largest_workflow: float
    reward: float
    correct: float
    own: int
    domains: Mapping[str, int]
    origins: Mapping[str, int]
    outcomes: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}

    def line(self) -> str:
        """Return it as one line for a person."""
        domains = ", ".join(f"{name} {count}" for name, count in sorted(self.domains.items()))
        return (
            f"{self.rows} trajectories of {self.problems} problems ({domains}), {self.workflows} workflows, "
            f"{self.groups_with_signal} of {self.groups} groups with different rewards, mean reward {self.reward:.3f}"
        )


def statistics(trajectories: Sequence[Trajectory], key: WorkflowKey) -> TrajectoryStatistics:
    """Count a set of trajectories.

    Args:
        trajectories (`Sequence[Trajectory]`): at least one.
        key (`WorkflowKey`): what makes two completions one workflow.
    """
    groups = by_group(trajectories)
    workflows = Counter(key(row) for row in trajectories)
    return TrajectoryStatistics(
        rows=len(trajectories),
        problems=len({row.key for row in trajectories}),
        groups=len(groups),
        groups_with_signal=sum(has_signal(rows) for rows in groups.values()),
        workflows=len(workflows),
        largest_workflow=max(workflows.values()) / len(trajectories),
        reward=fmean(row.reward for row in trajectories),
        correct=fmean(row.correct for row in trajectories),
        own=sum(row.logprobs is not None for row in trajectories),
        domains=Counter(row.domain for row in trajectories),
        origins=Counter(row.origin for row in trajectories),
        outcomes=Counter(row.outcome for row in trajectories),
    )


# Train and held-out


def refuse_leaks(trajectories: Sequence[Trajectory], heldout: Sequence[Problem] = ()) -> None:
    """Refuse trajectories of problems that are held out: what is measured on them afterwards would be worth nothing.

    A problem is held out when it is one of `heldout`, by id or by text; when it is in the test set of a processed
    benchmark, or in the held-out part of its training set; or when the registry's hash of its text says so
    (`data/registry.py`). A brief prompt leaves a passage out: a question about one is asked of many passages, and is
    the held-out problem's only where no id of the same source says otherwise.

    Args:
        trajectories (`Sequence[Trajectory]`): to be trained on.
        heldout (`Sequence[Problem]`): that the run evaluates on.

    Raises:
        DataError: names the first few, and what to do.
    """
    keys = {(problem.source, problem.id) for problem in heldout}
    texts = {problem.view.text for problem in heldout}
    brief: dict[str, set[str]] = {}
    for problem in heldout:
        brief.setdefault(problem.question, set()).add(problem.source)
    parts = {source: _HeldOutPart(source) for source in {row.source for row in trajectories}}
    leaks = [
        row
        for row in trajectories
        if row.key in keys
        or (row.form == "design" and (row.asked in texts or row.source not in brief.get(row.asked, {row.source})))
        or row in parts[row.source]
    ]
    if leaks:
        named = list(dict.fromkeys(f"{row.source}/{row.id}" for row in leaks))
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        raise DataError(
            f"{len(leaks)} of {len(trajectories)} trajectories are of held-out problems "
            f"({', '.join(named[:3])}{more}): make them on the training part (scripts/search.py does; "
            "scripts/evaluate.py with --data data/cache/processed/NAME/train.jsonl)"
        )


def _held_out_of(benchmark: str) -> Iterator[str]:
    """Yield the ids of a processed benchmark's test set, and of what the registry holds out of its training set."""
    for part in ("test", "train"):
        path = PROCESSED_FOLDER / benchmark / f"{part}.jsonl"
        for problem in read_problems(path) if path.is_file() else ():
            if part == "test" or in_heldout_part(problem):
                yield problem.id


class _HeldOutPart:
    """What is held out of one source, as far as a trajectory tells."""

    def __init__(self, source: str) -> None:
        self.by_text = source in SOURCES
        self.has_context = self.by_text and next(iter_problems(source, "train", 0)).context is not None
        names = [name for name, benchmark in benchmarks().items() if benchmark.source == source]
        self.ids = {id for name in names for id in _held_out_of(name)}

    def __contains__(self, row: Trajectory) -> bool:
        if row.id in self.ids:
            return True
        if not self.by_text or row.form != "design":
            return False
        head, separator, question = row.asked.rpartition("\n\nQuestion: ")
        context = head.removeprefix("Context:\n") if separator else None
        if self.has_context and context is None:
            return False  # a brief prompt leaves the passage out
        if not self.has_context:
            context, question = None, row.asked
        return in_heldout_part(Problem(question, "", row.source, row.domain, row.id, context=context))
