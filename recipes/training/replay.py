"""What is replayed when: trajectories of the run's own training problems, where they still have something to teach.

Problems near half solved come first and solved ones get nothing (ExGRPO, arXiv:2510.02245). Every process comes to the
same plan, for it depends on what all have seen.
"""

import math
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from transformers import PreTrainedTokenizerBase

from aflow_ops.errors import UsageError
from data.problem import Problem
from data.trajectories import Messages, Trajectory
from data.trajectory_sets import SAME_REWARD, by_problem, simplest_first, standings
from recipes.settings.arguments import RecipeArguments
from recipes.training.experience import load_trajectories, prompt_for, same_workflow
from recipes.training.off_policy import GivenRow, completion_tokens

Key = tuple[str, str]
# The success rate that replay waits for is the mean of so many steps.
START_STEPS = 3


@dataclass(frozen=True)
class Policy:
    """Whose trajectories are own, and how others are read.

    Args:
        name (`str`): of the base model.
        tokenizer (`PreTrainedTokenizerBase`): its.
        eos_ids (`Sequence[int]`): tokens that end a completion.
        max_tokens (`int`): longest completion.
    """

    name: str
    tokenizer: PreTrainedTokenizerBase
    eos_ids: Sequence[int]
    max_tokens: int

    def given_row(self, trajectory: Trajectory, prompt: Messages) -> GivenRow:
        """Return a trajectory as a row of this policy: own if it wrote it under this very prompt."""
        ids = trajectory.completion_ids or ()
        wrote = trajectory.policy is not None and trajectory.policy.get("model") == self.name
        own = (
            wrote and trajectory.logprobs is not None and trajectory.prompt == prompt and max(ids) < len(self.tokenizer)
        )
        record = {
            "kind": "own" if own else "foreign",
            "reward": trajectory.reward,
            "correct": trajectory.correct,
            "outcome": trajectory.outcome,
            "origin": trajectory.origin,
            "node": trajectory.node,
        }
        if own:
            return GivenRow(ids, trajectory.logprobs, record)
        return GivenRow(completion_tokens(self.tokenizer, trajectory.completion, self.eos_ids), None, record)


class Replay:
    """Plans each step's replayed rows.

    Args:
        rows (`Mapping[Key, Sequence[GivenRow]]`): of each problem, those that are replayed, best first.
        group_size (`int`): K.
        per_group (`int`): rows of a group that are replayed at most, below K.
        share (`float`): largest share of a step's groups.
        start (`float`): success rate from which on there is replay.
    """

    def __init__(
        self, rows: Mapping[Key, Sequence[GivenRow]], *, group_size: int, per_group: int, share: float, start: float
    ) -> None:
        self.rows, self.group_size, self.per_group = rows, group_size, per_group
        self.share, self.start = share, start
        self.started = start <= 0
        self._rates: dict[Key, float] = {}
        self._recent: deque[float] = deque(maxlen=START_STEPS)

    def plan(self, keys: Sequence[Key]) -> list[GivenRow | None]:
        """Return a given row, or `None` for one to sample, for each row of a generation over all processes.

        Args:
            keys (`Sequence[Key]`): problem of each row, `group_size` consecutive ones a group.
        """
        planned: list[GivenRow | None] = [None] * len(keys)
        if not self.started:
            return planned
        firsts = range(0, len(keys), self.group_size)
        open_groups = [first for first in firsts if self.rows.get(keys[first]) and self._rates.get(keys[first]) != 1.0]
        open_groups.sort(key=lambda first: abs(self._rates.get(keys[first], 0.5) - 0.5))
        for first in open_groups[: math.ceil(self.share * len(firsts))]:
            for offset, row in enumerate(self.rows[keys[first]][: self.per_group]):
                planned[first + self.group_size - 1 - offset] = row
        return planned

    def seen(self, keys: Sequence[Key], correct: Sequence[bool | None]) -> None:
        """Take what the sampled rows of a step came to.

        Args:
            keys (`Sequence[Key]`): problem of each row, over all processes.
            correct (`Sequence[bool | None]`): whether it was right; `None` for a replayed or ungraded row.
        """
        by_key: dict[Key, list[bool]] = {}
        for key, right in zip(keys, correct, strict=True):
            if right is not None:
                by_key.setdefault(key, []).append(right)
        self._rates |= {key: fmean(values) for key, values in by_key.items()}
        everything = [right for values in by_key.values() for right in values]
        if everything:
            self._recent.append(fmean(everything))
            self.started = self.started or fmean(self._recent) >= self.start

    @property
    def solved(self) -> int:
        """Problems with rows whose latest group was all right: they get none."""
        return sum(self._rates.get(key) == 1.0 for key in self.rows)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it, as JSON."""
        return {
            "started": self.started,
            "recent": list(self._recent),
            "rates": [[*key, rate] for key, rate in self._rates.items()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as it was at a checkpoint.

        Args:
            state (`Mapping[str, Any]`): from `state_dict`.
        """
        self.started = state["started"]
        self._recent = deque(state["recent"], maxlen=START_STEPS)
        self._rates = {(source, id): rate for source, id, rate in state["rates"]}


