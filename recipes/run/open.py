"""A run that has its folder for itself, from the first file in it to the last."""

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import TrainingArguments

from aflow_ops.executor import ExecutorConfig, ExecutorUsage, check_executor
from data.files import claimed, write_atomically
from recipes.backup.backup import Backup
from recipes.backup.open import open_backup
from recipes.hub.publish import publish_finished_run, requested_publication
from recipes.run.checkpoints import Checkpoint, drop_checkpoints_after
from recipes.run.config import write_config
from recipes.run.results import HeldOut, Row, print_results, write_results
from recipes.run.rollout_log import RolloutLog
from recipes.run.starting import print_resumption
from recipes.settings.arguments import BackupArguments
from recipes.settings.chosen import RunConfig


@dataclass
class Run:
    """An open run.

    Args:
        folder (`Path`): `outputs/<run>`.
        backup (`Backup`, *optional*): of it, in the main process.
        seconds (`dict[str, float]`): wall seconds of each phase, in order.
    """

    folder: Path
    backup: Backup | None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the block, for `summary.json`."""
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 1)

    def finish(
        self, trainer: Any, before: Sequence[Row], after: Sequence[Row], baselines: Mapping[str, Sequence[Row]]
    ) -> None:
        """Write the adapter and the results of a training that came to its end, and show them.

        Args:
            trainer (`WorkflowGRPOTrainer`): trained, and not closed yet.
            before (`Sequence[Row]`): graded held-out rows of the policy before the training.
            after (`Sequence[Row]`): the same after it.
            baselines (`Mapping`): the same of the fixed workflows, by name.
        """
        trainer.save_model()
        trainer.rollout_log.close()
        usage = sum(gather_object([trainer.executor.usage]), ExecutorUsage())
        if PartialState().is_main_process:
            result, style = HeldOut(before, after, baselines), trainer.recipe.prompt_style
            write_results(self.folder, result, self.seconds, usage, trainer.state.log_history, style)
            print_results(self.folder, result)
        if self.backup is not None:
            self.backup.results(trainer.state.global_step)

    def finish_offline(self, summary: Mapping[str, Any], step: int) -> None:
        """Write the summary of a training that executed nothing, whose policy is in the folder, and show it.

        Args:
            summary (`Mapping[str, Any]`): beside `run` and `seconds`.
            step (`int`): optimizer steps done.
        """
        if PartialState().is_main_process:
            with write_atomically(self.folder / "summary.json") as file:
                file.write(json.dumps({"run": self.folder.name, "seconds": self.seconds, **summary}, indent=2) + "\n")
            print(f"policy, metrics and summary: {self.folder}/; evaluate it with scripts/evaluate.py")
        if self.backup is not None:
            self.backup.results(step)


@contextmanager
def open_run(
    config: RunConfig,
    start: Checkpoint | None,
    training: TrainingArguments,
    *,
    backup: BackupArguments,
    executor: ExecutorConfig | None = None,
) -> Iterator[Run]:
    """Try the executor and the Hub, then own `output_dir` while inside; publish what was left when nothing failed.

    Args:
        config (`RunConfig`): what `config.yaml` says.
        start (`Checkpoint`, *optional*): where the run goes on; without one, what an earlier start left goes.
        training (`TrainingArguments`): the run's folder, its steps, the checkpoints that it keeps, where it is pushed.
        backup (`BackupArguments`): where it is backed up.
        executor (`ExecutorConfig`, *optional*): the one that answers, where any does.

    Raises:
        UsageError: the executor refuses the key, a backup URL that cannot work, or no way to publish where asked.
        InfraError: the executor, or the Hub, cannot be reached.
    """
    folder, main_process = Path(training.output_dir), PartialState().is_main_process
    with open_backup(
        backup.backup_url,
        folder,
        wait_seconds=backup.backup_wait_seconds,
        keep=training.save_total_limit,
        fresh=start is None,
        main_process=main_process,
    ) as opened:
        if executor is not None:
            asyncio.run(check_executor(executor))
        publication = requested_publication(training) if main_process else None
        with claimed(folder) if main_process else nullcontext():
            if main_process:
                if start is None:
                    RolloutLog(folder).remove()
                    drop_checkpoints_after(folder, -1)  # unfinished ones
                else:
                    print_resumption(folder, start, training.max_steps, config)
                write_config(folder, config.script, config.chosen)
            yield Run(folder, opened)
        if publication is not None:
            print(f"pushed to {publish_finished_run(folder, publication)}")
