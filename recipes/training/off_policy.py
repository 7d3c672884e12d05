"""`OffPolicyGRPOTrainer`: TRL's `GRPOTrainer` on rows of which some were not sampled just now, but are given.

A given row that a policy like this one wrote has the log-probabilities it had then: **own**. Its ratio is to those,
and is clipped as any other. A row of somebody else is **foreign**: what its writer's probabilities were is not known,
and the ratio to them would be of little use. It is shaped instead (LUFFY, arXiv:2504.14945),

    loss = -A f(pi),  f(pi) = pi / (pi + gamma),      per token, without a clip,

which leaves tokens alone that are likely already and lets unlikely ones count, of which a foreign row's lesson is made.

How it is built on what TRL keeps: `rollout_func` puts the given rows among the sampled ones; what
`_generate_and_score_completions` returns gains two columns; and `_compute_loss` reads the advantages (B, T) and the old
log-probabilities from its inputs after it has the current ones, so both are worked out from these, without another
forward pass. For a foreign row the old log-probabilities are the current ones, its ratio is 1, and its advantages are
`A gamma pi / (pi + gamma)^2`: the gradient of every one of TRL's losses is then that of `-A f(pi)`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from trl import GRPOTrainer

SAMPLED, OWN, FOREIGN = 0, 1, 2
# LUFFY's.
SHAPING = 0.1


@dataclass(frozen=True)
class GivenRow:
    """A completion that is not sampled.

    Args:
        ids (`tuple[int, ...]`): its tokens, the one that ends a turn included.
        logprobs (`tuple[float, ...]`, *optional*): their log-probabilities when they were sampled, in nats; a row with
            them is own.
        record (`Mapping[str, Any]`): what the reward functions are told of it, in the column `replayed`.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...] | None = None
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> int:
        """`OWN` or `FOREIGN`."""
        return FOREIGN if self.logprobs is None else OWN


