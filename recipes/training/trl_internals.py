"""Where TRL 1.16 has no seam: what is reached into, and why."""

import logging
from functools import cached_property
from typing import Any

import torch
from peft import PeftModel


def train_in_float32(model: torch.nn.Module) -> None:
    """Hold the parameters that train in float32, as fp16 mixed precision needs them.

    TRL keeps the adapter of a quantized model in bf16, and the gradient scaler unscales neither bf16 on CUDA
    (https://github.com/pytorch/pytorch/issues/127176) nor fp16 gradients.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def not_an_unscored_row(record: logging.LogRecord) -> bool:
    """Keep TRL from printing whole rows, gold answers included, for rollouts without a reward: we log their share."""
    return "All reward functions returned None" not in record.getMessage()  # "[RANK 0] " may stand before it


def scoring_temperature(model: torch.nn.Module) -> Any:
    """Return the cell with the temperature of TRL's fused LM head, which keeps it in a closure (`trl.trainer.utils`).

    Raises:
        RuntimeError: the model has no such head: another version of trl.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    head: Any = base.forward
    while head is not None:
        function = getattr(head, "__func__", head)
        if "temperature" in function.__code__.co_freevars and function.__name__ == "forward":
            return function.__closure__[function.__code__.co_freevars.index("temperature")]
        head = getattr(function, "__wrapped__", None)
    raise RuntimeError("TRL's fused LM head was not found on the policy; this trl version is not supported")


class SamplingTemperature:
    """The temperature that a `GRPOTrainer` samples and scores at, in every place where TRL keeps it.

    Args:
        trainer (`GRPOTrainer`): its model and its reference model are looked up once, at first use.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def set(self, temperature: float) -> None:
        """Sample and score at `temperature` from here on."""
        trainer = self._trainer
        trainer.temperature = temperature
        if trainer.use_vllm:
            trainer.vllm_generation.temperature = temperature
        else:
            trainer.generation_config.temperature = temperature
        for cell in self._cells:
            cell.cell_contents = temperature

    @cached_property
    def _cells(self) -> list[Any]:
        """Those of the fused LM heads of the policy and of the reference; unwrapping takes time."""
        models = [model for model in (self._trainer.model, self._trainer.ref_model) if model is not None]
        return [scoring_temperature(self._trainer.accelerator.unwrap_model(model)) for model in models]


def asks_for_old_logps(trainer: Any) -> bool:
    """Whether TRL works out the policy's log-probabilities before it trains on a generation.

    It does where the policy may have moved since, and to weigh vLLM's samples. They are the first that
    `_generate_and_score_completions` asks `_get_per_token_logps_and_entropies` for.
    """
    every = trainer.args.steps_per_generation * trainer.num_iterations
    corrected = trainer.use_vllm and trainer.vllm_importance_sampling_correction
    return bool(trainer.args.gradient_accumulation_steps % every != 0 or corrected)
