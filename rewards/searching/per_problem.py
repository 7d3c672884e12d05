"""One search for every problem: the candidates of each round against its own gold answer, and pass@k over rounds."""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from aflow_ops.concurrency import gather_or_cancel
from aflow_ops.errors import WorkflowError
from aflow_ops.search.evaluate import Rungs
from aflow_ops.search.loop import Root, Search
from aflow_ops.search.node import Node
from data.problem import Problem
from rewards.statistics import pass_at_k, wilson_interval

PASS_K = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Searched:
    """One problem's search.

    Args:
        problem (`str`): its id.
        nodes (`tuple[Node, ...]`): with ids of their own, from 0.
    """

    problem: str
    nodes: tuple[Node, ...]


async def search_problems(
    problems: Mapping[str, Problem],
    make: Callable[[str, Problem], tuple[Search, Sequence[Root]]],
    done: Sequence[Searched],
    keep: Callable[[Searched], None],
    at_once: int,
) -> list[Searched]:
    """Search for every problem that is not done, several at a time, and keep them in the problems' order.

    One that has ended is kept as soon as all before it have, and the next one begins at once.

    Args:
        problems (`Mapping[str, Problem]`): by id.
        make (`Callable`): returns a problem's search and its roots.
        done (`Sequence[Searched]`): the first problems' searches, from an earlier start.
        keep (`Callable[[Searched], None]`): called with each search, in order.
        at_once (`int`): problems at a time.

    Raises:
        WorkflowError: what a search starts from is no workflow for its problem.
        InfraError: a failure of ours, or the budget is spent; all searches kept so far stand.
    """
    found = list(done)
    order, ended = list(problems), dict[str, Searched]()
    slots = asyncio.Semaphore(at_once)

    async def one(key: str) -> None:
        async with slots:
            search, roots = make(key, problems[key])
            try:
                await search.run(roots)
            except WorkflowError as error:
                if not search.nodes:
                    raise
                print(f"warning: {key}: {error}", file=sys.stderr)  # other problems have a search all the same
        ended[key] = Searched(key, tuple(search.nodes))
        while len(found) < len(order) and (searched := ended.pop(order[len(found)], None)) is not None:
            keep(searched)
            found.append(searched)

    await gather_or_cancel(one(key) for key in order[len(done) :])
    return found


def renumbered(searched: Searched, first: int) -> list[Node]:
    """Return a problem's nodes with ids that follow those of the problems before it."""
    return [
        replace(node, id=node.id + first, parent=None if node.parent is None else node.parent + first)
        for node in searched.nodes
    ]


def split_by_problem(
    nodes: Sequence[Node], roots: Mapping[str, int], ended: Callable[[Sequence[Node]], bool]
) -> tuple[list[Searched], int]:
    """Read kept nodes back: each problem's search begins with its roots, and was kept when it had ended.

    Args:
        nodes (`Sequence[Node]`): as they were kept.
        roots (`Mapping[str, int]`): how many each problem's search starts from, by the problem's id, in order.
        ended (`Callable[[Sequence[Node]], bool]`): whether a search with these nodes has ended: the last one may have
            been cut off, and any may have been told of fewer rounds.

    Returns:
        `tuple` of the searches up to the first one that has not ended, and how many nodes they have.
    """
    searches: list[Searched] = []
    for searched, count in zip(all_by_problem(nodes, roots), roots.values(), strict=False):
        if len(searched.nodes) < count or not ended(searched.nodes):
            break
        searches.append(searched)
    return searches, sum(len(searched.nodes) for searched in searches)


def all_by_problem(nodes: Sequence[Node], roots: Mapping[str, int]) -> list[Searched]:
    """Read kept nodes back, also of searches that have not ended: there may be more rounds to make than there were.

    Args:
        nodes, roots: as for `split_by_problem`.
    """
    found: list[Searched] = []
    start = 0
    for problem, count in roots.items():
        if start == len(nodes):
            break
        end = min(start + count, len(nodes))
        while end < len(nodes) and nodes[end].round > 0:
            end += 1
        found.append(Searched(problem, tuple(renumbered(Searched(problem, tuple(nodes[start:end])), -start))))
        start = end
    return found


def one_problem(key: str, repeats: int) -> Rungs:
    """Return how a slice of one problem is spent."""
    return Rungs((key,), repeats=repeats, halving=False)


def pass_at_k_by_round(searches: Sequence[Searched]) -> dict[str, dict[str, Any]]:
    """Return pass@k after every round, the mean over problems.

    A problem's samples are all runs of its candidates up to that round, the root's among them.

    Returns:
        `dict`: round -> k -> `{"mean", "ci95"}`, the Wilson interval over problems; k only where every problem has so
        many samples.
    """
    rounds = sorted({node.round for searched in searches for node in searched.nodes})
    return {str(number): found for number in rounds if (found := _pass_at_k(searches, number))}


def _pass_at_k(searches: Sequence[Searched], number: int) -> dict[str, Any]:
    counts = []
    for searched in searches:
        rewards = [
            reward
            for node in searched.nodes
            if node.round <= number
            for rewards in node.per_problem.values()
            for reward in rewards
        ]
        counts.append((len(rewards), sum(reward >= 1.0 for reward in rewards)))
    return pass_at_k_of(counts)


def pass_at_k_of(counts: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Return pass@k, the mean over problems, with the Wilson interval over them.

    Args:
        counts (`Sequence[tuple[int, int]]`): samples, and right ones among them, of each problem.

    Returns:
        `dict`: k -> `{"mean", "ci95"}`, where every problem has so many samples; one that has none, for the executor
        refuses it, does not count.
    """
    counts = [count for count in counts if count[0] > 0]
    fewest = min((samples for samples, _ in counts), default=0)
    found = {}
    for k in PASS_K:
        if k <= fewest:
            mean = fmean(pass_at_k(samples, right, k) for samples, right in counts)
            found[str(k)] = {"mean": mean, "ci95": list(wilson_interval(mean, len(counts)))}
    return found
