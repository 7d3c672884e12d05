"""Trajectories: workflows that were written for problems, with what they earned; what is learnt from without running.

Example row of `trajectories.jsonl`:

    {"group": "5f1e0c2ab4d39e77", "problem": {"id": "17", "source": "gsm8k", "domain": "math"},
     "prompt": [{"role": "system", "content": "..."}, {"role": "user", "content": "What is 12 + 30 * 2?"}],
     "completion": "```python\\nasync def workflow(problem):\\n ...```", "reward": 1.0, "correct": true,
     "outcome": "ok", "node": 3, "origin": "openai", "form": "design", "policy": null, "completion_ids": null,
     "logprobs": null}

Rows of one `group` share one prompt. Gold answers and hidden tests are never in it. Two other files are read as the
same rows: `rollouts.jsonl` of a training run, and `rows.jsonl` of `scripts/evaluate.py`, whose rows have no prompt:
whoever reads them gives it.
"""

import gzip
import hashlib
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal, cast, get_args

from data.jsonl import read_row
from data.problem import DataError

Form = Literal["design", "edit"]
Outcome = Literal["ok", "policy_error", "timeout"]
Origin = Literal["root", "openai", "policy", "grammar", "import"]
Messages = tuple[Mapping[str, str], ...]
# The prompt of a row that has none; `None` when its problem is not known, and the row cannot be used.
PromptOf = Callable[[Mapping[str, Any]], Sequence[Mapping[str, str]] | None]

# What only graders may see.
_GOLD = ("answer", "aliases", "tests")


