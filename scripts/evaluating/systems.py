"""What can be evaluated: a policy, one or several workflow files, published baselines."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aflow_ops.concurrency import gather_or_cancel
from aflow_ops.errors import UsageError
from aflow_ops.executor import ExecutorConfig, open_executor
from aflow_ops.policy_prompt import policy_messages
from aflow_ops.search.expand import as_completion
from aflow_ops.workflow_files import read_workflow_file
from data.problem import Problem
from rewards.baselines import PUBLISHED_BASELINES, published_baseline
from scripts.evaluating.journal import Journal

Advance = Callable[[int], object]


@dataclass(frozen=True)
class System:
    """One thing to evaluate.

    Args:
        name (`str`): names its folder when there are several.
        facts (`object`): what decides its completions, for the journal's fingerprint.
        text (`Callable[[Problem], str]`, *optional*): the fixed completion for a problem; `None` for a policy.
    """

    name: str
    facts: Any
    text: Callable[[Problem], str] | None


def systems(arguments: argparse.Namespace) -> list[System]:
    """Return what the command line asks to evaluate.

    Raises:
        UsageError: a workflow file cannot be read, or a folder has none.
    """
    if arguments.workflow is not None:
        files = _workflow_files(arguments.workflow)
        return [_fixed(path, name) for path, name in zip(files, _names(files, arguments.workflow), strict=True)]
    if arguments.baseline is not None:
        names = list(PUBLISHED_BASELINES) if "all" in arguments.baseline else arguments.baseline
        return [_baseline(name) for name in dict.fromkeys(names)]
    names = ("model", "adapter", "model_base_url", "temperature", "max_completion_length", "prompt_style", "seed")
    facts = {name: getattr(arguments, name) for name in names}
    weights = Path(arguments.adapter or arguments.model) / "adapter_model.safetensors"
    if weights.is_file():  # the same folder may hold another training run by now
        facts["weights"] = [weights.stat().st_size, weights.stat().st_mtime_ns]
    return [System("policy", facts, None)]


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


def _fixed(path: Path, name: str) -> System:
    found = read_workflow_file(path, "--workflow")
    text = as_completion(found.text, found.prompts)
    return System(name, text, lambda problem: text)


def _baseline(name: str) -> System:
    return System(
        name,
        PUBLISHED_BASELINES[name],
        lambda problem: published_baseline(name, problem.domain, problem.entry_point is not None),
    )


def generate(
    arguments: argparse.Namespace, samples: Sequence[Problem], mine: range, journal: Journal, advance: Advance
) -> None:
    """Let the policy write what the journal does not have, with transformers, on the GPU when there is one.

    Batches are the same in all shards, whose samples are `mine`: one that has samples of two is sampled in both.
    """
    # torch takes seconds to import and a fixed workflow does not need it
    from recipes.policy.generation import generate_completions
    from recipes.policy.loading import load_policy, trained_prompt_style
    from recipes.settings.libraries import quiet_libraries

    todo = {index for index in mine if index not in journal.completions}
    advance(len(mine) - len(todo))
    if not todo:
        return
    quiet_libraries()
    model, tokenizer = load_policy(arguments.model, arguments.adapter)
    style = arguments.prompt_style or trained_prompt_style(arguments.adapter or arguments.model) or "full"
    # A batch is sampled with a seed of its own, so batches after a stop are what they would have been.
    for start in range(0, len(samples), arguments.batch_size):
        batch = range(start, min(start + arguments.batch_size, len(samples)))
        if todo.isdisjoint(batch):
            continue
        texts = generate_completions(
            model,
            tokenizer,
            [policy_messages(samples[index].view, style) for index in batch],
            max_new_tokens=arguments.max_completion_length,
            temperature=arguments.temperature,
            batch_size=arguments.batch_size,
            seed=arguments.seed + start,
        )
        for index, text in zip(batch, texts, strict=True):
            if index in todo:
                journal.add_completion(index, text)
                advance(1)


async def ask_server(
    arguments: argparse.Namespace,
    config: ExecutorConfig,
    samples: Sequence[Problem],
    mine: range,
    journal: Journal,
    advance: Advance,
) -> None:
    """Let a policy behind an OpenAI-compatible server (vLLM, say) write what the journal does not have."""
    style = arguments.prompt_style or "full"
    async with open_executor(config) as policy:

        async def one(index: int) -> None:
            reply = await policy.complete(
                policy_messages(samples[index].view, style),
                temperature=arguments.temperature,
                max_tokens=arguments.max_completion_length,
                sample=arguments.seed * 1_000_000 + index % arguments.num_samples,
            )
            journal.add_completion(index, reply.text)
            advance(1)

        todo = [index for index in mine if index not in journal.completions]
        advance(len(mine) - len(todo))
        await gather_or_cancel(one(index) for index in todo)
