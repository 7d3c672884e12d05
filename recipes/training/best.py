"""Keeping the adapter that did best on the held-out problems, not only the last one."""

import json
import shutil
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from transformers import Trainer, TrainerCallback

from data.files import write_atomically
from data.problem import Problem
from recipes.run.checkpoints import best_of
from recipes.training.heldout import evaluate_policy
from recipes.training.lifecycle import ResumableGRPOTrainer
from rewards.evaluation import by_problem


class BestByHeldout(TrainerCallback):
    """Evaluates the policy every so many steps and keeps the best adapter in `best/`, with `best.json` in it.

    Its reward is that of a choice among several, so it flatters: compare on problems that chose nothing.

    Args:
        trainer (`ResumableGRPOTrainer`): whose policy it is.
        every (`int`): optimizer steps between two evaluations; 0 for none.
        problems (`Sequence[Problem]`): the held-out ones.
        evaluate (`Callable`): as `evaluate_policy`.
    """

    def __init__(
        self,
        trainer: ResumableGRPOTrainer,
        every: int,
        problems: Sequence[Problem],
        evaluate: Callable[..., list[dict[str, Any]]] = evaluate_policy,
    ) -> None:
        self.trainer, self.every, self.problems, self.evaluate = trainer, every, problems, evaluate
        self.folder = trainer.run_dir / "best"
        self.old = self.folder.with_name("best.old")
        if not trainer.accelerator.is_main_process:
            return
        if trainer.start is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            shutil.rmtree(self.old, ignore_errors=True)
        elif self.old.exists() and not self.folder.exists():  # killed between the two moves of _keep
            self.old.rename(self.folder)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Evaluate when it is time, and keep the adapter when it is the best so far."""
        if self.every == 0 or state.global_step % self.every:
            return
        rows = self.evaluate(self.trainer, self.problems, "held-out", visible=False)
        rewards = by_problem(rows).values()
        if not rewards:
            return
        reward = fmean(rewards)
        Trainer.log(self.trainer, {"heldout/reward": reward})  # TRL's own would take the step's metrics into this row
        best = best_of(self.trainer.run_dir)
        if best is None or reward > best["reward"] or best["step"] >= state.global_step:
            self._keep(state.global_step, reward)

    def _keep(self, step: int, reward: float) -> None:
        """Write beside, then move: there is always a whole one."""
        partial = self.folder.with_name("best.partial")
        self.trainer.save_model(str(partial), _internal_call=True)
        if self.trainer.accelerator.is_main_process:
            with write_atomically(partial / "best.json") as file:
                file.write(json.dumps({"step": step, "reward": reward}) + "\n")
            shutil.rmtree(self.old, ignore_errors=True)
            if self.folder.exists():
                self.folder.rename(self.old)
            partial.rename(self.folder)
            shutil.rmtree(self.old, ignore_errors=True)
        self.trainer.accelerator.wait_for_everyone()
