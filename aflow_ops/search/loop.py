"""The search itself: select, expand, evaluate, keep; until it has converged, or rounds or money run out.

A round is one proposal. Several rounds can be under way at once: they are one wave, chosen from the same tree and kept
together. Every choice is drawn from the seed and the number of the wave, so a search that was killed and resumed makes
the choices that it would have made.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from aflow_ops.concurrency import gather_or_cancel
from aflow_ops.errors import WorkflowError
from aflow_ops.search.evaluate import Evaluate, Rungs, graded, race, run_candidate, with_runs
from aflow_ops.search.expand import Candidate, Check, Context, Failure, Proposer, as_completion, expand, same_program
from aflow_ops.search.node import Node, Objective, Origin, Sample
from aflow_ops.search.select import Strategy, select_parents
from aflow_ops.search.stop import Convergence
from aflow_ops.search.tree import Tree
from data.problem import ProblemView

Stopped = Literal["converged", "rounds"]
# A proposer is shown so many failed problems, and so many other workflows.
SHOWN_FAILURES = 3


@dataclass(frozen=True)
class SearchSettings:
    """What decides a search's course, beside the problems and the proposer.

    Args:
        rounds (`int`): proposals in all.
        parallel (`int`): proposals at a time.
        selection (`str`): how parents are chosen.
        sample (`int`): the pool that AFlow's selection draws from, root included.
        seed (`int`): of every choice.
        objective (`str`): `"reward"` or `"correct"`.
        price_per_usd (`float`): what a dollar a problem costs, in units of the objective.
        convergence (`Convergence`, *optional*): `None` never stops before the rounds are over.
        clock (`bool`): whether nodes say how long their evaluation took; off, equal searches leave equal files.
    """

    rounds: int = 20
    parallel: int = 1
    selection: Strategy = "aflow"
    sample: int = 4
    seed: int = 0
    objective: Objective = "reward"
    price_per_usd: float = 0.0
    convergence: Convergence | None = None
    clock: bool = False


@dataclass(frozen=True)
class Root:
    """A workflow that the search starts from.

    Args:
        completion (`str`): text that holds it.
        origin (`str`): `"root"`, or `"import"` for a workflow of another search.
        modification (`str`): what it is.
        father (`int`, *optional*): which of the workflows before it was modified into it.
    """

    completion: str
    origin: Origin = "root"
    modification: str = "the first workflow"
    father: int | None = None


@dataclass
class Search:
    """One search.

    Args:
        settings (`SearchSettings`): its course.
        proposer (`Proposer`): proposes modifications.
        check (`Check`): the workflow language's verdict on a completion.
        evaluate (`Evaluate`): runs a workflow on a problem.
        problems (`Mapping[str, ProblemView]`): the validation slice, by id.
        rungs (`Rungs`): how the slice is spent.
        nodes (`list[Node]`): those of an earlier start; the search appends.
        keep (`Callable[[Sequence[Node]], None]`): called with the nodes of each wave, before the next one begins.
    """

    settings: SearchSettings
    proposer: Proposer
    check: Check
    evaluate: Evaluate
    problems: Mapping[str, ProblemView]
    rungs: Rungs
    nodes: list[Node] = field(default_factory=list)
    keep: Callable[[Sequence[Node]], None] = lambda nodes: None
    _samples: dict[int, Mapping[str, Sequence[Sample]]] = field(default_factory=dict)

    async def run(self, roots: Sequence[Root]) -> Stopped:
        """Go on until the search has converged or its rounds are over.

        Args:
            roots (`Sequence[Root]`): what to start from; ignored where the nodes have roots already.

        Returns:
            `str`: why it stopped.

        Raises:
            WorkflowError: no root is a workflow for these problems, or none ran to its end.
            InfraError: a failure of ours, or the budget is spent; all nodes kept so far stand.
        """
        if not self.nodes:
            await self._plant(roots)
        if not self.tree().scored:
            raise WorkflowError("find", f"no workflow to start from ran to its end: {self.nodes[0].error}")
        while (ended := ended_by(self.nodes, self.settings)) is None:
            done = max(node.round for node in self.nodes)
            await self._wave(range(done + 1, min(done + self.settings.parallel, self.settings.rounds) + 1))
        return ended

    def tree(self) -> Tree:
        """Return the tree so far."""
        return Tree(self.nodes, self.settings.objective, self.settings.price_per_usd)

    def best(self) -> Node | None:
        """Return the best node that ran on the whole slice."""
        return self.tree().best(len(self.problems))

    async def _plant(self, roots: Sequence[Root]) -> None:
        """Race the roots. One that is no workflow for these problems is kept as a rejected node."""
        nodes: list[Node] = []
        errors: list[WorkflowError] = []
        for index, root in enumerate(roots):
            father = root.father if root.father is not None and nodes[root.father].status == "ok" else None
            node = Node(index, father, 0, root.origin, root.modification, root.completion)
            try:
                workflow = self.check(root.completion)
            except WorkflowError as error:
                errors.append(error)
                nodes.append(replace(node, status="rejected", error=str(error)))
                continue
            nodes.append(replace(node, workflow=workflow.text, prompts=dict(workflow.prompts)))
        if len(errors) == len(roots):
            raise errors[0] if errors else WorkflowError("find", "a search needs a workflow to start from")
        valid = [node for node in nodes if node.status == "ok"]
        start = time.monotonic()
        ran = await race([as_completion(node.workflow, node.prompts) for node in valid], self.evaluate, self.rungs)
        done = {node.id: self._done(node, samples, start) for node, samples in zip(valid, ran, strict=True)}
        self._take([done.get(node.id, node) for node in nodes])

    async def _wave(self, rounds: range) -> None:
        """Make the proposals of some rounds at once."""
        tree = self.tree()
        rng = random.Random(f"{self.settings.seed} {rounds.start}")
        settings = self.settings
        parents = select_parents(tree, settings.selection, len(rounds), sample=settings.sample, rng=rng)
        contexts = await gather_or_cancel(
            self._context(tree, parent, number, rounds.start) for parent, number in zip(parents, rounds, strict=True)
        )
        best = tree.best(len(self.problems))
        worths = {} if best is None else self.rungs.worths(best)
        taken, turns = dict(tree.keys), [asyncio.Event() for _ in range(len(contexts) + 1)]
        turns[0].set()

        async def grow(offset: int, context: Context) -> Node:
            """Expand, wait until all proposals before it are told apart, then run: none waits for those behind it."""
            candidate = await expand(self.proposer, context, self.check, tree.keys)
            await turns[offset].wait()
            position = len(self.nodes) + offset
            candidate = await self._told_apart(candidate, context, taken, position)
            turns[offset + 1].set()
            origin = candidate.proposal.origin or self.proposer.origin
            node = Node(position, context.parent.id, context.sample, origin, **candidate.node_parts())
            return await self._run(node, worths) if node.status == "ok" else node

        self._take(await gather_or_cancel(grow(offset, context) for offset, context in enumerate(contexts)))

    async def _told_apart(
        self, candidate: Candidate, context: Context, taken: dict[str, int], position: int
    ) -> Candidate:
        """Ask again where a proposal of the same wave is the same program; adds what is accepted to those taken."""
        if candidate.key in taken:
            refused = (*candidate.refused, (candidate.proposal, same_program(taken[candidate.key])))
            candidate = await expand(self.proposer, context, self.check, taken, refused)
        if candidate.key is not None:
            taken.setdefault(candidate.key, position)
        return candidate

    async def _run(self, node: Node, best: Mapping[str, Sequence[float]]) -> Node:
        """Evaluate a node against the best one so far."""
        start = time.monotonic()
        samples = await run_candidate(as_completion(node.workflow, node.prompts), self.evaluate, self.rungs, best)
        return self._done(node, samples, start)

    def _done(self, node: Node, samples: Mapping[str, Sequence[Sample]], start: float) -> Node:
        """Return the node with its runs, which are kept for what proposers are shown."""
        self._samples[node.id] = samples
        return with_runs(node, samples, round(time.monotonic() - start, 3) if self.settings.clock else 0.0)

    def _take(self, nodes: Sequence[Node]) -> None:
        self.keep(nodes)
        self.nodes += nodes

    async def _context(self, tree: Tree, parent_id: int, number: int, wave: int) -> Context:
        """Collect what a proposer may know of a parent: never a gold answer.

        Proposals of one wave that modify one parent are told the same: their replies can be compared as a group.
        """
        parent = tree.nodes[parent_id]
        others = sorted((item for item in tree.scored if item.id != parent_id), key=lambda item: (-item.score, item.id))
        return Context(
            parent=parent,
            score=tree.score(parent),
            children=tuple(
                (child.modification, tree.score(child))
                if child.status == "ok"
                else (f"{child.modification} [{child.error}]" if child.error else child.modification, None)
                for child in tree.children(parent_id)
            ),
            failures=tuple(await self._failures(parent, wave)),
            others=tuple(tree.nodes[item.id] for item in others),
            sample=number,
        )

    async def _failures(self, parent: Node, wave: int) -> list[Failure]:
        """Draw a few problems that the parent did not solve. After a resume they are run again, from the cache."""
        rng = random.Random(f"{self.settings.seed} failures {wave}")
        failed = [problem for problem, rewards in parent.per_problem.items() if min(rewards) < 1.0]
        shown = rng.sample(failed, min(SHOWN_FAILURES, len(failed)))
        found = []
        for problem in shown:
            known = self._samples.get(parent.id, {}).get(problem)
            if known is None:
                text = as_completion(parent.workflow, parent.prompts)
                known = [await graded(self.evaluate, text, problem, repeat) for repeat in range(self.rungs.repeats)]
            worst = min(known, key=lambda sample: sample.reward)
            found.append(Failure(self.problems[problem].text, worst))
        return found


def ended_by(nodes: Sequence[Node], settings: SearchSettings) -> Stopped | None:
    """Return what ends a search with these nodes; `None` while it goes on.

    Args:
        nodes (`Sequence[Node]`): so far, at least one.
        settings (`SearchSettings`): its course.
    """
    if max(node.round for node in nodes) >= settings.rounds:
        return "rounds"
    if settings.convergence is None:
        return None
    tree = Tree(nodes, settings.objective, settings.price_per_usd)
    ran = [node for node in nodes if node.status == "ok" and node.validation is not None]
    levels = [(tree.score(node), node.validation.std) for node in ran if node.validation is not None]
    roots = sum(node.round == 0 for node in ran)
    return "converged" if settings.convergence.reached(levels, roots) else None


def whole_waves(nodes: Sequence[Node], roots: int, settings: SearchSettings) -> int:
    """Return how many of the nodes belong to waves that were kept whole: a resumed search goes on after them.

    Args:
        nodes (`Sequence[Node]`): as they were read.
        roots (`int`): how many the search starts from.
        settings (`SearchSettings`): its course.
    """
    proposals = len(nodes) - roots
    if proposals < 0:
        return 0
    if proposals >= settings.rounds:  # an earlier start was told of more rounds: what was paid for stays
        return len(nodes)
    return roots + proposals // settings.parallel * settings.parallel