class OffPolicyGRPOTrainer(GRPOTrainer):
    """GRPO that takes given rows among the sampled ones, or instead of them.

    Whoever uses it calls `take_given_rows` once, sets `given_rows` before each generation and calls `mark_given_rows`
    on what TRL returns. Without that it is TRL's trainer.

    Args:
        args: as for `GRPOTrainer`, positional and by name.
        kwargs: as for `GRPOTrainer`.

    Attributes:
        given_rows (`Sequence[GivenRow | None]`): of this process's rows of a generation; `None` where one is sampled.
        shaping (`float`): gamma, above 0.
        kl_where_positive (`bool`): the KL term counts for tokens with a positive advantage only (SPOGW,
            arXiv:2510.04089).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.given_rows: Sequence[GivenRow | None] = ()
        self.shaping = SHAPING
        self.kl_where_positive = False
        self._being_corrected: dict[str, Any] | None = None

    def take_given_rows(self, *, all_given: bool = False) -> None:
        """Put given rows among those that TRL samples.

        Args:
            all_given (`bool`): every row is given, and nothing is sampled.
        """
        self._samples = not all_given
        self.rollout_func = self._rollouts

    def _rollouts(self, prompts: list[Any], _: Any) -> dict[str, Any]:
        """TRL's seam for one's own rows. All are sampled, for backends want whole groups; given ones replace some."""
        prompt_ids, images, fields = self._tokenize_prompts(prompts)
        sampled: list[list[int]] = [[]] * len(prompts)
        logprobs: list[list[float]] | None = None
        if self._samples:
            sampled, logprobs = self._generate_single_turn(prompt_ids, images, fields, self.num_generations)
        rows = list(zip(self.given_rows, sampled, strict=True))
        if logprobs is not None:
            logprobs = [
                values if row is None else [0.0] * len(row.ids)
                for row, values in zip(self.given_rows, logprobs, strict=True)
            ]
        return {
            "prompt_ids": prompt_ids,
            "completion_ids": [ids if row is None else list(row.ids) for row, ids in rows],
            "logprobs": logprobs,
            "replayed": [None if row is None else dict(row.record) for row, _ in rows],
        }

    def mark_given_rows(self, output: dict[str, Any], left_out: Sequence[bool]) -> None:
        """Add to what TRL returns of a generation what the loss has to know of given rows.

        Args:
            output (`dict`): from `_generate_and_score_completions`; this process's rows.
            left_out (`Sequence[bool]`): rows without a part in the loss, in its KL term or in its number of tokens;
                losses that are means over rows (`grpo`, `dr_grpo`) still divide by them.
        """
        ids, mask = output["completion_ids"], output["completion_mask"]
        kinds, behaviour = ids.new_zeros(len(ids)), torch.zeros(ids.shape, device=ids.device)
        for index, row in enumerate(self.given_rows):
            kinds[index] = SAMPLED if row is None else row.kind
            if row is not None and row.logprobs is not None:
                behaviour[index, : len(row.logprobs)] = torch.tensor(row.logprobs)
        if "importance_sampling_ratio" in output:  # of vLLM's samples to the trainer's probabilities
            output["importance_sampling_ratio"][kinds != SAMPLED] = 1.0
        part = torch.ones_like(mask)
        part[torch.tensor(list(left_out), device=mask.device)] = 0
        output |= {"given_kind": kinds, "behaviour_logps": behaviour, "tool_mask": part}
        output["num_items_in_batch"] = self.accelerator.gather((mask * part).sum()).sum()

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        if "given_kind" not in inputs:
            return super()._compute_loss(model, inputs)
        self._being_corrected = inputs = dict(inputs)  # a generation may be used for several steps
        try:
            return super()._compute_loss(model, inputs)
        finally:
            self._being_corrected = None

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        if self._being_corrected is not None:
            self._correct(self._being_corrected, result[0].detach())
        return result

    def _correct(self, inputs: dict[str, Any], logps: torch.Tensor) -> None:
        """Work out old log-probabilities, advantages and reference of given rows from the current log-probabilities."""
        kinds = inputs["given_kind"].unsqueeze(1)
        old = inputs.get("old_per_token_logps")
        old = logps if old is None else old
        old = torch.where(kinds == OWN, inputs["behaviour_logps"].to(logps), old)
        inputs["old_per_token_logps"] = torch.where(kinds == FOREIGN, logps, old)
        advantages = inputs["advantages"].unsqueeze(1).expand_as(logps)
        probability = logps.exp()
        slope = self.shaping * probability / (probability + self.shaping) ** 2
        inputs["advantages"] = torch.where(kinds == FOREIGN, advantages * slope, advantages)
        if self.kl_where_positive and "ref_per_token_logps" in inputs:
            inputs["ref_per_token_logps"] = torch.where(advantages > 0, inputs["ref_per_token_logps"], logps)
        self._log_given(inputs, logps, advantages, probability / (probability + self.shaping))

    def _log_given(
        self, inputs: dict[str, Any], logps: torch.Tensor, advantages: torch.Tensor, shaped: torch.Tensor
    ) -> None:
        """Log what becomes of given rows: means over their tokens, of all processes."""
        kinds = inputs["given_kind"].unsqueeze(1)
        mask = inputs["completion_mask"] * inputs["tool_mask"]
        own, foreign = (mask * (kinds == kind) for kind in (OWN, FOREIGN))
        ratio = (logps - inputs["old_per_token_logps"]).exp()
        high, low = ratio > 1 + self.epsilon_high, ratio < 1 - self.epsilon_low
        clipped = (high & (advantages > 0)) | (low & (advantages < 0))
        values = {
            "replay/logprob": (logps, own + foreign),
            "replay/ratio": (ratio, own),
            "replay/clipped": (clipped.to(logps), own),
            "replay/shaped": (shaped, foreign),
        }
        sums = torch.stack([torch.stack([(value * part).sum(), part.sum()]) for value, part in values.values()])
        for name, (total, count) in zip(values, self.accelerator.reduce(sums, "sum").tolist(), strict=True):
            if count:
                self._metrics["train"][name].append(total / count)


def row_of_group(rows: Sequence[GivenRow], size: int, turn: int, place: int) -> GivenRow:
    """Return a row of a group of which all rows are given.

    Args:
        rows (`Sequence[GivenRow]`): all that there are. Of more than `size` each turn takes the next ones; fewer are
            filled up with rows whose reward is `None`, which count for nothing.
        size (`int`): K.
        turn (`int`): how often the group had its turn before.
        place (`int`): of the row in the group.
    """
    if len(rows) > size:
        return rows[(turn * size + place) % len(rows)]
    if place < len(rows):
        return rows[place]
    return GivenRow(rows[0].ids, rows[0].logprobs, {**rows[0].record, "reward": None})


def completion_tokens(tokenizer: PreTrainedTokenizerBase, text: str, eos_ids: Sequence[int]) -> tuple[int, ...]:
    """Return a text as the policy would have sampled it: its tokens, then the one that ends a turn.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): the policy's, with a chat template.
        text (`str`): what follows the prompt.
        eos_ids (`Sequence[int]`): tokens that end a completion (`GRPOTrainer.eos_token_ids`).
    """
    turn = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    rendered = tokenizer.apply_chat_template(turn, tokenize=True, return_dict=True)["input_ids"]
    end = next((token for token in reversed(rendered) if token in eos_ids), tokenizer.eos_token_id)
    return (*tokenizer.encode(text, add_special_tokens=False), end)
