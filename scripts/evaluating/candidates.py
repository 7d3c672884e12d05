"""What can be evaluated: a policy, one or several workflow files, published baselines."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from aflow_ops.concurrency import gather_or_cancel
from aflow_ops.errors import UsageError
from aflow_ops.executor import ExecutorConfig, open_executor
from aflow_ops.policy_prompt import PromptStyle, policy_messages
from aflow_ops.search.expand import as_completion
from aflow_ops.workflow_files import read_workflow_file
from data.problem import Problem
from rewards.baselines import PUBLISHED_BASELINES, published_baseline
from scripts.evaluating.journal import Journal

Advance = Callable[[int], object]


@dataclass(frozen=True)
class PolicySettings:
    """The policy that is evaluated, and how it is sampled: by flag, for these decide what it writes.

    Args:
        model (`str`, *optional*): Hub name or folder, or name at `model_base_url`; `None` where no policy is evaluated.
        adapter (`str`, *optional*): its PEFT adapter.
        model_base_url (`str`, *optional*): the server that has it.
        temperature (`float`): at least 0.
        max_completion_length (`int`): tokens.
        prompt_style (`str`, *optional*): as it was trained, if not given.
        seed (`int`): of the sampling.
    """

    model: str | None
    adapter: str | None
    model_base_url: str | None
    temperature: float
    max_completion_length: int
    prompt_style: PromptStyle | None
    seed: int

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "PolicySettings":
        """Return what a command line says of it; the model of an adapter is the one that it names."""
        given = {setting.name: getattr(arguments, setting.name) for setting in fields(cls)}
        return cls(**{**given, "model": base_model(arguments.model, arguments.adapter)})

    @property
    def is_loaded_here(self) -> bool:
        """Whether this process loads it."""
        return self.model is not None and not self.model_base_url

    @property
    def place(self) -> str:
        """Where its run left word of how it was trained: the adapter, else the model."""
        return self.adapter or str(self.model)


@dataclass(frozen=True)
class Candidate:
    """One thing to evaluate.

    Args:
        name (`str`): names its folder when there are several.
        facts (`object`): what decides its completions, for the journal's fingerprint.
        text (`Callable[[Problem], str]`, *optional*): the fixed completion for a problem; `None` for a policy.
    """

    name: str
    facts: Any
    text: Callable[[Problem], str] | None


def candidates(workflow: Path | None, baselines: Sequence[str] | None, policy: PolicySettings) -> list[Candidate]:
    """Return what is evaluated: fixed workflows where some are given, else the policy.

    Args:
        workflow (`Path`, *optional*): a file, or a folder of them.
        baselines (`Sequence[str]`, *optional*): published ones by name; `all` is every one.
        policy (`PolicySettings`): the policy.

    Raises:
        UsageError: a workflow file cannot be read, or a folder has none.
    """
    if workflow is not None:
        files = _workflow_files(workflow)
        return [_fixed(path, name) for path, name in zip(files, _names(files, workflow), strict=True)]
    if baselines is not None:
        names = list(PUBLISHED_BASELINES) if "all" in baselines else baselines
        return [_baseline(name) for name in dict.fromkeys(names)]
    facts = asdict(policy)
    weights = Path(policy.place) / "adapter_model.safetensors"
    if weights.is_file():  # the same folder may hold another training run by now
        facts["weights"] = [weights.stat().st_size, weights.stat().st_mtime_ns]
    return [Candidate("policy", facts, None)]


def base_model(model: str | None, adapter: str | None) -> str | None:
    """Return the policy's model: the one that is named, else the one that the adapter names.

    Raises:
        UsageError: there is no such adapter, or it does not say.
    """
    if adapter is None or model is not None:
        return model
    # torch takes seconds to import and a fixed workflow does not need it
    from recipes.policy.loading import base_model_of

    return base_model_of(adapter)


def _workflow_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.suffix in (".py", ".txt", ".dsl") and file.is_file())
    files = [file for file in files if file.name not in ("__init__.py", "prompt.py")]
    if not files:
        raise UsageError(f"--workflow {path}: the folder has no workflow (.py, .txt, .dsl)")
    return files


def _names(files: Sequence[Path], given: Path) -> list[str]:
    """Name files by where they lie in the folder given, AFlow's own being all called graph.py; no name comes twice."""
    if not given.is_dir():
        return [given.stem]
    parts = [path.relative_to(given) for path in files]
    names = ["_".join(part.with_suffix("").parts) for part in parts]
    names = [name if names.count(name) == 1 else "_".join(part.parts) for name, part in zip(names, parts, strict=True)]
    return [f"{name}_{index}" if names.count(name) > 1 else name for index, name in enumerate(names)]


