"""Training rows: what a search tried, with what it earned (`trajectories.jsonl`)."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aflow_ops.policy_prompt import PromptStyle, policy_messages
from aflow_ops.search.expand import as_completion
from aflow_ops.search.node import Attempt, Node
from aflow_ops.search.plan import without_plan
from data.files import write_atomically
from data.problem import Problem

# The problem of an edit that was judged on several.
ALL_PROBLEMS = "all"


def write_trajectories(folder: Path, nodes: Sequence[Node], problems: Mapping[str, Problem], style: PromptStyle) -> int:
    """Write `trajectories.jsonl`. Gold answers and hidden tests are not in it.

    A row of `form: "design"` is a workflow as a completion to the policy's own prompt for one problem, with what it
    earned there. A row of `form: "edit"` is what a model replied to the prompt of `edit_prompt.py`, with what the
    workflow in it earned on all its problems; a reply that was refused earned 0. Rows of one `group` share one prompt.

    Args:
        folder (`Path`): of the search.
        nodes (`Sequence[Node]`): of the search.
        problems (`Mapping[str, Problem]`): its validation problems, by the search's id.
        style (`str`): of the policy's prompt.

    Returns:
        `int`, the number of rows.
    """
    rows = [*_designs(nodes, problems, style), *_edits(nodes, problems)]
    with write_atomically(folder / "trajectories.jsonl") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return len(rows)


def _designs(nodes: Sequence[Node], problems: Mapping[str, Problem], style: PromptStyle) -> Iterator[dict[str, Any]]:
    for key, problem in problems.items():
        prompt = policy_messages(problem.view, style)
        for node in nodes:
            for attempt in (attempt for attempt in node.attempts if attempt.error is not None):
                if attempt.form == "design" and attempt.problem == key:
                    yield _row(problem, prompt, node, attempt.completion, None, attempt)
            if key in node.per_problem:
                own = next((each for each in node.attempts if each.error is None and each.problem == key), None)
                text = completion_of(node) if own is None else own.completion
                yield _row(problem, prompt, node, text, node.per_problem[key], own)


def _edits(nodes: Sequence[Node], problems: Mapping[str, Problem]) -> Iterator[dict[str, Any]]:
    for node in nodes:
        for attempt in node.attempts:
            if attempt.form != "edit":
                continue
            judged = list(node.per_problem) or list(problems)
            problem: Problem | None = problems[judged[0]] if len(judged) == 1 else None
            means = [sum(rewards) / len(rewards) for rewards in node.per_problem.values()]
            rewards = means if attempt.error is None else None
            yield _row(problem or list(problems.values()), attempt.messages, node, attempt.completion, rewards, attempt)


def _row(
    problem: Problem | Sequence[Problem],
    prompt: Sequence[Mapping[str, str]],
    node: Node,
    completion: str,
    rewards: Sequence[float] | None,
    attempt: Attempt | None,
) -> dict[str, Any]:
    said = json.dumps([[message["role"], message["content"]] for message in prompt])
    ids, logprobs = (None, None) if attempt is None else (attempt.completion_ids, attempt.logprobs)
    return {
        "group": hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()[:16],
        "problem": _named(problem),
        "prompt": [dict(message) for message in prompt],
        "completion": completion,
        "reward": sum(rewards) / len(rewards) if rewards else 0.0,
        "correct": bool(rewards) and min(rewards or [0.0]) >= 1.0,
        "outcome": "ok" if rewards and node.status == "ok" else "policy_error",
        "node": node.id,
        "origin": node.origin,
        "form": "design" if attempt is None else attempt.form,
        "policy": None if attempt is None else attempt.policy,
        "completion_ids": None if ids is None else list(ids),
        "logprobs": None if logprobs is None else list(logprobs),
    }


def _named(problem: Problem | Sequence[Problem]) -> dict[str, str]:
    if isinstance(problem, Problem):
        return {"id": problem.id, "source": problem.source, "domain": problem.domain}
    sources, domains = (sorted({getattr(each, name) for each in problem}) for name in ("source", "domain"))
    return {"id": ALL_PROBLEMS, "source": "+".join(sources), "domain": "+".join(domains)}


def completion_of(node: Node) -> str:
    """Return the node's workflow as the policy would write it."""
    text = without_plan(node.workflow)
    return as_completion(text, node.prompts) if node.prompts else f"```python\n{text}\n```"
