"""Replay in the steps of a trainer: planned before a generation, weighed with its rewards, finished after it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from accelerate.utils import gather_object

from recipes.training.off_policy import GivenRow, OffPolicyGRPOTrainer
from recipes.training.replay import Key, Replay
from rewards.columns import Row
from rewards.replay import replayed_advantages


class GivenSteps(Protocol):
    """What a trainer asks whoever gives it rows that it does not sample."""

    def plan(self, inputs: Sequence[Mapping[str, Any]]) -> None:
        """Set the trainer's `given_rows`, from this process's dataset rows, whole groups over all processes."""
        ...

    def weigh(self, given: list[list[float | None]], workflow: int) -> dict[int, float]:
        """Bring known rewards in; return advantages that TRL does not see as rewards, by number of the row."""
        ...

    def finish(self, output: dict[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """Call `mark_given_rows`; take what the rows of all processes came to."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as JSON."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as it was at a checkpoint."""
        ...


class ReplayedSteps:
    """What a trainer with replay does beside sampling.

    Args:
        trainer (`OffPolicyGRPOTrainer`): with the workflow reward among its own.
        replay (`Replay`): what is replayed when.
        baseline (`str`): `on_policy`, or `all` for a group's mean over replayed rows too.
    """

    def __init__(self, trainer: OffPolicyGRPOTrainer, replay: Replay, baseline: str) -> None:
        self.trainer, self.replay, self.baseline = trainer, replay, baseline
        self._keys: list[Key] = []
        self._planned: list[GivenRow | None] = []
        trainer.take_given_rows()

    def plan(self, inputs: Sequence[Mapping[str, Any]]) -> None:
        """Choose which rows of a generation are replayed, over all processes.

        Args:
            inputs (`Sequence[Mapping]`): this process's dataset rows, `num_generations` consecutive ones a group.
        """
        problems = [json.loads(row["problem"]) for row in inputs]
        self._keys = gather_object([(problem["source"], problem["id"]) for problem in problems])
        self._planned = self.replay.plan(self._keys)
        first = self.trainer.accelerator.process_index * len(inputs)
        self.trainer.given_rows = self._planned[first : first + len(inputs)]

    def weigh(self, given: list[list[float | None]], workflow: int) -> dict[int, float]:
        """Bring the known rewards in: as rewards, or as advantages against what was sampled.

        Args:
            given (`list[list[float | None]]`): rewards of all processes' rows, `None` of the workflow's for replayed
                ones; changed where the baseline is over all rows.
            workflow (`int`): position of the workflow reward.

        Returns:
            `dict[int, float]`: the advantages of replayed rows that TRL does not see as rewards, by number.
        """
        known = {index: row.record["reward"] for index, row in enumerate(self._planned) if row is not None}
        if self.baseline == "all":
            for index, reward in known.items():
                given[index][workflow] = reward
            return {}
        rows: Sequence[Row] = given
        weights, args = self.trainer.reward_weights.tolist(), self.trainer.args
        return replayed_advantages(rows, known, weights, workflow, args.num_generations, args.scale_rewards)

    def finish(self, output: dict[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """Leave replayed rows out that are no better than what was sampled; remember how the sampled ones did.

        Args:
            output (`dict`): of the generation, with its final advantages.
            rows (`Sequence[Mapping]`): what `rollouts.jsonl` has of all processes' rows.
        """
        trainer, advantages = self.trainer, output["advantages"]
        given = [row is not None for row in trainer.given_rows]
        left_out = [given[index] and value <= 0 for index, value in enumerate(advantages.tolist())]
        advantages[advantages.new_tensor(left_out).bool()] = 0.0
        trainer.mark_given_rows(output, left_out)
        self.replay.seen(self._keys, [None if row.get("replay") else row["correct"] for row in rows])
        replayed, dropped = sum(row is not None for row in self._planned), sum(gather_object(left_out))
        metrics, count = trainer._metrics["train"], len(self._planned)
        metrics["replay/share"].append((replayed - dropped) / count)
        metrics["replay/dropped"].append(dropped / count)
        metrics["replay/solved"].append(self.replay.solved)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as JSON."""
        return self.replay.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as it was at a checkpoint."""
        self.replay.load_state_dict(state)
