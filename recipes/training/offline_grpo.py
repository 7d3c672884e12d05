"""`OfflineGRPOTrainer`: GRPO on groups of trajectories. Nothing is sampled and nothing is executed.

A group is what one problem's prompt has in the file, with the rewards it got there (SPOGW, arXiv:2510.04089). The
policy sees prompt and workflow, the loss falls on the workflow's tokens, advantages are relative to the group. Own rows
have their ratio to the log-probabilities in the file, clipped; foreign ones are shaped (`off_policy.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel

from data.trajectories import Trajectory
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
    next K.

    Args:
        model (`PreTrainedModel` or `str`): the policy.
        args (`WorkflowGRPOConfig`): training values; `num_generations` is K.
        groups (`Mapping[str, Sequence[Trajectory]]`): at least one; rows of a group share its prompt.
        policy_name (`str`): base model whose own rows are own.
        shaping (`float`): gamma of foreign rows.
        kl_where_positive (`bool`): the KL term counts where the advantage is positive only.
        kwargs: as for `ResumableGRPOTrainer`.
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
        prompts = {name: rows[0].prompt for name, rows in groups.items()}
        super().__init__(
            model=model,
            args=args,
            reward_funcs=[stored],
            train_dataset=Dataset.from_dict({"prompt": list(map(list, prompts.values())), "group": list(groups)}),
            collapse_patience=0,
            rollouts_part_mb=1.0,
            **kwargs,
        )
        self.kinds = [rows[0].domain for rows in groups.values()]
        self.shaping, self.kl_where_positive = shaping, kl_where_positive
        policy = Policy(policy_name, self.processing_class, self.eos_token_ids, args.max_completion_length)
        self._groups = {name: [policy.given_row(row, prompts[name]) for row in rows] for name, rows in groups.items()}
        self.take_given_rows(all_given=True)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        first = self.accelerator.process_index * len(inputs)
        places = [(first + index) % self.num_generations for index in range(len(inputs))]
        self.given_rows = [self._row(row["group"], place) for row, place in zip(inputs, places, strict=True)]
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        self.mark_given_rows(output, [row is not None and row.record["reward"] is None for row in self.given_rows])
        return output

    def _row(self, group: str, place: int) -> GivenRow:
        return row_of_group(self._groups[group], self.num_generations, int(self.state.epoch or 0), place)
