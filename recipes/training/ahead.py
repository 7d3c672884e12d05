"""Rollouts ahead: while workflows run, the generation before theirs is trained on and the one after it is sampled.

    sampled    0 1   2   3   4
    workflows  0...1...2...3...4...
    trained on        0   1   2   3

A generation that was sampled `rollouts_ahead` generations before it is trained on is off-policy by the optimizer steps
in between, never by more. Its importance ratio is therefore to the log-probabilities that its tokens had when they were
sampled, under the same temperature, and clipped as any other.

How it is built on what TRL keeps: the batches of an epoch are drawn a little early (`get_batch_samples`), so that the
next ones are known; TRL's `_generate` samples them and, once a generation's turn comes, is answered with what it gave;
the workflow reward awaits runs that have long begun; and what `_generate_and_score_completions` returns gains
`old_per_token_logps`. What is in flight is part of a checkpoint: completions, not replies, which the executor's cache
has.
"""

import asyncio
import copy
import json
import sys
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import gather_object
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import pad

from aflow_ops.concurrency import ended
from data.files import write_atomically
from recipes.training.trl_internals import asks_for_old_logps
from rewards.workflow_reward import Scored

Rows = Sequence[Mapping[str, Any]]


@dataclass
class Generation:
    """A generation of this process that is sampled and not trained on yet.

    Args:
        sampled (`tuple`): what TRL's `_generate` returned: lists of tokens and texts.
        logps (`torch.Tensor` of shape (B, T)): log-probabilities of the completions under the policy that wrote them.
        temperature (`float`): what it was sampled at.
        step (`int`): optimizer steps that this policy had.
        metrics (`Mapping[str, list[float]]`): what TRL logged of the sampling.
        runs (`asyncio.Task`, *optional*): its workflows, begun.
    """

    sampled: tuple[Any, ...]
    logps: torch.Tensor
    temperature: float
    step: int
    metrics: Mapping[str, list[float]]
    runs: "asyncio.Task[Scored] | None" = None


class Lookahead:
    """The batches of an epoch, the next of which can be seen.

    Args:
        batches (`Iterator`): the epoch's.
    """

    def __init__(self, batches: Iterator[Any]) -> None:
        self.batches = batches
        self._seen: deque[Any] = deque()

    def __next__(self) -> Any:
        return self._seen.popleft() if self._seen else next(self.batches)

    def peek(self, index: int) -> Any | None:
        """Return the batch that comes after `index` others, or `None` past the epoch's end."""
        while len(self._seen) <= index:
            try:
                self._seen.append(next(self.batches))
            except StopIteration:
                return None
        return self._seen[index]


