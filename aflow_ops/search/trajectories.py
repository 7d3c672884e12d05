"""Training rows: what a search tried, with what it earned (`trajectories.jsonl`)."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aflow_ops.errors import WorkflowError
from aflow_ops.language import parse_workflow
from aflow_ops.policy_prompt import PromptStyle, policy_messages
from aflow_ops.search.canonical import workflow_key
from aflow_ops.search.expand import as_completion, is_double
from aflow_ops.search.node import Attempt, Node
from aflow_ops.search.plan import without_plan
from aflow_ops.search.tree import Tree
from data.files import write_atomically
from data.problem import Problem

# The problem of an edit that was judged on several.
ALL_PROBLEMS = "all"


def write_trajectories(folder: Path, nodes: Sequence[Node], problems: Mapping[str, Problem], style: PromptStyle) -> int:
    """Write `trajectories.jsonl`. Gold answers and hidden tests are not in it.

    Args:
        folder (`Path`): of the search.
        nodes, problems, style: as for `trajectory_rows`.

    Returns:
        `int`, the number of rows.
    """
    return write_rows(folder, trajectory_rows(nodes, problems, style))


def write_rows(folder: Path, rows: Sequence[Mapping[str, Any]]) -> int:
    """Write `trajectories.jsonl`; returns the number of rows."""
    with write_atomically(folder / "trajectories.jsonl") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return len(rows)


def trajectory_rows(nodes: Sequence[Node], problems: Mapping[str, Problem], style: PromptStyle) -> list[dict[str, Any]]:
    """Return the training rows of a search.

    A row of `form: "design"` is a workflow as a completion to the policy's own prompt for one problem, with what it
    earned there; one that was refused for being there already earned what the other one did. A row of `form: "edit"` is
    what a model replied to the prompt of `edit_prompt.py`, with what the workflow in it earns on all problems (`Tree`
    has the estimate for one that was given up early); a reply that was refused earned 0. A workflow that the executor
    refused to answer has no row. Rows of one `group` share one prompt.

    Args:
        nodes (`Sequence[Node]`): of the search.
        problems (`Mapping[str, Problem]`): its validation problems, by the search's id.
        style (`str`): of the policy's prompt.
    """
    return [*_designs(nodes, problems, style), *_edits(nodes, problems)]


def _designs(nodes: Sequence[Node], problems: Mapping[str, Problem], style: PromptStyle) -> Iterator[dict[str, Any]]:
    first = Tree(nodes).keys
    for key, problem in problems.items():
        asked = policy_messages(problem.view, style)
        prompt = [{"role": str(message["role"]), "content": message["content"]} for message in asked]
        for node in nodes:
            for attempt in (attempt for attempt in node.attempts if attempt.error is not None):
                if attempt.form != "design" or attempt.problem != key:
                    continue
                double = _double(attempt, problem, nodes, first)
                if double is None:
                    yield _row(problem, prompt, node, attempt.completion, None, attempt)
                elif key in double.per_problem:
                    rewards = double.per_problem[key]
                    yield _row(problem, prompt, double, attempt.completion, rewards, attempt, _outcome(double, key))
            if key in node.per_problem:
                own = next((each for each in node.attempts if each.error is None and each.problem == key), None)
                text = completion_of(node) if own is None else own.completion
                yield _row(problem, prompt, node, text, node.per_problem[key], own, _outcome(node, key))


def _double(attempt: Attempt, problem: Problem, nodes: Sequence[Node], first: Mapping[str, int]) -> Node | None:
    """Return the node of the program that a refused design repeats; ids within errors may be of another numbering."""
    if not is_double(attempt.error):
        return None
    has_entry_point = problem.entry_point is not None
    try:
        workflow = parse_workflow(attempt.completion, domain=problem.domain, has_entry_point=has_entry_point)
    except WorkflowError:  # it fits another kind of the search's problems
        return None
    number = first.get(workflow_key(workflow.text, workflow.prompts))
    return None if number is None else next(node for node in nodes if node.id == number)


def _edits(nodes: Sequence[Node], problems: Mapping[str, Problem]) -> Iterator[dict[str, Any]]:
    tree = Tree(nodes)
    for node in nodes:
        for attempt in node.attempts:
            if attempt.form != "edit" or (attempt.error is None and _is_unknown(node)):
                continue
            judged = list(node.per_problem) or list(problems)
            problem: Problem | None = problems[judged[0]] if len(judged) == 1 else None
            means = [sum(rewards) / len(rewards) for rewards in node.per_problem.values()]
            rewards = means if attempt.error is None else None
            of = problem or list(problems.values())
            row = _row(of, attempt.messages, node, attempt.completion, rewards, attempt, _outcome(node))
            yield {**row, "reward": tree.reward(node)} if rewards and node.status == "ok" else row


def _outcome(node: Node, key: str | None = None) -> str:
    """How a node's runs on one problem ended, well if one of them did; on all of them, where none is named."""
    if key is not None and key in node.failed:
        return node.failed[key]
    if node.status == "ok":
        return "ok"
    return "timeout" if set(node.failed.values()) == {"timeout"} else "policy_error"


def _is_unknown(node: Node) -> bool:
    """Whether nothing is known of a workflow, for the executor refused to answer in it: no fault of who wrote it."""
    return bool(node.unscored) and node.status == "crashed"


def _row(
    problem: Problem | Sequence[Problem],
    prompt: Sequence[Mapping[str, str]],
    node: Node,
    completion: str,
    rewards: Sequence[float] | None,
    attempt: Attempt | None,
    outcome: str = "policy_error",
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
        "outcome": outcome if rewards else "policy_error",
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