def open_replay(recipe: RecipeArguments, problems: Sequence[Problem], policy: Policy, group_size: int) -> Replay | None:
    """Return what a run replays; `None` when it was not asked to.

    Of each training problem so many designs are kept as a group has place for: those that earned most on it, the
    simplest first (`simplest_first`).

    Args:
        recipe (`RecipeArguments`): its replay flags and prompt style.
        problems (`Sequence[Problem]`): the run's training problems.
        policy (`Policy`): the run's.
        group_size (`int`): K.

    Raises:
        UsageError: K leaves nothing to sample, or no trajectory is of a training problem.
        DataError: a file cannot be read, or has held-out problems.
    """
    if not recipe.replay:
        return None
    if recipe.replay_per_group >= group_size:
        raise UsageError(
            f"replay_per_group={recipe.replay_per_group} must be below num_generations={group_size}: the baseline is "
            "what the policy samples itself"
        )
    trajectories = load_trajectories(
        recipe.replay, problems=problems, style=recipe.prompt_style, task_line=recipe.replay_task_line
    )
    known = {(problem.source, problem.id): problem for problem in problems}
    known_designs = standings((row for row in trajectories if row.form == "design"), same_workflow)
    rows: dict[Key, list[GivenRow]] = {}
    for key, group in by_problem(row for row in trajectories if _usable(row, known)).items():
        best, prompt = max(row.reward for row in group), prompt_for(known[key].view, recipe.prompt_style)
        equal = [row for row in group if best - row.reward < SAME_REWARD]
        found = [policy.given_row(row, prompt) for row in simplest_first(equal, known_designs, same_workflow)]
        if fitting := [row for row in found if len(row.ids) <= policy.max_tokens]:
            rows[key] = fitting[: recipe.replay_per_group]
    if not rows:
        raise UsageError(
            f"--replay {' '.join(recipe.replay)}: none of its {len(trajectories)} trajectories is a design that earned "
            "something on one of the training problems and fits max_completion_length; use the same --sources and "
            "--seed"
        )
    print(
        f"replay: {sum(map(len, rows.values()))} rows of {len(rows)} of the {len(known)} training problems",
        file=sys.stderr,
    )
    return Replay(
        rows,
        group_size=group_size,
        per_group=recipe.replay_per_group,
        share=recipe.replay_share,
        start=recipe.replay_start,
    )


def _usable(row: Trajectory, known: Mapping[Key, Problem]) -> bool:
    """Whether it is a design for a training problem, by its text too, that ran and earned something."""
    problem = known.get(row.key)
    if problem is None or row.form != "design" or row.outcome != "ok" or row.reward <= SAME_REWARD:
        return False
    return row.asked in (problem.view.text, problem.question)
