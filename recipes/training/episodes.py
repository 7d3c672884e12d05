"""Episodes of the loop: which one is under way, what its steps train on, and how far it is."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from accelerate.utils import gather_object

from data.trajectories import Messages
from data.trajectory_sets import by_group, distinct, has_signal
from recipes.settings.search_loop import SearchLoopArguments
from recipes.training.episode_search import EpisodeSearch, Found
from recipes.training.experience import Caps, cap, naming_its_task, same_workflow
from recipes.training.off_policy import GivenRow, row_of_group
from recipes.training.trainer import WorkflowGRPOTrainer

# Of a group that has none: every workflow of a problem counts.
_NO_CAP = 1_000_000


class Episodes:
    """What a trainer's steps take: groups of workflows that an episode's searches found, all of them given.

    A group of fewer than K rows is filled up with rows that count for nothing; of one with more, each turn takes the
    next K.

    Args:
        trainer (`WorkflowGRPOTrainer`): takes them.
        search (`EpisodeSearch`): finds them.
        recipe (`SearchLoopArguments`): how many there are.

    Attributes:
        number (`int`): of the episode under way, from 0; -1 before the first one.
    """

    def __init__(self, trainer: WorkflowGRPOTrainer, search: EpisodeSearch, recipe: SearchLoopArguments) -> None:
        self.trainer, self.search, self.recipe = trainer, search, recipe
        self.number = -1
        self._position = 0
        self._order: list[tuple[str, int]] = []
        self._rows: dict[str, list[GivenRow]] = {}
        self._asked: dict[str, tuple[Messages, str]] = {}
        self._planned: list[GivenRow] = []

    @property
    def trained(self) -> bool:
        """Whether all that the episode has found was trained on, as often as it was to be."""
        return self._position >= len(self._order)

    @property
    def steps(self) -> tuple[int, int]:
        """Generations of this episode that were trained on, and all there are."""
        size = self._groups_at_once
        return self._position // size, len(self._order) // size

    def next(self) -> bool:
        """Search for episode after episode until one has something to learn from, and log each.

        Returns:
            `bool`: whether there was one.

        Raises:
            InfraError: a failure of ours, or the budget is spent.
        """
        while self.trained and self.number + 1 < self.recipe.all_episodes:
            found = self.search.run(self.number + 1)  # until it is over, a checkpoint is of the episode before
            self.number, self._position = self.number + 1, 0
            self._take(found)
            said = {"episode/number": self.number + 1, "episode/groups": len(self._rows), **found.metrics()}
            self.trainer.log(said)
        return not self.trained

    def _take(self, found: Found) -> None:
        """Make rows of what was found, and the order of their groups."""
        caps = Caps(self.recipe.trajectories_per_problem, _NO_CAP, "spread")
        groups = by_group(cap(distinct(found.trajectories, same_workflow), caps))
        if self.recipe.replay_task_line:
            groups = {name: [naming_its_task(row) for row in rows] for name, rows in groups.items()}
        problems = {(problem.source, problem.id): problem for problem in self.search.of(self.number).values()}
        self._rows, self._asked = {}, {}
        for name, group in groups.items():
            rows = [self.trainer.policy.given_row(row, row.prompt) for row in group]
            fits = [len(row.ids) <= self.trainer.args.max_completion_length for row in rows]
            if not has_signal([row for row, fit in zip(group, fits, strict=True) if fit]):
                continue
            more = {"episode": self.number + 1, "asked": group[0].form}
            self._rows[name] = [
                replace(row, record={**row.record, **more}) for row, fit in zip(rows, fits, strict=True) if fit
            ]
            self._asked[name] = (group[0].prompt, json.dumps(problems[group[0].key].to_row()))
        self._order = self._ordered()

    def _ordered(self) -> list[tuple[str, int]]:
        """Each group as often as there are GRPO epochs, shuffled in each; whole generations, filled up from another."""
        if not self._rows:
            return []
        size, wanted = self._groups_at_once, len(self._rows) * self.recipe.grpo_epochs
        rng, order, turn = random.Random(f"{self.trainer.args.seed} episode {self.number}"), list[tuple[str, int]](), 0
        while len(order) < wanted or len(order) % size:
            names = list(self._rows)
            rng.shuffle(names)
            order += [(name, turn) for name in names]
            turn += 1
            if len(order) >= wanted:
                order = order[: -(-wanted // size) * size]
        return order

    @property
    def _groups_at_once(self) -> int:
        args = self.trainer.args
        groups: int = args.generation_batch_size // args.num_generations
        return max(1, groups)

    # What the trainer asks

    def inputs(self, count: int) -> list[dict[str, Any]]:
        """Return this process's dataset rows of the next generation.

        Args:
            count (`int`): of them.
        """
        accelerator, size = self.trainer.accelerator, self.trainer.num_generations
        groups = self._order[self._position :][: count * accelerator.num_processes // size]
        self._position += len(groups)
        first = accelerator.process_index * count
        rows = [(name, self._row(name, turn, place)) for name, turn in groups for place in range(size)]
        mine = rows[first : first + count]
        self._planned = [row for _, row in mine]
        asked = (self._asked[name] for name, _ in mine)
        return [{"prompt": list(map(dict, prompt)), "problem": problem} for prompt, problem in asked]

    def _row(self, name: str, turn: int, place: int) -> GivenRow:
        return row_of_group(self._rows[name], self.trainer.num_generations, turn, place)

    def plan(self, inputs: Sequence[Mapping[str, Any]]) -> None:
        """Give the rows that `inputs` has chosen."""
        self.trainer.given_rows = self._planned

    def weigh(self, given: list[list[float | None]], workflow: int) -> dict[int, float]:
        """Make the known rewards the rows' rewards."""
        rewards = gather_object([row.record["reward"] for row in self._planned])
        for row, reward in zip(given, rewards, strict=True):
            row[workflow] = reward
        return {}

    def finish(self, output: dict[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """Leave the rows out that fill a group up."""
        self.trainer.mark_given_rows(output, [row.record["reward"] is None for row in self._planned])

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as JSON."""
        return {"episode": self.number, "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as it was at a checkpoint; what the episode found is read from its folder."""
        self.number = state["episode"]
        self._order, self._rows = [], {}
        if self.number >= 0:
            self._take(self.search.found(self.number))
        self._position = state["position"]
