"""The searches of an episode: for each of its problems one by itself, with the policy as it is as proposer.

They go round by round together, so that what the policy is asked in a round is one batch, and equal policies find equal
workflows. What they found is `search/episode-NN/` of the run, a folder like those of `scripts/search.py`, which is
written when all are over: a run that is killed meanwhile searches again, with the executor's replies from its cache.
"""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from accelerate.utils import broadcast_object_list, gather_object

from aflow_ops.concurrency import gather_or_cancel
from aflow_ops.errors import UsageError, WorkflowError
from aflow_ops.search.expand import Proposer, as_completion, is_double
from aflow_ops.search.grammar import GrammarProposer
from aflow_ops.search.kinds import checker, kinds_of, root_workflow
from aflow_ops.search.llm import ModelProposer
from aflow_ops.search.loop import Root, Search, SearchSettings
from aflow_ops.search.node import Node, Spend
from aflow_ops.search.prompting import DesignPrompting, EditPrompting
from aflow_ops.search.trajectories import trajectory_rows, write_rows
from aflow_ops.search.tree import Tree
from aflow_ops.search.turns import TakingTurns
from data.files import write_atomically
from data.problem import Problem
from data.trajectories import Trajectory
from recipes.policy.local import LocalPolicy
from recipes.run.bars import Bar
from recipes.settings.search_loop import SearchLoopArguments
from recipes.training.heldout import policy_for_generation
from recipes.training.trainer import WorkflowGRPOTrainer
from rewards.searching.evaluation import Evaluation
from rewards.searching.per_problem import Searched, one_problem, pass_at_k_by_round, renumbered

FOLDER = "search"
# Of an episode's folder: what its training is made from, and what says that the folder is whole.
NODES, SETTINGS = "nodes.jsonl", "settings.json"
_REMEDY = "lower --max_completion_length, or leave 'edit' out of --proposers"


@dataclass(frozen=True)
class Found:
    """What the searches of an episode found.

    Args:
        searches (`tuple[Searched, ...]`): one for each problem, in order.
        trajectories (`tuple[Trajectory, ...]`): their training rows.
    """

    searches: tuple[Searched, ...]
    trajectories: tuple[Trajectory, ...]

    @property
    def proposals(self) -> list[Node]:
        """All proposals of all problems."""
        return [node for searched in self.searches for node in searched.nodes if node.round > 0]

    def metrics(self) -> dict[str, float]:
        """Return what is logged of the episode.

        `episode/reward` and `/correct` are means over proposals, a refused one 0; `/best_reward` the mean over problems
        of the best workflow; `/valid` the share of the policy's replies that are workflows; `/pass@k` as a search's.
        """
        nodes = self.proposals
        scores = [node.validation for node in nodes]
        replies = [attempt for node in nodes for attempt in node.attempts]
        best = [max((_reward(node) for node in searched.nodes), default=0.0) for searched in self.searches]
        valid = [attempt.error is None or is_double(attempt.error) for attempt in replies]
        by_round = pass_at_k_by_round(self.searches)
        pass_at_k = list(by_round.values())[-1] if by_round else {}
        return {
            "episode/reward": fmean([_reward(node) for node in nodes] or [0.0]),
            "episode/correct": fmean([0.0 if score is None else score.correct for score in scores] or [0.0]),
            "episode/best_reward": fmean(best),
            "episode/valid": fmean(valid or [node.status != "rejected" for node in nodes] or [0.0]),
            "episode/executor_tokens": sum(node.tokens.executor for s in self.searches for node in s.nodes),
            **{f"episode/pass@{k}": value["mean"] for k, value in pass_at_k.items()},
        }


def _reward(node: Node) -> float:
    return 0.0 if node.validation is None else node.validation.reward


