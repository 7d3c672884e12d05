"""`OfflineGRPOTrainer`: GRPO on groups of trajectories. Nothing is sampled and nothing is executed.

A group is what one problem's prompt has in the file, with the rewards it got there (SPOGW, arXiv:2510.04089). The
policy sees prompt and workflow, the loss falls on the workflow's tokens, advantages are relative to the group. Own rows
have their ratio to the log-probabilities in the file, clipped; foreign ones are shaped (`off_policy.py`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel

from aflow_ops.errors import UsageError
from data.trajectories import Trajectory
from data.trajectory_sets import has_signal
from recipes.settings.arguments import WorkflowGRPOConfig
from recipes.training.lifecycle import ResumableGRPOTrainer
from recipes.training.off_policy import GivenRow, row_of_group
from recipes.training.replay import Policy


def stored(completions: Sequence[Any], replayed: Sequence[Mapping[str, Any]], **_: Any) -> list[float | None]:
    """Return the rewards of the file; `None` for a row that only fills its group up."""
    return [row["reward"] for row in replayed]


class OfflineGRPOTrainer(ResumableGRPOTrainer):
    """GRPO on given groups.

    A group of fewer than K rows is filled up with rows that count for nothing; of one with more, each epoch takes the
    next K. Fewer groups than a generation has are repeated, all as often: TRL would train on none of them. Rows longer
    than `max_completion_length` are left out, and groups that are without a signal then.

    Args:
        model (`PreTrainedModel` or `str`): the policy.
        args (`WorkflowGRPOConfig`): training values; `num_generations` is K.
        groups (`Mapping[str, Sequence[Trajectory]]`): at least one; rows of a group share its prompt.
        policy_name (`str`): base model whose own rows are own.
        shaping (`float`): gamma of foreign rows.
        kl_where_positive (`bool`): the KL term counts where the advantage is positive only.
        kwargs: as for `ResumableGRPOTrainer`.

    Attributes:
        too_long (`int`): rows that were left out.

    Raises:
        UsageError: no group is left.
    """

    def __init__(
        self,
        model: PreTrainedModel | str,
        args: WorkflowGRPOConfig,
        groups: Mapping[str, Sequence[Trajectory]],
        *,
        policy_name: str,
        shaping: float,
        kl_where_positive: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            reward_funcs=[stored],
            train_dataset=_dataset(groups, list(groups)),
            collapse_patience=0,
            rollouts_part_mb=1.0,
            **kwargs,
        )
        self.shaping, self.kl_where_positive = shaping, kl_where_positive
        policy = Policy(policy_name, self.processing_class, self.eos_token_ids, args.max_completion_length)
        self._groups = {name: [policy.given_row(row, rows[0].prompt) for row in rows] for name, rows in groups.items()}
        self.too_long = self._leave_out_long_rows(groups)
        at_once = self.args.generation_batch_size // self.num_generations
        names = list(self._groups) * max(1, math.ceil(at_once / len(self._groups)))
        self.train_dataset, self.kinds = _dataset(groups, names), [groups[name][0].domain for name in names]
        self.take_given_rows(all_given=True)

    def _leave_out_long_rows(self, groups: Mapping[str, Sequence[Trajectory]]) -> int:
        """Keep the rows that fit, of groups that had a signal and still have one; returns how many do not fit."""
        longest, too_long = self.args.max_completion_length, 0
        for name, rows in list(self._groups.items()):
            fits = [len(row.ids) <= longest for row in rows]
            too_long += fits.count(False)
            if all(fits):
                continue
            self._groups[name] = [row for row, fit in zip(rows, fits, strict=True) if fit]
            if not has_signal([row for row, fit in zip(groups[name], fits, strict=True) if fit]):
                del self._groups[name]
        if not self._groups:
            raise UsageError(
                f"max_completion_length={longest}: of what is shorter, no problem has two workflows that earned "
                "differently; raise it"
            )
        return too_long

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        first = self.accelerator.process_index * len(inputs)
        places = [(first + index) % self.num_generations for index in range(len(inputs))]
        self.given_rows = [self._row(row["group"], place) for row, place in zip(inputs, places, strict=True)]
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        self.mark_given_rows(output, [row is not None and row.record["reward"] is None for row in self.given_rows])
        return output

    def _row(self, group: str, place: int) -> GivenRow:
        return row_of_group(self._groups[group], self.num_generations, int(self.state.epoch or 0), place)


def _dataset(groups: Mapping[str, Sequence[Trajectory]], names: Sequence[str]) -> Dataset:
    """Return a row for each group that is named, with its prompt."""
    return Dataset.from_dict({"prompt": [list(groups[name][0].prompt) for name in names], "group": list(names)})