class RolloutsAhead:
    """What a trainer with rollouts ahead does around TRL's generation.

    Args:
        trainer (`WorkflowGRPOTrainer`): on whose reward event loop the workflows run.
        count (`int`): generations sampled before their turn, at least 1.
    """

    def __init__(self, trainer: Any, count: int) -> None:
        self.trainer, self.count = trainer, count
        self._in_flight: deque[Generation] = deque()
        self._current: Generation | None = None
        self._epoch: Lookahead | None = None
        self._fetched: list[Any] = []
        self._fetched_at = 0
        self._old_logps_due = False

    # The batches to come

    def drawing(self, batches: Iterator[Any]) -> Lookahead:
        """Return the epoch's batches in a form that `upcoming` can look into."""
        if self._epoch is None or self._epoch.batches is not batches:
            self._epoch = Lookahead(batches)
        return self._epoch

    def drawn(self, batches: list[Any]) -> None:
        """Note the batches of the optimizer step that begins."""
        self._fetched, self._fetched_at = batches, self.trainer._step

    def upcoming(self, inputs: Rows) -> Iterator[Rows]:
        """Yield the rows of this generation and of those after it, as far as epoch and training go."""
        trainer, epoch = self.trainer, self._epoch
        assert epoch is not None
        every = trainer.args.steps_per_generation * trainer.num_iterations
        here, accumulation = trainer._step - self._fetched_at, trainer.args.gradient_accumulation_steps
        yield inputs
        for ahead in range(1, self.count + 1):
            place = here + ahead * every
            if trainer.state.global_step + place // accumulation >= trainer.state.max_steps:
                return
            fetched = len(self._fetched)
            rows = self._fetched[place] if place < fetched else epoch.peek(place - fetched)
            if rows is None:
                return
            yield rows

    # A generation's turn

    def begin(self, inputs: Rows) -> None:
        """Sample what is not sampled yet, begin its workflows, and have the trainer score the generation at hand.

        Args:
            inputs (`Sequence[Mapping]`): this process's dataset rows of that generation.
        """
        for index, rows in enumerate(self.upcoming(inputs)):
            if index < len(self._in_flight) and self._in_flight[index].runs is None:
                self._keep_if_for(index, rows)
            if index == len(self._in_flight):
                self._in_flight.append(self._sample(rows))
            if self._in_flight[index].runs is None:
                self._in_flight[index].runs = self._begin_runs(self._in_flight[index], rows)
        self._current = current = self._in_flight[0]
        self._old_logps_due = asks_for_old_logps(self.trainer)
        self.trainer.sampling.set(current.temperature)
        self.trainer.reward.begun = current.runs

    def _keep_if_for(self, index: int, rows: Rows) -> None:
        """Drop a generation of a checkpoint, and those after it, if it is not of these rows: other problems or seed."""
        prompts, *_ = self.trainer._tokenize_prompts(copy.deepcopy([row["prompt"] for row in rows]))
        if all(gather_object([prompts == self._in_flight[index].sampled[0]])):
            return
        if self.trainer.accelerator.is_main_process:
            print(
                "warning: what the checkpoint has in flight is of other problems; they are sampled anew",
                file=sys.stderr,
            )
        while len(self._in_flight) > index:
            self._in_flight.pop()

    def sampled(self) -> tuple[Any, ...] | None:
        """Return what TRL's `_generate` gave for the generation at hand, and log it; `None` when there is none."""
        if self._current is None:
            return None
        metrics = self.trainer._metrics["train"]
        for name, values in self._current.metrics.items():
            metrics[name] = list(values) if name == "num_tokens" else [*metrics[name], *values]
        return self._current.sampled

    @property
    def written_at(self) -> int:
        """Optimizer steps that the policy had when it wrote the generation at hand."""
        step: int = self.trainer.state.global_step if self._current is None else self._current.step
        return step

    def known_logps(self) -> torch.Tensor | None:
        """Return the log-probabilities at sampling time, once, where TRL asks for the policy's before it trains."""
        if self._current is None or not self._old_logps_due:
            return None
        self._old_logps_due = False
        return self._current.logps

    def finish(self, output: dict[str, Any]) -> None:
        """Have the loss correct for the age of the generation that is trained on now.

        Args:
            output (`dict`): of TRL's `_generate_and_score_completions`.
        """
        current, metrics = self._in_flight.popleft(), self.trainer._metrics["train"]
        output["old_per_token_logps"] = current.logps
        metrics["ahead/staleness"].append(self.trainer.state.global_step - current.step)
        metrics["ahead/waited_seconds"].append(self.trainer.reward.waited)
        self._current = self.trainer.reward.begun = None

    # Sampling

    def _sample(self, rows: Rows) -> Generation:
        trainer = self.trainer
        temperature, held = trainer.current_temperature(), trainer._metrics["train"]
        trainer.sampling.set(temperature)
        metrics: defaultdict[str, list[float]] = defaultdict(list)
        trainer._metrics["train"] = metrics
        try:
            sampled = trainer._generate([row["prompt"] for row in rows])
        finally:
            trainer._metrics["train"] = held
        logps = self._sampling_logps(sampled[0], sampled[1])
        return Generation(sampled, logps, temperature, trainer.state.global_step, dict(metrics))

    def _sampling_logps(self, prompts: list[list[int]], completions: list[list[int]]) -> torch.Tensor:
        """Log-probabilities of completions under the policy as it is, in TRL's own padding."""
        trainer = self.trainer
        (prompt_ids, prompt_mask), (ids, mask) = self._padded(prompts, "left"), self._padded(completions, "right")
        args = trainer.args
        with torch.no_grad(), disable_gradient_checkpointing(trainer.model, args.gradient_checkpointing_kwargs):
            logps, _, _ = trainer._get_per_token_logps_and_entropies(
                trainer.model,
                torch.cat([prompt_ids, ids], dim=1),
                torch.cat([prompt_mask, mask], dim=1),
                ids.size(1),
                batch_size=args.per_device_train_batch_size,
            )
        return cast(torch.Tensor, logps.float())

    def _padded(self, rows: list[list[int]], side: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and their mask, both of shape (B, longest)."""
        trainer = self.trainer
        ids = [torch.tensor(row) for row in rows]
        padded = [
            pad(tensors, padding_value=value, padding_side=side, pad_to_multiple_of=trainer.pad_to_multiple_of)
            for tensors, value in ((ids, trainer._tokenizer.pad_token_id), ([torch.ones_like(row) for row in ids], 0))
        ]
        return padded[0].to(trainer.accelerator.device), padded[1].to(trainer.accelerator.device)

    # Workflows

    def _begin_runs(self, generation: Generation, rows: Rows) -> "asyncio.Task[Scored]":
        completions, problems = generation.sampled[3], [row["problem"] for row in rows]

        async def begin() -> "asyncio.Task[Scored]":
            return asyncio.create_task(self.trainer.reward.score(completions, problems))

        return cast("asyncio.Task[Scored]", self.trainer.run_async(begin()))

    def stop_runs(self) -> None:
        """End the workflows in flight; their completions stay in flight."""
        runs = [generation.runs for generation in self._in_flight if generation.runs is not None]
        for generation in self._in_flight:
            generation.runs = None
        self._current = self.trainer.reward.begun = None
        self.trainer.run_async(ended(runs))

    # Checkpoints

    def save(self, folder: Path) -> None:
        """Keep what is in flight in this process, beside the state of its random numbers."""
        rows = [
            {
                "sampled": generation.sampled,
                "logps": generation.logps.tolist(),
                "temperature": generation.temperature,
                "step": generation.step,
                "metrics": generation.metrics,
            }
            for generation in self._in_flight
        ]
        with write_atomically(folder / self._file) as file:
            json.dump(rows, file)

    def start_from(self, folder: Path | None) -> None:
        """Go on with what a checkpoint has in flight; forget what else there is.

        What was saved by another number of processes, or without rollouts ahead, is sampled anew.
        """
        self.stop_runs()
        self._in_flight.clear()
        self._epoch = None
        device, processes = self.trainer.accelerator.device, self.trainer.accelerator.num_processes
        if folder is None or len(list(folder.glob("in_flight-*.json"))) != processes:
            return
        for row in json.loads((folder / self._file).read_text(encoding="utf-8")):
            logps = torch.tensor(row["logps"], device=device)
            self._in_flight.append(
                Generation(tuple(row["sampled"]), logps, row["temperature"], row["step"], row["metrics"])
            )

    @property
    def _file(self) -> str:
        return f"in_flight-{self.trainer.accelerator.process_index}.json"
