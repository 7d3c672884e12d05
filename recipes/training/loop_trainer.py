"""`SearchLoopTrainer`: search and GRPO in turns, in one training run.

Every row that it trains on is given (`off_policy.py`): a workflow that a search with this very policy as proposer found
in the episode. The searches run between the steps: before the first one, and when an episode has been trained on and
its checkpoint is written.
"""

import copy
import shutil
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, TrainerCallback, TrainerControl

from aflow_ops.executor import ExecutorConfig
from data.problem import Problem
from recipes.run.bars import Bar
from recipes.run.checkpoints import Checkpoint
from recipes.run.progress import quiet
from recipes.settings.arguments import WorkflowGRPOConfig
from recipes.settings.search_loop import SearchLoopArguments
from recipes.training.episode_search import FOLDER, NODES, SETTINGS, EpisodeSearch
from recipes.training.episodes import Episodes
from recipes.training.experience import workflow_of
from recipes.training.trainer import WorkflowGRPOTrainer

# The episodes decide when it ends.
NO_END = 10**9
# TRL's dataset only lends its rhythm: an epoch of it has so many generations.
GENERATIONS = 64


class SearchLoopTrainer(WorkflowGRPOTrainer):
    """GRPO on what searches with the policy itself find, episode after episode.

    Args:
        model, args, executor, start, kwargs: as for `WorkflowGRPOTrainer`.
        recipe (`SearchLoopArguments`): of the loop.
        problems (`Sequence[Problem]`): of an epoch, in order.
    """

    def __init__(
        self,
        model: PreTrainedModel | str,
        args: WorkflowGRPOConfig,
        recipe: SearchLoopArguments,
        executor: ExecutorConfig,
        problems: Sequence[Problem],
        start: Checkpoint | None = None,
        **kwargs: Any,
    ) -> None:
        args = copy.copy(args)
        args.max_steps = NO_END
        groups = max(1, args.generation_batch_size // args.num_generations)
        rows = list(islice(cycle(problems), groups * GENERATIONS))
        super().__init__(model=model, args=args, recipe=recipe, executor=executor, problems=rows, start=start, **kwargs)
        self.kl_where_positive = recipe.kl_where_positive
        self.search = EpisodeSearch(self, recipe, problems)
        self.replayed = self.episodes = Episodes(self, self.search, recipe)
        self.take_given_rows(all_given=True)
        self.add_callback(_Episode(self))
        quiet(self)  # each episode has a bar of its own
        if start is None and self.accelerator.is_main_process:
            shutil.rmtree(self.run_dir / FOLDER, ignore_errors=True)

    def start_from(self, checkpoint: Checkpoint | None) -> None:
        """Go on from a checkpoint with the next `train()`, with what had been found by then."""
        if checkpoint is not None and self.accelerator.is_main_process:
            for folder in sorted((checkpoint.path / FOLDER).glob("*")):
                target = self.run_dir / FOLDER / folder.name
                if not (target / SETTINGS).is_file():
                    shutil.copytree(folder, target, dirs_exist_ok=True)
        self.accelerator.wait_for_everyone()
        super().start_from(checkpoint)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        return super()._generate_and_score_completions(self.episodes.inputs(len(inputs)))

    def _write_rollouts(self, advantages: list[float]) -> None:
        rows = [pair for pair in zip(self._rollout_rows, advantages, strict=True) if pair[0]["reward"] is not None]
        # Without those that fill groups up; what a search ran is not run again, but is a workflow or is none.
        self._rollout_rows = [row | _workflow_parts(row) for row, _ in rows]
        super()._write_rollouts([advantage for _, advantage in rows])

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        target = Path(output_dir or self.run_dir)
        if self.args.should_save and target.name.startswith("checkpoint-"):
            for number in range(self.episodes.number + 1):
                folder = self.search.folder(number)
                (target / FOLDER / folder.name).mkdir(parents=True, exist_ok=True)
                for name in (NODES, SETTINGS):
                    shutil.copyfile(folder / name, target / FOLDER / folder.name / name)


def _workflow_parts(row: dict[str, Any]) -> dict[str, Any]:
    workflow = workflow_of(row["completion"], row["domain"])
    return {} if workflow is None else {"workflow": workflow.text, "form": workflow.form}


class _Episode(TrainerCallback):
    """Ends an episode with a log and a checkpoint, and begins the next one behind it."""

    def __init__(self, trainer: SearchLoopTrainer) -> None:
        self.trainer = trainer
        self.bar: Bar | None = None

    def on_train_begin(self, args: Any, state: Any, control: TrainerControl, **_: Any) -> None:
        """Search, unless a checkpoint was in the middle of an episode."""
        if not self._begin():
            state.max_steps = state.global_step

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **_: Any) -> TrainerControl:
        """Log and save where the episode has been trained on."""
        if self.bar is not None:
            self.bar.update(self.trainer.episodes.steps[0])
        if self.trainer.episodes.trained and self.trainer.between_generations:
            self._end_bar()
            control.should_log = control.should_save = True
        return control

    def on_save(self, args: Any, state: Any, control: TrainerControl, **_: Any) -> TrainerControl:
        """Begin the next episode, or end the training after the last one."""
        trainer = self.trainer
        if trainer.episodes.trained and trainer.between_generations and trainer.stop_error is None:
            control.should_training_stop = control.should_training_stop or not self._begin()
        return control

    def on_train_end(self, args: Any, state: Any, control: TrainerControl, **_: Any) -> None:
        """Close the bar."""
        self._end_bar()

    def _begin(self) -> bool:
        episodes = self.trainer.episodes
        if not episodes.next():
            return False
        done, total = episodes.steps
        label = f"episode {episodes.number + 1}/{episodes.recipe.all_episodes}: GRPO"
        self.bar = Bar(label, total, visible=self.trainer.accelerator.is_main_process)
        self.bar.__enter__()
        self.bar.update(done)
        return True

    def _end_bar(self) -> None:
        if self.bar is not None:
            self.bar.__exit__()
            self.bar = None
