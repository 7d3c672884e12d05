"""One search, from opened parts to files."""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

from aflow_ops.errors import BudgetExceededError, UsageError, WorkflowError
from aflow_ops.executor import ExecutorConfig
from aflow_ops.search.aflow_folder import write_aflow_folder
from aflow_ops.search.aflow_template import AFlowTemplate
from aflow_ops.search.choose import Choice, Final
from aflow_ops.search.evaluate import FIRST_OF_A_KIND, Rungs
from aflow_ops.search.expand import as_completion
from aflow_ops.search.independent import Independent
from aflow_ops.search.journal import Journal, read_nodes
from aflow_ops.search.kinds import checker, kinds_of, operator_workflows, root_workflow
from aflow_ops.search.loop import Root, Search, SearchSettings, ended_by, whole_waves
from aflow_ops.search.node import Node
from aflow_ops.search.stop import Convergence
from aflow_ops.search.trajectories import write_trajectories
from aflow_ops.search.tree import Tree
from data.problem import Problem
from rewards.searching.evaluation import Evaluation
from rewards.searching.per_problem import (
    Searched,
    all_by_problem,
    one_problem,
    pass_at_k_by_round,
    renumbered,
    search_problems,
    split_by_problem,
)
from scripts.evaluating.shards import read_shards, write_manifest
from scripts.searching.bars import Bars
from scripts.searching.controls import Control, heldout_result, run_controls
from scripts.searching.opened import Opened, open_search
from scripts.searching.problem_controls import FILE as CONTROLS
from scripts.searching.problem_controls import read_tried, summarised, try_controls, write_tried
from scripts.searching.problems import Slices
from scripts.searching.proposers import MakeProposer, ProposerSettings, open_proposer
from scripts.searching.results import finalist_result, node_result, pareto_of, show, totals, write_best, write_json