@dataclass(frozen=True)
class Trajectory:
    """One completion with what it earned.

    Args:
        group (`str`): rows of one group share one prompt.
        source (`str`): of the problem.
        id (`str`): of the problem, unique within its source.
        domain (`str`): of the problem.
        prompt (`tuple[Mapping[str, str], ...]`): chat messages that asked for it.
        completion (`str`): text that holds the workflow, or fails to.
        reward (`float`): in [0, 1], the mean where it was run several times.
        correct (`bool`): every run of it was right.
        outcome (`str`): `ok`, `policy_error` or `timeout`.
        node (`int`, *optional*): of the search that made it.
        origin (`str`): who wrote it: `root`, `openai`, `policy`, `grammar` or `import`.
        form (`str`): `design` answers the policy's own prompt, `edit` a prompt that asks to modify a workflow.
        policy (`Mapping[str, Any]`, *optional*): model, adapter and step of the policy that wrote it.
        completion_ids (`tuple[int, ...]`, *optional*): its tokens, as that policy sampled them.
        logprobs (`tuple[float, ...]`, *optional*): their log-probabilities then, in nats.
        rewards (`int`): runs that `reward` is the mean of.
    """

    group: str
    source: str
    id: str
    domain: str
    prompt: Messages
    completion: str
    reward: float
    correct: bool
    outcome: Outcome
    node: int | None = None
    origin: Origin = "import"
    form: Form = "design"
    policy: Mapping[str, Any] | None = None
    completion_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    rewards: int = 1

    @property
    def key(self) -> tuple[str, str]:
        """Source and id of the problem."""
        return self.source, self.id

    @property
    def asked(self) -> str:
        """The last message of the prompt: for a design the problem, as the policy reads it."""
        return self.prompt[-1]["content"]

    def to_row(self) -> dict[str, Any]:
        """Return the JSON form; `Trajectory.from_row` reads it back."""
        return {
            "group": self.group,
            "problem": {"id": self.id, "source": self.source, "domain": self.domain},
            "prompt": [dict(message) for message in self.prompt],
            "completion": self.completion,
            "reward": self.reward,
            "correct": self.correct,
            "outcome": self.outcome,
            "node": self.node,
            "origin": self.origin,
            "form": self.form,
            "policy": None if self.policy is None else dict(self.policy),
            "completion_ids": None if self.completion_ids is None else list(self.completion_ids),
            "logprobs": None if self.logprobs is None else list(self.logprobs),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Trajectory":
        """Check one row of `trajectories.jsonl`.

        Raises:
            ValueError: a field is missing or of the wrong type or range, or the row holds what only graders may see;
                names it.
        """
        problem = _of_type(row, "problem", Mapping)
        for name in _GOLD:
            if name in row or name in problem:
                raise ValueError(f"{name}: gold answers and hidden tests must not be in a trajectory")
        return cls(
            group=_of_type(row, "group", str),
            source=_of_type(problem, "source", str),
            id=_of_type(problem, "id", str),
            domain=_of_type(problem, "domain", str),
            prompt=_messages(row.get("prompt")),
            completion=_of_type(row, "completion", str),
            reward=_reward(row.get("reward")),
            correct=_of_type(row, "correct", bool),
            outcome=_one_of(row, "outcome", Outcome),
            node=None if row.get("node") is None else _of_type(row, "node", int),
            origin=_one_of(row, "origin", Origin),
            form=_one_of(row, "form", Form),
            policy=None if row.get("policy") is None else _of_type(row, "policy", Mapping),
            **_tokens(row),
        )


def _of_type(row: Mapping[str, Any], name: str, kind: type) -> Any:
    value = row.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{name} must be {kind.__name__}, not {value!r}")
    return value


def _name(row: Mapping[str, Any], name: str) -> str:
    """An id or the like, which may be a number."""
    value = row.get(name)
    return str(value) if isinstance(value, int) else str(_of_type(row, name, str))


def _one_of(row: Mapping[str, Any], name: str, kind: Any) -> Any:
    value = row.get(name)
    if value not in get_args(kind):
        raise ValueError(f"{name}={value!r} must be one of {', '.join(get_args(kind))}")
    return value


def _reward(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"reward={value!r} must be a number from 0 to 1")
    return float(value)


def _messages(value: Any) -> Messages:
    if not isinstance(value, list) or not value:
        raise ValueError(f"prompt must be a list of chat messages, not {value!r}")
    for message in value:
        if not isinstance(message, Mapping) or not all(
            isinstance(message.get(key), str) for key in ("role", "content")
        ):
            raise ValueError(f"prompt: {message!r} is no message with role and content")
    return tuple({"role": message["role"], "content": message["content"]} for message in value)


def _tokens(row: Mapping[str, Any]) -> dict[str, Any]:
    """Token ids and log-probabilities, as long as each other."""
    ids, logprobs = row.get("completion_ids"), row.get("logprobs")
    if ids is None and logprobs is None:
        return {}
    if not isinstance(ids, list) or not ids or not all(isinstance(i, int) and i >= 0 for i in ids):
        raise ValueError("completion_ids must be a list of token ids")
    if logprobs is None:
        return {"completion_ids": tuple(ids)}
    numbers = isinstance(logprobs, list) and all(isinstance(value, (int, float)) for value in logprobs)
    if not numbers or not all(math.isfinite(value) and value <= 0 for value in logprobs):
        raise ValueError("logprobs must be a list of finite numbers, none above 0")
    if len(logprobs) != len(ids):
        raise ValueError(f"{len(logprobs)} logprobs for {len(ids)} completion_ids")
    return {"completion_ids": tuple(ids), "logprobs": tuple(map(float, logprobs))}


# Reading


def read_trajectories(path: Path, prompt_of: PromptOf | None = None) -> list[Trajectory]:
    """Read `trajectories.jsonl`, `rollouts.jsonl` or one of its compressed parts, or `rows.jsonl` of an evaluation.

    Rows without a reward (a failure of ours) are left out: they say nothing of the workflow.

    Args:
        path (`Path`): a JSONL file, compressed if it ends in `.gz`.
        prompt_of (`PromptOf`, *optional*): the prompt of a row of an evaluation, which has none.

    Raises:
        DataError: the file cannot be read or has no row, a row is malformed, or rows of one group have different
            prompts; names the file, the line and the reason.
    """
    found: list[Trajectory] = []
    prompts: dict[str, tuple[int, Messages]] = {}
    rows = 0
    for number, line in _lines(path):
        rows += 1
        try:
            trajectory = _trajectory(read_row(line), prompt_of)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}") from None
        if trajectory is None:
            continue
        first, prompt = prompts.setdefault(trajectory.group, (number, trajectory.prompt))
        if prompt != trajectory.prompt:
            raise DataError(
                f"{path}, line {number}: group {trajectory.group!r} has another prompt in line {first}; rows of one "
                "group share one prompt"
            )
        found.append(trajectory)
    if not rows:
        raise DataError(f"{path}: no rows")
    return found


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with cast(IO[bytes], gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None


def _trajectory(row: Mapping[str, Any], prompt_of: PromptOf | None) -> Trajectory | None:
    if "group" in row or "problem" in row:
        return Trajectory.from_row(row)
    if row.get("reward") is None and "infra_error" in row:
        return None
    if row.get("replay") is not None:  # a run's own record of a row of another file
        return None
    prompt = row.get("prompt")
    if prompt is None:
        if prompt_of is None:
            raise ValueError("a row of an evaluation has no prompt: name the sources of its problems")
        prompt = prompt_of(row)
        if prompt is None:
            return None
    problem = {name: _name(row, name) for name in ("id", "source", "domain")}
    messages = _messages(list(prompt) if isinstance(prompt, tuple) else prompt)
    return Trajectory.from_row(
        {
            "group": _digest(problem["source"], problem["id"], json.dumps(messages)),
            "problem": problem,
            "prompt": list(messages),
            "completion": row.get("completion"),
            "reward": row.get("reward"),
            "correct": row.get("correct"),
            "outcome": row.get("outcome"),
            "origin": "policy" if "step" in row else "import",
            "form": "design",
        }
    )


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def regrouped(trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    """Return rows of several files with one group for each problem, form and prompt."""
    return [replace(row, group=_digest(row.source, row.id, row.form, json.dumps(row.prompt))) for row in trajectories]
