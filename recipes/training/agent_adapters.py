"""Which LoRA speaks for which role: one for all, or one each over one base.

With one each, the first trained role has PEFT's adapter `default` and every further one an adapter of its name, so that
a run's folder holds what PEFT expects: `adapter_model.safetensors`, and `<role>/adapter_model.safetensors` beside it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from aflow_ops.errors import UsageError

DEFAULT = "default"


def adapter_names(adapters: str, roles: Sequence[str]) -> dict[str, str]:
    """Return the PEFT adapter of each trained role.

    Args:
        adapters (`str`): `"shared"` or `"per_agent"`.
        roles (`Sequence[str]`): those that train.
    """
    return {role: role if adapters == "per_agent" and at else DEFAULT for at, role in enumerate(roles)}


class AgentAdapters:
    """Routes a trainer's sampling and scoring to the adapters of the roles.

    Args:
        trainer (`GRPOTrainer`): with its model, and `_generate_single_turn` to sample.
        adapters (`str`): `"shared"` or `"per_agent"`.
        roles (`Sequence[str]`): those that train, in the order of a row's `agent`.

    Raises:
        UsageError: adapters of their own where that cannot work.
    """

    def __init__(self, trainer: Any, adapters: str, roles: Sequence[str]) -> None:
        self.trainer, self.roles = trainer, list(roles)
        self.names = adapter_names(adapters, roles)
        self.split = adapters == "per_agent"
        self._inputs: dict[str, Any] | None = None
        if self.split:
            self._check()
            config = trainer.model.peft_config[DEFAULT]
            for name in list(self.names.values())[1:]:
                trainer.model.add_adapter(name, config)
            trainer.model.set_adapter(DEFAULT)
            self.enable()

    def _check(self) -> None:
        trainer = self.trainer
        if not isinstance(trainer.model, PeftModel):
            raise UsageError("--adapters per_agent needs --use_peft")
        for flag, wrong in (
            ("several processes", trainer.accelerator.num_processes > 1),
            ("--use_vllm", trainer.use_vllm),
            ("activation_checkpointing", trainer.args.activation_checkpointing),
        ):
            if wrong:
                raise UsageError(f"--adapters per_agent does not work with {flag}; use --adapters shared")

    @property
    def model(self) -> Any:
        """The policy with its adapters."""
        return self.trainer.accelerator.unwrap_model(self.trainer.model)

    def enable(self) -> None:
        """Have every adapter train; PEFT turns off the gradient of all that are not in use."""
        if not self.split:
            return
        own = tuple(f".{name}." for name in set(self.names.values()))
        for name, parameter in self.model.named_parameters():
            if "lora_" in name and any(part in name for part in own):
                parameter.requires_grad_(True)

    @contextmanager
    def speaking(self, role: str) -> Iterator[None]:
        """Use a role's adapter inside; a role that does not train speaks with the adapter of the first."""
        if self.split:
            self.model.set_adapter(self.names.get(role, DEFAULT))
        try:
            yield
        finally:
            if self.split:
                self.model.set_adapter(DEFAULT)
                self.enable()

    def written(
        self, roles: Sequence[str], prompts: Sequence[list[int]]
    ) -> tuple[list[list[int]], list[list[float]] | None]:
        """Sample the next turn of each conversation: in one batch, or in one for each adapter."""
        return self.by_adapter(roles, prompts, lambda batch: self.trainer._generate_single_turn(batch, None, {}, 1))

    def by_adapter(self, roles: Sequence[str], prompts: Sequence[list[int]], sample: Callable[..., Any]) -> Any:
        """Sample with each role's adapter.

        Args:
            roles (`Sequence[str]`): whose turns.
            prompts (`Sequence[list[int]]`): tokens of each conversation.
            sample (`Callable`): given prompts, returns the tokens that follow and their log-probabilities or `None`.
        """
        if not self.split:
            return sample(list(prompts))
        ids: list[list[int]] = [[] for _ in prompts]
        for name in dict.fromkeys(self.names.get(role, DEFAULT) for role in roles):
            places = [at for at, role in enumerate(roles) if self.names.get(role, DEFAULT) == name]
            with self.speaking(next(role for role in roles if self.names.get(role, DEFAULT) == name)):
                found, _ = sample([prompts[at] for at in places])
            for at, row in zip(places, found, strict=True):
                ids[at] = row
        return ids, None

    # Scoring

    @contextmanager
    def scoring(self, inputs: dict[str, Any]) -> Iterator[None]:
        """Say inside whose rows are scored."""
        self._inputs = inputs
        try:
            yield
        finally:
            self._inputs = None

    def scored(
        self, score: Callable[..., Any], model: Any, input_ids: Any, attention_mask: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Call TRL's scoring, for the rows of each adapter with that adapter.

        Whose rows they are is known inside `scoring`.
        """
        agents = self._agents()
        if not self.split or agents is None:
            return score(model, input_ids, attention_mask, *args, **kwargs)
        logps = entropies = None
        for index, role in enumerate(self.roles):
            places = (agents == index).nonzero().squeeze(1)
            if not len(places):
                continue
            with self.speaking(role):
                part = score(model, input_ids[places], attention_mask[places], *args, **kwargs)
            logps = _placed(logps, part[0], places, len(agents))
            entropies = _placed(entropies, part[1], places, len(agents))
        return logps, entropies, None

    def _agents(self) -> torch.Tensor | None:
        return None if self._inputs is None else self._inputs.get("agent")

    def log_entropy(self, entropies: torch.Tensor | None) -> None:
        """Log the entropy of each role's own tokens, while the loss is computed."""
        agents = self._agents()
        if agents is None or entropies is None or self._inputs is None or "tool_mask" not in self._inputs:
            return
        mask = self._inputs["completion_mask"] * self._inputs["tool_mask"]
        own = [mask * (agents == index).unsqueeze(1) for index in range(len(self.roles))]
        sums = torch.stack([torch.stack([(entropies.detach() * part).sum(), part.sum()]) for part in own])
        for role, (total, count) in zip(self.roles, self.trainer.accelerator.reduce(sums, "sum").tolist(), strict=True):
            if count:
                self.trainer._metrics["train"][f"agents/{role}/entropy"].append(total / count)


def use_role_adapters(model: Any, adapter: str | None) -> Callable[[str], AbstractContextManager[None]]:
    """Load the adapters of single roles that lie beside a run's own; returns what chooses a role's.

    Args:
        model (`PeftModel` or `PreTrainedModel`): with the run's own adapter, if there is one.
        adapter (`str`, *optional*): folder of it; `<role>/adapter_config.json` in it is a role's own.
    """
    folders = (
        {} if adapter is None else {path.parent.name: path for path in Path(adapter).glob("*/adapter_config.json")}
    )
    roles = [name for name in folders if not name.startswith(("checkpoint-", "best", "iteration-"))]
    for name in roles:
        model.load_adapter(str(folders[name].parent), name)

    @contextmanager
    def use(role: str) -> Iterator[None]:
        if roles:
            model.set_adapter(role if role in roles else DEFAULT)
        yield

    return use


def _placed(whole: torch.Tensor | None, part: torch.Tensor | None, places: torch.Tensor, count: int) -> Any:
    if part is None:
        return None
    if whole is None:
        whole = part.new_zeros((count, *part.shape[1:]))
    return whole.index_copy(0, places, part)