class SearchCommand:
    """What `scripts/search.py` does once its arguments are checked.

    Args:
        arguments (`argparse.Namespace`): the command line.
        config (`ExecutorConfig`): the executor's flags.
        slices (`Slices`): the problems, of all shards.
        roots (`Sequence[Root]`): what the search starts from; without any, from one call of Custom, or, where only
            functions are asked for, of CustomCodeGenerate.
        shown (`Callable[[Mapping, Path], None]`): is given the summary and the folder at the end.
        template (`AFlowTemplate`, *optional*): AFlow's operators: no others are proposed.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        config: ExecutorConfig,
        slices: Slices,
        roots: Sequence[Root],
        shown: Callable[[Mapping[str, Any], Path], None] = show,
        template: AFlowTemplate | None = None,
    ) -> None:
        self.template, self.offered = template, template.offered if template else None
        self.arguments, self.config, self.roots_given = arguments, config, roots
        self.slices = slices if arguments.shard is None else slices.part(arguments.shard)
        self.roots = self._roots(slices.all.values())
        self.proposer = ProposerSettings.of(arguments)
        self.shown = shown
        self.seconds: dict[str, float] = {}
        self._choice: Choice | None = None
        self.check = checker(slices.kinds)
        convergence = None if arguments.convergence_z is None else Convergence(z=arguments.convergence_z)
        self.settings = SearchSettings(
            rounds=arguments.search_rounds,
            parallel=arguments.parallel,
            selection=arguments.selection,
            sample=arguments.sample,
            seed=arguments.seed,
            objective=arguments.objective,
            price_per_usd=arguments.price_per_usd,
            convergence=convergence,
        )

    @property
    def output(self) -> Path:
        """The search's folder."""
        folder: Path = self.arguments.output
        return folder

    async def run(self, opened: Opened | None = None) -> None:
        """Search, run the controls, write everything; what was kept before an error or Ctrl-C is summarised too.

        Args:
            opened (`Opened`, *optional*): shared with searches beside this one; by default it opens its own.

        Raises:
            BudgetExceededError: a budget is spent.
            InfraError: an endpoint or the sandbox failed for good.
            UsageError: the folder has another search, or no root is a workflow.
        """
        start = time.monotonic()
        with Journal(self.output, self._own_facts()) as journal:
            stopped = "interrupted"
            controls: dict[str, Any] = {}
            heldout: dict[str, Any] | None = None
            try:
                async with AsyncExitStack() as stack:
                    opened = opened or await open_search(stack, self.arguments, self.config, self.output)
                    executor = opened.scorer.runtime.executor
                    evaluation = Evaluation(opened.scorer, self.slices.all, executor.price)
                    make_proposer = await open_proposer(self.proposer, self.config, stack, self.output, self.offered)
                    with self._timed("search"):
                        search = self._search_problems if self.arguments.per_problem else self._search
                        stopped = await search(journal, evaluation, make_proposer, opened.bars)
                    if not self.arguments.per_problem:
                        with self._timed("final"):
                            tree = self._tree(journal.nodes)
                            whole = tree.whole(len(self.slices.validation))
                            self._choice = await self._final(evaluation).run(whole, tree.score)
                    with self._timed("controls"), opened.bars.waiting(f"controls of {self.output.name}"):
                        compare = self._compare_problems if self.arguments.per_problem else self._compare
                        heldout, controls = await compare(journal.nodes, evaluation, make_proposer)
            except WorkflowError as error:
                raise UsageError(f"no workflow to start from fits {', '.join(self.arguments.data)}: {error}") from None
            except BudgetExceededError:
                stopped = "budget"
                raise
            finally:
                if journal.nodes:
                    summary = self._summary(journal.nodes, stopped, heldout, controls, time.monotonic() - start)
                    self._write(journal.nodes, summary)
            if self.arguments.shard is not None:
                write_manifest(
                    self.output,
                    ["nodes.jsonl", *([CONTROLS] if self.arguments.controls else [])],
                    self.arguments.shard,
                    self._shard_facts(),
                    self._shard_facts(),
                    seconds=summary["seconds"],
                    seconds_by=self.seconds,
                    stopped=stopped,
                )

    def merge(self, folders: Sequence[Path]) -> None:
        """Write what one run would have left of the search whose shards are given; seconds are the longest shard's.

        Args:
            folders (`Sequence[Path]`): the shards' `--output` folders, in any order.

        Raises:
            UsageError: they are not all shards of this search; says which.
        """
        shards = read_shards(folders)
        manifests = [manifest for _, manifest in shards]
        before = manifests[0]["settings"]
        for name, value in json.loads(json.dumps(self._shard_facts())).items():
            if before.get(name) != value:
                raise UsageError(f"--merge: {shards[0][0]} was made with --{name} {before.get(name)}, this has {value}")
        with Journal(self.output, self.facts()) as journal:
            journal.cut(0)
            for folder, _ in shards:
                nodes, first = read_nodes(folder), len(journal.nodes)
                journal.append(renumbered(Searched("", tuple(nodes)), first))
            self.seconds = {
                phase: max(each["seconds_by"].get(phase, 0.0) for each in manifests)
                for phase in manifests[0]["seconds_by"]
            }
            stopped = next((each["stopped"] for each in manifests if each["stopped"] != "rounds"), "rounds")
            seconds = max(each["seconds"] for each in manifests)
            tried = read_tried(folder for folder, _ in shards)
            if tried:
                write_tried(self.output, tried)
            self._write(journal.nodes, self._summary(journal.nodes, stopped, None, summarised(tried), seconds))

    def _shard_facts(self) -> dict[str, Any]:
        """What all shards of this search have in common; rounds may be added to a search, not to some of its shards."""
        return {**self.facts(), "search_rounds": self.arguments.search_rounds}

    def _own_facts(self) -> dict[str, Any]:
        """The facts of this part of it."""
        shard = self.arguments.shard
        return self.facts() if shard is None else {**self.facts(), "shard": str(shard)}

    def facts(self) -> dict[str, Any]:
        """Return what decides the search's course: another value is another search."""
        names = (
            "data", "per_problem", "validation_problems", "validation_rounds", "parallel", "selection", "sample",
            "halving", "objective", "price_per_usd", "seed", "proposer", "workflow_timeout",
        )  # fmt: skip
        facts = {name: getattr(self.arguments, name) for name in names}
        if self.arguments.proposer != "grammar":
            asked = ("model", "adapter", "temperature", "top_p", "form", "max_tokens")
            facts |= {name: getattr(self.arguments, name) for name in (f"optimizer_{each}" for each in asked)}
        if self.arguments.operators:
            facts["operators"] = self.arguments.operators
        if self.offered is not None:
            facts["offered"] = self.offered
        executor = {name: getattr(self.config, name) for name in ("executor", "executor_model", "executor_temperature")}
        return {**facts, **executor, "roots": [root.completion for root in self.roots]}

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[phase] = round(time.monotonic() - start, 3)

    def rungs(self, problems: Iterable[str]) -> Rungs:
        """Return how problems are spent on a candidate."""
        given, settings = self.arguments, self.settings
        return Rungs(
            tuple(problems), given.validation_rounds, given.halving, FIRST_OF_A_KIND * len(self.slices.kinds),
            settings.objective, settings.price_per_usd,
        )  # fmt: skip

    def _final(self, evaluation: Evaluation) -> Final:
        return Final(evaluation, self.rungs(self.slices.final))

    def _roots(self, problems: Iterable[Problem]) -> list[Root]:
        kinds = kinds_of(problems)
        roots = list(self.roots_given) or [Root(root_workflow(kinds))]
        if self.arguments.operator_roots:
            known = {root.completion for root in roots}
            around = operator_workflows(kinds, self.offered).items()
            roots += [Root(text, "root", f"around {name}") for name, text in around if text not in known]
        return roots

    async def _search(self, journal: Journal, evaluation: Evaluation, make_proposer: MakeProposer, bars: Bars) -> str:
        journal.cut(whole_waves(journal.nodes, len(self.roots), self.settings))
        problems = self.slices.validation
        views = {key: problem.view for key, problem in problems.items()}
        proposer = make_proposer(problems)
        search = Search(
            self.settings, proposer, self.check, evaluation, views, self.rungs(problems), list(journal.nodes)
        )
        total = len(self.roots) + self.settings.rounds
        with bars.counting(f"search {self.output.name}", total, len(journal.nodes)) as advance:

            def keep(nodes: Sequence[Node]) -> None:
                journal.append(nodes)
                advance(len(nodes), self._so_far(journal.nodes))

            search.keep = keep
            return await search.run(self.roots)

    async def _search_problems(
        self, journal: Journal, evaluation: Evaluation, make_proposer: MakeProposer, bars: Bars
    ) -> str:
        problems = self.slices.validation
        done, whole = self._by_problem(journal.nodes)
        begun = self._begun(journal.nodes)
        journal.cut(whole)

        def make(key: str, problem: Problem) -> tuple[Search, Sequence[Root]]:
            rungs, roots = one_problem(key, self.arguments.validation_rounds), self._roots([problem])
            check, proposer = checker(kinds_of([problem])), make_proposer({key: problem})
            nodes = list(begun.get(key, ()))
            del nodes[whole_waves(nodes, len(roots), self.settings) :]
            return Search(self.settings, proposer, check, evaluation, {key: problem.view}, rungs, nodes), roots

        label = f"search {self.output.name}, problem by problem"
        with bars.counting(label, len(problems), len(done)) as advance:

            def keep(searched: Searched) -> None:
                begun.pop(searched.problem, None)
                journal.append(renumbered(searched, len(journal.nodes)))
                advance(1, self._so_far(journal.nodes))

            try:
                await search_problems(problems, make, done, keep, self.config.workflows_at_once)
            finally:  # what was to have more rounds and did not get them stays as it was
                for key, nodes in begun.items():
                    journal.append(renumbered(Searched(key, nodes), len(journal.nodes)))
        return "rounds"

    def _begun(self, nodes: Sequence[Node]) -> dict[str, tuple[Node, ...]]:
        """The searches that have not ended, and those behind the first of them, in order: more rounds are asked for."""
        done = len(self._by_problem(nodes)[0])
        return {searched.problem: searched.nodes for searched in all_by_problem(nodes, self._root_counts())[done:]}

    def _by_problem(self, nodes: Sequence[Node]) -> tuple[list[Searched], int]:
        def ended(own: Sequence[Node]) -> bool:
            return all(node.status != "ok" for node in own) or ended_by(own, self.settings) is not None

        return split_by_problem(nodes, self._root_counts(), ended)

    def _root_counts(self) -> dict[str, int]:
        return {key: len(self._roots([problem])) for key, problem in self.slices.validation.items()}

    def _tree(self, nodes: Sequence[Node]) -> Tree:
        return Tree(nodes, self.settings.objective, self.settings.price_per_usd)

    def _so_far(self, nodes: Sequence[Node]) -> str:
        tree = self._tree(nodes)
        best = max((item.score for item in tree.scored), default=0.0)
        cost = totals(nodes)["cost_usd"]
        rounds = "" if self.arguments.per_problem else f"round {nodes[-1].round}/{self.settings.rounds}  "
        return f"{rounds}best {best:.3f}  ${cost['optimizer'] + cost['executor']:.3f}"

    async def _compare(
        self, nodes: Sequence[Node], evaluation: Evaluation, make_proposer: MakeProposer
    ) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """Run the chosen node and the controls on the held-out problems."""
        best, heldout = None if self._choice is None else self._choice.node, list(self.slices.heldout)
        if best is None or not heldout:
            return None, {}
        samples = await evaluation.on(as_completion(best.workflow, best.prompts), heldout)
        found = Control(samples).to_dict()
        result = {**heldout_result(samples), "tokens": found["tokens"], "cost_usd": found["cost_usd"]}
        if not self.arguments.controls:
            return result, {}
        independent = Independent(
            make_proposer(self.slices.validation),
            self.check,
            evaluation,
            self.rungs(self.slices.validation),
            self._final(evaluation),
            self.settings.parallel,
            self.settings.objective,
            self.settings.price_per_usd,
        )
        controls = await run_controls(evaluation, heldout, nodes, best, independent)
        return result, {name: control.to_dict(samples) for name, control in controls.items()}

    async def _compare_problems(
        self, nodes: Sequence[Node], evaluation: Evaluation, make_proposer: MakeProposer
    ) -> tuple[None, dict[str, Any]]:
        """Run the controls on the problems themselves."""
        if not self.arguments.controls:
            return None, {}

        def independent(key: str) -> Independent:
            problem = self.slices.validation[key]
            check, rungs = checker(kinds_of([problem])), one_problem(key, self.arguments.validation_rounds)
            final, at_once = Final(evaluation, Rungs(())), self.settings.parallel
            return Independent(make_proposer({key: problem}), check, evaluation, rungs, final, at_once)

        tried = await try_controls(evaluation, self._by_problem(nodes)[0], independent)
        write_tried(self.output, tried)
        return None, summarised(tried)

    def _summary(
        self,
        nodes: Sequence[Node],
        stopped: str,
        heldout: dict[str, Any] | None,
        controls: Mapping[str, Any],
        seconds: float,
    ) -> dict[str, Any]:
        tree = self._tree(nodes)
        best = None
        choice = self._choice or Choice(tree.best(len(self.slices.validation)))
        if not self.arguments.per_problem and (node := choice.node) is not None:
            validation = node_result(node)
            gap = None if heldout is None else validation["reward"] - heldout["reward"]
            finalists = [finalist_result(finalist) for finalist in choice.finalists]
            best = {"id": node.id, "validation": validation, "finalists": finalists, "heldout": heldout, "gap": gap}
        searches: list[Searched] = []
        if self.arguments.per_problem:
            searches, _ = self._by_problem(nodes)
        return {
            "search": self.output.name,
            "mode": "problem" if self.arguments.per_problem else "dataset",
            "rounds": max(node.round for node in nodes),
            "stopped": stopped,
            "best": best,
            "controls": controls,
            "pass_at_k": pass_at_k_by_round(searches),
            "pareto": pareto_of(tree),
            **totals(nodes),
            "seconds": round(seconds, 3),
            "seconds_by": self.seconds,
        }

    def _write(self, nodes: Sequence[Node], summary: dict[str, Any]) -> None:
        write_json(self.output / "summary.json", summary)
        problems = self.slices.validation
        write_trajectories(self.output, nodes, problems, self.proposer.style())
        if summary["best"] is not None:
            write_best(self.output, nodes[summary["best"]["id"]], self.check, self.arguments.aflow_dataset)
        if self.arguments.export_aflow is not None:
            write_aflow_folder(
                nodes,
                self.arguments.export_aflow,
                dataset=self.arguments.aflow_dataset,
                check=self.check,
                problems=len(problems),
                template=self.template,
            )
        self.shown(summary, self.output)
