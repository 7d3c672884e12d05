"""Which LoRA speaks for which role: one for all, or one each over one base.

With one each, the first trained role has PEFT's adapter `default` and every further one an adapter of its name, so that
a run's folder holds what PEFT expects: `adapter_model.safetensors`, and `<role>/adapter_model.safetensors` beside it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from httpx2 import HTTPError  # comes with huggingface_hub
from peft import PeftModel

from aflow_ops.errors import UsageError
from recipes.policy.loading import policy_file
from recipes.run.role_adapters import (
    DEFAULT,
    NAMES_FILE,
    RESERVED,
    RoleAdapters,
    is_split,
    own_adapters,
    read_role_adapters,
)
from recipes.training.agent_play import Turns


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
        others (`Sequence[str]`): those that the policy plays too and that do not train.

    Raises:
        UsageError: adapters of their own where that cannot work.
    """

    def __init__(self, trainer: Any, adapters: str, roles: Sequence[str], others: Sequence[str] = ()) -> None:
        self.trainer, self.roles = trainer, list(roles)
        self.names = adapter_names(adapters, roles)
        self.split = adapters == "per_agent"
        self.table: RoleAdapters = {**self.names, **dict.fromkeys(others, None if self.split else DEFAULT)}
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
            ("DeepSpeed or FSDP (plain data parallel does)", trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled),
            ("--use_vllm", trainer.use_vllm),
            ("activation_checkpointing", trainer.args.activation_checkpointing),
        ):
            if wrong:
                raise UsageError(f"--adapters per_agent does not work with {flag}; use --adapters shared")
        for role in self.roles[1:]:
            if role in RESERVED:
                raise UsageError(f"--adapters per_agent: a role {role!r} cannot have an adapter; call it otherwise")

    @property
    def model(self) -> Any:
        """The policy with its adapters."""
        return self.trainer.accelerator.unwrap_model(self.trainer.model)

    def enable(self) -> None:
        """Have every adapter train; PEFT turns off the gradient of all that are not in use."""
        if self.split:
            for name in self.names.values():
                for parameter in self._parameters(name):
                    parameter.requires_grad_(True)

    def _parameters(self, adapter: str) -> list[torch.nn.Parameter]:
        """The parameters of one adapter, in order: LoRA's, and those of whole modules that are saved with it."""
        part, kinds = f".{adapter}.", ("lora_", ".modules_to_save.")
        return [each for name, each in self.model.named_parameters() if part in name and any(k in name for k in kinds)]

    @contextmanager
    def speaking(self, name: str | None) -> Iterator[None]:
        """Use an adapter inside, or none: a role that does not train is played by the base."""
        if not self.split:
            yield
            return
        try:
            with self.model.disable_adapter() if name is None else nullcontext(self.model.set_adapter(name)):
                yield
        finally:
            self.model.set_adapter(DEFAULT)
            self.enable()

    def written(self, roles: Sequence[str], prompts: Sequence[list[int]]) -> Turns:
        """Sample the next turn of each conversation: in one batch, or in one for each adapter."""
        return self.by_adapter(roles, prompts, lambda batch: self.trainer._generate_single_turn(batch, None, {}, 1))

    def by_adapter(
        self, roles: Sequence[str], prompts: Sequence[list[int]], sample: Callable[[list[list[int]]], Turns]
    ) -> Turns:
        """Sample with each role's adapter.

        Args:
            roles (`Sequence[str]`): whose turns.
            prompts (`Sequence[list[int]]`): tokens of each conversation.
            sample (`Callable`): given prompts, returns the tokens that follow and their log-probabilities or `None`.
        """
        if not self.split:
            return sample(list(prompts))
        ids: list[list[int]] = [[] for _ in prompts]
        names = [self.names.get(role) for role in roles]
        for name in dict.fromkeys(names):
            places = [at for at, its in enumerate(names) if its == name]
            with self.speaking(name):
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
        model = self.model  # not what wraps it for several processes, which expects one forward pass of all parameters
        logps = entropies = None
        for index, role in enumerate(self.roles):
            places = (agents == index).nonzero().squeeze(1)
            if not len(places):
                continue
            with self.speaking(self.names[role]):
                part = score(model, input_ids[places], attention_mask[places], *args, **kwargs)
            logps = _placed(logps, part[0], places, len(agents))
            entropies = _placed(entropies, part[1], places, len(agents))
        return logps, entropies, None

    def weighted(self, logps: torch.Tensor) -> torch.Tensor:
        """Return the log-probabilities as they are, with gradients that count as much as `row_weight` of a loss says.

        The loss knows the policy through them alone, its KL term included.
        """
        weights = None if self._inputs is None else self._inputs.get("row_weight")
        if weights is None:
            return logps
        fixed = logps.detach()
        return fixed + weights.unsqueeze(1) * (logps - fixed)

    def _agents(self) -> torch.Tensor | None:
        return None if self._inputs is None else self._inputs.get("agent")

    def finish_gradients(self, roles: Sequence[str]) -> None:
        """Have processes agree on the gradient of a step, and leave the adapters alone whose turn it is not.

        Args:
            roles (`Sequence[str]`): those that train in this step. An optimizer would move the others by its momentum.
        """
        if not self.split:
            return
        now = {self.names[role] for role in roles}
        for name in self.names.values():
            if name not in now:
                for parameter in self._parameters(name):
                    parameter.grad = None
            elif self.trainer.accelerator.num_processes > 1:
                self._average_gradients(self._parameters(name))

    def _average_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Average gradients over processes; a process in which the adapter had no row has none."""
        there = parameters[0].grad is not None
        flat = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters])
        summed = self.trainer.accelerator.reduce(torch.cat([flat, flat.new_tensor([float(there)])]), "mean")
        if summed[-1] > 0:
            for parameter, mean in zip(parameters, summed[:-1].split([p.numel() for p in parameters]), strict=True):
                parameter.grad = mean.view_as(parameter)

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
        adapter (`str`, *optional*): its folder or Hub name; without `agents.json` in it, every role has this one.

    Raises:
        UsageError: one of them cannot be loaded; says why.
    """
    names = {} if adapter is None else read_role_adapters(policy_file(adapter, NAMES_FILE))
    for name in own_adapters(names):
        try:
            if Path(str(adapter)).is_dir():
                model.load_adapter(str(Path(str(adapter)) / name), name)
            else:
                model.load_adapter(adapter, name, subfolder=name)
        except (OSError, HTTPError, ValueError, RuntimeError) as error:
            raise UsageError(f"--adapter {adapter}: the adapter of {name} cannot be loaded: {error}") from error
    return partial(_use, model, names)


@contextmanager
def _use(model: Any, names: RoleAdapters, role: str) -> Iterator[None]:
    """Have a role's adapter in use inside."""
    name = names.get(role)
    if not is_split(names):
        yield
    elif name is None:
        with model.disable_adapter():
            yield
    else:
        model.set_adapter(name)
        yield


def _placed(whole: torch.Tensor | None, part: torch.Tensor | None, places: torch.Tensor, count: int) -> Any:
    if part is None:
        return None
    if whole is None:
        whole = part.new_zeros((count, *part.shape[1:]))
    return whole.index_copy(0, places, part)