class EpisodeSearch:
    """Searches for the problems of an episode, or reads what was found.

    Args:
        trainer (`WorkflowGRPOTrainer`): whose policy proposes and whose executor answers.
        recipe (`SearchLoopArguments`): how it is searched.
        problems (`Sequence[Problem]`): of an epoch, in order.
    """

    def __init__(self, trainer: WorkflowGRPOTrainer, recipe: SearchLoopArguments, problems: Sequence[Problem]) -> None:
        self.trainer, self.recipe = trainer, recipe
        self.problems = [{_key(problem): problem for problem in part} for part in _parts(problems, recipe)]
        self._found: dict[int, Found] = {}

    def folder(self, number: int) -> Path:
        """Return the folder of an episode, the first one's number being 0."""
        return self.trainer.run_dir / FOLDER / f"episode-{number + 1:02d}"

    def of(self, number: int) -> dict[str, Problem]:
        """Return an episode's problems, by the search's id."""
        return self.problems[number % len(self.problems)]

    def run(self, number: int) -> Found:
        """Search, unless what the very same policy found is there.

        Raises:
            InfraError: a failure of ours, or the budget is spent.
        """
        facts = self._facts()
        if not self._agreed(self._is_there(number, facts)):
            nodes = self._search(number)
            if self.trainer.accelerator.is_main_process:
                self._write(number, nodes, facts)
            self.trainer.accelerator.wait_for_everyone()
        self._found.pop(number, None)
        return self.found(number)

    def found(self, number: int) -> Found:
        """Return what an episode found, as its folder has it.

        Raises:
            UsageError: the folder is not whole.
        """
        if number not in self._found:
            (read,) = broadcast_object_list([self._read(number) if self.trainer.accelerator.is_main_process else None])
            self._found[number] = self._made(number, read)
        return self._found[number]

    # Files

    def _facts(self) -> dict[str, Any]:
        """What decides what is found: the settings, and the policy by the digest of what it has learned."""
        names = (
            "search_iterations", "search_rounds", "search_sample", "search_selection", "proposers", "runs_per_workflow",
        )  # fmt: skip
        digest = hashlib.blake2b(digest_size=16)
        for name, parameter in self.trainer.model.named_parameters():
            if parameter.requires_grad:
                digest.update(name.encode())
                digest.update(parameter.detach().float().cpu().numpy().tobytes())
        settings = {name: getattr(self.recipe, name) for name in names}
        return {**settings, "step": self.trainer.state.global_step, "policy": digest.hexdigest()}

    def _agreed(self, value: bool) -> bool:
        (agreed,) = broadcast_object_list([value])
        return bool(agreed)

    def _is_there(self, number: int, facts: Mapping[str, Any]) -> bool:
        try:
            before = json.loads((self.folder(number) / SETTINGS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return {name: before.get(name) for name in facts} == facts and list(before["problems"]) == list(self.of(number))

    def _write(self, number: int, found: Mapping[str, Sequence[Node]], facts: Mapping[str, Any]) -> None:
        folder = self.folder(number)
        (folder / SETTINGS).unlink(missing_ok=True)
        nodes: list[Node] = []
        for key, own in found.items():
            nodes += renumbered(Searched(key, tuple(own)), len(nodes))
        with write_atomically(folder / NODES) as file:
            file.writelines(json.dumps(node.to_row(), ensure_ascii=False) + "\n" for node in nodes)
        made = self._made(number, [(key, list(own)) for key, own in found.items()])
        write_rows(folder, [row.to_row() for row in made.trajectories])
        _write_json(folder / "summary.json", self._summary(folder, made, nodes))
        _write_json(folder / SETTINGS, {**facts, "problems": {key: len(own) for key, own in found.items()}})

    def _summary(self, folder: Path, made: Found, nodes: Sequence[Node]) -> dict[str, Any]:
        return {
            "search": folder.name,
            "mode": "problem",
            "rounds": self.recipe.search_iterations,
            "stopped": "rounds",
            "best": None,
            "controls": {},
            "pass_at_k": pass_at_k_by_round(made.searches),
            "pareto": [list(point) for point in Tree(nodes).pareto()],
            "cost_usd": vars(sum((node.cost_usd for node in nodes), Spend())),
            "tokens": vars(sum((node.tokens for node in nodes), Spend())),
            "metrics": made.metrics(),
        }

    def _read(self, number: int) -> list[tuple[str, list[Node]]]:
        """Read the nodes of each problem, with ids of its own."""
        folder = self.folder(number)
        try:
            counts = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))["problems"]
            lines = (folder / NODES).read_text(encoding="utf-8").splitlines()
            nodes = [Node.from_row(json.loads(line)) for line in lines]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{folder} cannot be read ({type(error).__name__}); go on from an earlier checkpoint"
            ) from None
        found, first = [], 0
        for key, count in counts.items():
            found.append((key, renumbered(Searched(key, tuple(nodes[first : first + count])), -first)))
            first += count
        return found

    def _made(self, number: int, found: Sequence[tuple[str, list[Node]]]) -> Found:
        rows = []
        for key, nodes in found:
            problem = {key: self.of(number)[key]}
            rows += trajectory_rows(nodes, problem, self.recipe.prompt_style)
        searches = tuple(Searched(key, tuple(nodes)) for key, nodes in found)
        return Found(searches, tuple(Trajectory.from_row(row) for row in rows))

    # The search

    def _search(self, number: int) -> dict[str, list[Node]]:
        """Search for this process's share of the problems; return the nodes of all, in the problems' order."""
        accelerator = self.trainer.accelerator
        for earlier in range(number):  # all processes meet to read it, also those without a problem of their own
            self.found(earlier)
        mine = list(self.of(number))[accelerator.process_index :: accelerator.num_processes]
        label = f"episode {number + 1}/{self.recipe.all_episodes}: search"
        total = len(mine) * self.recipe.search_iterations
        with (
            policy_for_generation(self.trainer) as model,
            Bar(label, total, visible=accelerator.is_main_process) as bar,
        ):
            found = self.trainer.run_async(self._searches(number, mine, model, bar))
        together = dict(gather_object([(key, nodes) for key, nodes in found.items()]))
        return {key: together[key] for key in self.of(number)}

    async def _searches(self, number: int, keys: Sequence[str], model: Any, bar: Bar) -> dict[str, list[Node]]:
        args = self.trainer.args
        policy = LocalPolicy(
            model,
            self.trainer.processing_class,
            args.seed + number,
            top_p=args.top_p,
            top_k=args.top_k,
            chat_template_kwargs=self.trainer.chat_template_kwargs,
            remedy=_REMEDY,
        )
        searches = {key: self._one(key, self.of(number)[key], number, policy) for key in keys}
        roots = {key: self._roots(key, self.of(number)[key], number) for key in keys}
        alive = dict(searches)
        for done in range(0, self.recipe.search_iterations + 1, self.recipe.at_once):
            for search in alive.values():
                search.settings = replace(search.settings, rounds=done)
            ends = await gather_or_cancel(_went_on(search, roots[key]) for key, search in alive.items())
            alive = {key: search for (key, search), end in zip(alive.items(), ends, strict=True) if end is None}
            for end in filter(None, ends):
                print(f"warning: {end}", file=sys.stderr)
            bar.update(len(keys) * done)
        return {key: search.nodes for key, search in searches.items()}

    def _one(self, key: str, problem: Problem, number: int, policy: LocalPolicy) -> Search:
        recipe, scorer = self.recipe, self.trainer.scorer
        settings = SearchSettings(
            parallel=recipe.at_once,
            selection=recipe.search_selection,
            sample=recipe.search_sample,
            seed=_seed(self.trainer.args.seed, number, key),
        )
        proposer = TakingTurns(
            [self._proposer(name, key, problem, policy) for name in recipe.proposers], recipe.at_once
        )
        evaluation = Evaluation(scorer, {key: problem}, scorer.runtime.executor.price)
        rungs = one_problem(key, recipe.runs_per_workflow)
        return Search(settings, proposer, checker(kinds_of([problem])), evaluation, {key: problem.view}, rungs)

    def _proposer(self, name: str, key: str, problem: Problem, policy: LocalPolicy) -> Proposer:
        kinds = kinds_of([problem])
        if name == "grammar":
            return GrammarProposer(kinds, policy.seed, {key: problem.view.text})
        design = DesignPrompting({key: problem.view}, self.recipe.prompt_style)
        return ModelProposer(
            policy,
            EditPrompting(kinds) if name == "edit" else design,
            temperature=self.trainer.current_temperature(),
            max_tokens=self.trainer.args.max_completion_length,
            origin="policy",
            policy={"model": self.trainer.policy.name, "adapter": None, "step": self.trainer.state.global_step},
        )

    def _roots(self, key: str, problem: Problem, number: int) -> list[Root]:
        """The first workflow, and the best ones that earlier episodes found for the problem."""
        found: dict[str, tuple[float, int]] = {}
        for earlier in range(number):
            for searched in self.found(earlier).searches if key in self.of(earlier) else ():
                for node in searched.nodes if searched.problem == key else ():
                    if node.status == "ok" and node.parent is not None:
                        found.setdefault(as_completion(node.workflow, node.prompts), (_reward(node), earlier))
        best = sorted(found.items(), key=lambda item: -item[1][0])[: self.recipe.search_sample - 1]
        return [
            Root(root_workflow(kinds_of([problem]))),
            *(Root(text, "import", f"found in episode {earlier + 1}") for text, (_, earlier) in best),
        ]


async def _went_on(search: Search, roots: Sequence[Root]) -> str | None:
    """Go on with a search; returns why there is nothing to search from."""
    try:
        await search.run(roots)
    except WorkflowError as error:
        return f"{', '.join(search.problems)} is left out: {error}"
    return None


def _parts(problems: Sequence[Problem], recipe: SearchLoopArguments) -> list[Sequence[Problem]]:
    size = recipe.problems_per_episode
    return [problems[start : start + size] for start in range(0, recipe.episodes * size, size)]


def _key(problem: Problem) -> str:
    return f"{problem.source}/{problem.id}"


def _seed(seed: int, number: int, key: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {number} {key}".encode()).digest()[:4], "big")


def _write_json(path: Path, value: Any) -> None:
    with write_atomically(path) as file:
        file.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