def _fixed(path: Path, name: str) -> Candidate:
    found = read_workflow_file(path, "--workflow")
    text = as_completion(found.text, found.prompts)
    return Candidate(name, text, lambda problem: text)


def _baseline(name: str) -> Candidate:
    return Candidate(
        name,
        PUBLISHED_BASELINES[name],
        lambda problem: published_baseline(name, problem.domain, problem.entry_point is not None),
    )


def generate(
    policy: PolicySettings,
    samples: Sequence[Problem],
    mine: range,
    journal: Journal,
    advance: Advance,
    batch_size: int,
) -> None:
    """Let the policy write what the journal does not have, with transformers, on the GPU when there is one.

    Batches are the same in all shards, whose samples are `mine`: one that has samples of two is sampled in both.
    """
    # torch takes seconds to import and a fixed workflow does not need it
    from recipes.policy.generation import generate_completions
    from recipes.policy.loading import load_policy, trained_prompt_style, trained_template_kwargs
    from recipes.settings.libraries import quiet_libraries

    todo = {index for index in mine if index not in journal.completions}
    advance(len(mine) - len(todo))
    if not todo:
        return
    quiet_libraries()
    model, tokenizer = load_policy(str(policy.model), policy.adapter)
    style = policy.prompt_style or trained_prompt_style(policy.place) or "full"
    told = trained_template_kwargs(policy.place)
    # A batch is sampled with a seed of its own, so batches after a stop are what they would have been.
    for start in range(0, len(samples), batch_size):
        batch = range(start, min(start + batch_size, len(samples)))
        if todo.isdisjoint(batch):
            continue
        texts = generate_completions(
            model,
            tokenizer,
            [policy_messages(samples[index].view, style) for index in batch],
            max_new_tokens=policy.max_completion_length,
            temperature=policy.temperature,
            batch_size=batch_size,
            seed=policy.seed + start,
            chat_template_kwargs=told,
        )
        for index, text in zip(batch, texts, strict=True):
            if index in todo:
                journal.add_completion(index, text)
                advance(1)


async def ask_server(
    policy: PolicySettings,
    executor: ExecutorConfig,
    samples: Sequence[Problem],
    mine: range,
    journal: Journal,
    advance: Advance,
    repeats: int,
) -> None:
    """Let a policy behind an OpenAI-compatible server (vLLM, say) write what the journal does not have.

    Args:
        policy (`PolicySettings`): the policy.
        executor (`ExecutorConfig`): whose limits hold for its server too.
        samples (`Sequence[Problem]`): of all shards; each problem's follow each other.
        mine (`range`): those of this one.
        journal (`Journal`): keeps what is written.
        advance (`Callable`): is told how many there are more.
        repeats (`int`): samples of a problem.
    """
    config = replace(
        executor,
        executor="openai",
        executor_model=str(policy.model),
        executor_base_url=policy.model_base_url,
        executor_budget_usd=0.0,  # the policy's server has no price that is known here
        executor_price=None,
    )
    style = policy.prompt_style or "full"
    async with open_executor(config) as server:

        async def one(index: int) -> None:
            reply = await server.complete(
                policy_messages(samples[index].view, style),
                temperature=policy.temperature,
                max_tokens=policy.max_completion_length,
                sample=policy.seed * 1_000_000 + index % repeats,
            )
            journal.add_completion(index, reply.text)
            advance(1)

        todo = [index for index in mine if index not in journal.completions]
        advance(len(mine) - len(todo))
        await gather_or_cancel(one(index) for index in todo)
