"""Score-DPO: DPO whose pairs count by how good and how bad they are (ScoreFlow, arXiv:2502.04306).

    loss = -log sigmoid(beta [ s_w D_w - (1 - s_l) D_l ])        D = log pi(y|x) - log pi_ref(y|x)

With `s_w = 1` and `s_l = 0` it is DPO (arXiv:2305.18290). A winner that is only half right is pulled up half as much, a
loser that is half right pushed down half as much.

TRL's loss takes the log-probabilities of the policy from the model it is given and those of the reference from its
inputs when they are there; scaling both row by row makes the log-ratio `s D`, and nothing of TRL's is copied. What TRL
logs as `rewards/...` and `logps/...` is scaled with them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import DPOTrainer

from data.pairs import Pair
from recipes.run.checkpoints import seal

SCORES = ("chosen_score", "rejected_score")


def pairs_dataset(pairs: Sequence[Pair]) -> Dataset:
    """Return pairs as TRL's conversational preference rows, with their scores."""
    return Dataset.from_dict(
        {
            "prompt": [[dict(message) for message in pair.chosen.prompt] for pair in pairs],
            "chosen": [[{"role": "assistant", "content": pair.chosen.completion}] for pair in pairs],
            "rejected": [[{"role": "assistant", "content": pair.rejected.completion}] for pair in pairs],
            "chosen_score": [pair.chosen.reward for pair in pairs],
            "rejected_score": [pair.rejected.reward for pair in pairs],
        }
    )


class ScoreDPOTrainer(DPOTrainer):
    """TRL's `DPOTrainer` with the columns `chosen_score` and `rejected_score`, in [0, 1]; it seals its checkpoints.

    Args:
        args: as for `DPOTrainer`, positional and by name.
        score_weighting (`bool`): `False` is plain DPO, whatever the scores.
        kwargs: as for `DPOTrainer`.
    """

    # TRL's
    data_collator: Callable[[list[dict[str, Any]]], dict[str, Any]]
    _signature_columns: list[str]

    def __init__(self, *args: Any, score_weighting: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.score_weighting = score_weighting
        self.precompute_ref_logps = True  # where TRL's loss finds the reference: in its inputs
        self.data_collator = _WithScores(self.data_collator)
        self.add_callback(_SealedCheckpoints())

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns = list(dict.fromkeys([*self._signature_columns, *SCORES]))

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        won, lost = (inputs[name] for name in SCORES)
        inputs = {name: value for name, value in inputs.items() if name not in SCORES}
        if not self.score_weighting:
            won, lost = torch.ones_like(won), torch.zeros_like(lost)
        if "ref_chosen_logps" in inputs:  # computed once, before the training
            chosen, rejected = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        else:
            chosen, rejected = self.compute_ref_log_probs(self.ref_model or self.model, inputs)
        inputs |= {"ref_chosen_logps": won * chosen, "ref_rejected_logps": (1 - lost) * rejected}
        return super()._compute_loss(_Weighted(model, torch.cat([won, 1 - lost])), inputs, return_outputs)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the adapter that trains too: beside a reference adapter, transformers loads that one only."""
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        policy = self.model if model is None else model
        if "ref" in getattr(policy, "peft_config", {}):
            policy.load_adapter(resume_from_checkpoint, "default", is_trainable=True)
            policy.set_adapter("default")


class _Weighted:
    """A model whose rows' log-probabilities are scaled, the way TRL's loss calls it.

    Args:
        model: the policy, wrapped as it is for training.
        weights (`torch.Tensor`): of shape (B,), one a row.
    """

    def __init__(self, model: Any, weights: torch.Tensor) -> None:
        self.model, self.weights = model, weights

    def __call__(self, **inputs: Any) -> Any:
        outputs = self.model(**inputs)
        if inputs.get("fused_lm_head"):
            outputs.log_probs = outputs.log_probs * self.weights.unsqueeze(1).to(outputs.log_probs)
        return outputs


class _WithScores:
    """A collator that keeps the scores, as tensors of shape (B,)."""

    def __init__(self, collator: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self.collator = collator

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        scores = {name: torch.tensor([float(example[name]) for example in examples]) for name in SCORES}
        return {**self.collator(examples), **scores}


class _SealedCheckpoints(TrainerCallback):
    """Declares a checkpoint whole once all of it is written."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Seal it."""
        if state.is_world_process_zero:
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}", {})
