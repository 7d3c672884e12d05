"""A node of the search: a workflow with its prompts, made by one modification of its parent, and how it scored.

Example row of `nodes.jsonl`, shortened:

    {"id": 2, "parent": 0, "round": 1, "origin": "grammar", "modification": "vote over two drafts",
     "workflow": "async def workflow(problem): ...", "prompts": {}, "status": "ok", "error": null,
     "validation": {"n": 12, "repeats": 1, "reward": 0.61, "correct": 0.5, "std": 0.0, "ci95": [0.4, 0.8]},
     "per_problem": {"p1": [1.0], "p2": [0.2]}, "unscored": {}, "failed": {},
     "tokens": {"optimizer": 0, "executor": 5120},
     "cost_usd": {"optimizer": 0.0, "executor": 0.0}, "seconds": 0.0, "attempts": []}
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, Literal

Origin = Literal["root", "openai", "policy", "grammar", "import"]
Status = Literal["ok", "rejected", "crashed"]
Objective = Literal["reward", "correct"]
Form = Literal["design", "edit"]
_TOKENS = ("completion_ids", "logprobs")


@dataclass(frozen=True)
class Sample:
    """One run of a workflow on one problem.

    Args:
        reward (`float`): in [0, 1].
        correct (`bool`): whether the answer was right.
        outcome (`str`): the trace's outcome: `"ok"`, `"policy_error"` or `"timeout"`.
        error (`str`, *optional*): why the run is not `"ok"`, as `"class: message"`.
        answer (`str`, *optional*): what the workflow answered.
        calls (`tuple[str, ...]`): the operators that were called, each with what it returned, shortened.
        tokens (`int`): executor tokens.
        cost_usd (`float`): price of these tokens, whether they were paid for or came from the cache.
    """

    reward: float
    correct: bool
    outcome: str
    error: str | None = None
    answer: str | None = None
    calls: tuple[str, ...] = ()
    tokens: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True)
class Spend:
    """Tokens or dollars, for the model that proposes workflows and for the one that answers inside them apart."""

    optimizer: float = 0.0
    executor: float = 0.0

    def __add__(self, other: "Spend") -> "Spend":
        return Spend(self.optimizer + other.optimizer, self.executor + other.executor)


@dataclass(frozen=True)
class Validation:
    """What the runs of one node on the validation slice add up to.

    Args:
        n (`int`): problems that it was run on; fewer than the slice where it was given up early.
        repeats (`int`): runs of each problem.
        reward (`float`): mean reward over problems.
        correct (`float`): share of right answers.
        std (`float`): standard deviation of the mean reward between repeats; 0 with one repeat.
        ci95 (`tuple[float, float]`): 95 % normal interval of the mean reward over problems; of one problem, which says
            nothing of others, all there is.
    """

    n: int
    repeats: int
    reward: float
    correct: float
    std: float
    ci95: tuple[float, float]


def validation_of(samples: Mapping[str, Sequence[Sample]]) -> Validation:
    """Add up a node's runs.

    Args:
        samples (`Mapping[str, Sequence[Sample]]`): by problem, each with the same number of repeats, at least one.

    Raises:
        ValueError: there are no samples, or problems have different numbers of them.
    """
    counts = {len(runs) for runs in samples.values()}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(f"every problem needs the same number of samples, at least one; got {sorted(counts)}")
    (repeats,) = counts
    means = [fmean(sample.reward for sample in runs) for runs in samples.values()]
    rounds = [fmean(runs[index].reward for runs in samples.values()) for index in range(repeats)]
    mean = fmean(means)
    half = 1.96 * stdev(means) / math.sqrt(len(means)) if len(means) > 1 else 1.0
    correct = fmean(sample.correct for runs in samples.values() for sample in runs)
    std = stdev(rounds) if repeats > 1 else 0.0
    return Validation(len(means), repeats, mean, correct, std, (max(0.0, mean - half), min(1.0, mean + half)))


@dataclass(frozen=True)
class Attempt:
    """One reply of a model that was asked for a workflow, as training needs it.

    Args:
        messages (`tuple[Mapping[str, str], ...]`): what it was asked.
        completion (`str`): all that it wrote.
        form (`str`): `"edit"` when it was asked to modify a workflow, `"design"` when it was asked as the policy is.
        problem (`str`, *optional*): id of the problem that a design is for.
        error (`str`, *optional*): why it was not accepted.
        policy (`Mapping[str, Any]`, *optional*): `model`, `adapter` and `step`, where a policy wrote it.
        completion_ids (`tuple[int, ...]`, *optional*): its tokens, from a policy that says them.
        logprobs (`tuple[float, ...]`, *optional*): their log-probabilities in nats, at the sampling's temperature.
    """

    messages: tuple[Mapping[str, str], ...]
    completion: str
    form: Form = "edit"
    problem: str | None = None
    error: str | None = None
    policy: Mapping[str, Any] | None = None
    completion_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None

    def to_row(self) -> dict[str, Any]:
        """Return the JSON form; `Attempt.from_row` reads it back."""
        lists = {name: None if (value := getattr(self, name)) is None else list(value) for name in _TOKENS}
        return {**vars(self), "messages": [dict(message) for message in self.messages], **lists}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Attempt":
        """Read one; raises `TypeError` or `KeyError` when it is none."""
        tokens = {name: None if row[name] is None else tuple(row[name]) for name in _TOKENS}
        return cls(**{**row, "messages": tuple(row["messages"]), **tokens})


@dataclass(frozen=True)
class Node:
    """One workflow that the search has tried, or has refused to try.

    Args:
        id (`int`): position in the list of nodes, from 0.
        parent (`int`, *optional*): the node that was modified; `None` for a root.
        round (`int`): the round that made it; 0 for roots.
        origin (`str`): who proposed it.
        modification (`str`): what was changed, in a sentence.
        workflow (`str`): its text; for a rejected proposal whatever could be read, possibly empty.
        prompts (`Mapping[str, Any]`): what `prompt_custom.NAME` is, complete: text, or lists and dicts of it.
        status (`str`): `"ok"`, `"rejected"` (nothing was run) or `"crashed"` (every run ended in an error).
        error (`str`, *optional*): why it was rejected, or its most frequent error.
        validation (`Validation`, *optional*): `None` when nothing was run.
        per_problem (`Mapping[str, tuple[float, ...]]`): rewards of the repeats, by problem.
        unscored (`Mapping[str, str]`): problems on which the executor refuses a call of the workflow's, with what it
            says; they have no score.
        failed (`Mapping[str, str]`): problems on which no run ended well, each with its outcome: `"timeout"` or
            `"policy_error"`.
        tokens (`Spend`): tokens spent on proposing and running it.
        cost_usd (`Spend`): likewise, dollars.
        seconds (`float`): wall seconds of its evaluation; 0 where runs must be comparable byte for byte.
        attempts (`tuple[Attempt, ...]`): what a model wrote for it, the accepted reply last; none of the grammar's.
    """

    id: int
    parent: int | None
    round: int
    origin: Origin
    modification: str
    workflow: str
    prompts: Mapping[str, Any] = field(default_factory=dict)
    status: Status = "ok"
    error: str | None = None
    validation: Validation | None = None
    per_problem: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    unscored: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    tokens: Spend = Spend()
    cost_usd: Spend = Spend()
    seconds: float = 0.0
    attempts: tuple[Attempt, ...] = ()

    def score(self, objective: Objective = "reward", price_per_usd: float = 0.0) -> float:
        """Return what the search maximises: mean reward or share right, less a price for a run's dollars.

        Args:
            objective (`str`): `"reward"` or `"correct"`.
            price_per_usd (`float`): what a dollar a problem costs in units of the objective.

        Raises:
            ValueError: the node has no score.
        """
        if self.validation is None:
            raise ValueError(f"node {self.id} is {self.status} and has no score")
        value = self.validation.reward if objective == "reward" else self.validation.correct
        return value - price_per_usd * self.usd_per_problem

    @property
    def usd_per_problem(self) -> float:
        """Executor dollars of one run, the mean over its runs."""
        return self.cost_usd.executor / self._runs if self._runs else 0.0

    @property
    def tokens_per_run(self) -> float:
        """Executor tokens of one run, the mean over its runs."""
        return self.tokens.executor / self._runs if self._runs else 0.0

    @property
    def _runs(self) -> int:
        return 0 if self.validation is None else self.validation.n * self.validation.repeats

    def to_row(self) -> dict[str, Any]:
        """Return the JSON form; `Node.from_row` reads it back."""
        validation = None
        if self.validation is not None:
            validation = {**vars(self.validation), "ci95": list(self.validation.ci95)}
        return {
            **vars(self),
            "prompts": {name: _as_json(value) for name, value in self.prompts.items()},
            "validation": validation,
            "per_problem": {problem: list(rewards) for problem, rewards in self.per_problem.items()},
            "unscored": dict(self.unscored),
            "failed": dict(self.failed),
            "tokens": vars(self.tokens),
            "cost_usd": vars(self.cost_usd),
            "attempts": [attempt.to_row() for attempt in self.attempts],
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Node":
        """Read one row of `nodes.jsonl`.

        Raises:
            ValueError: a key is missing or unknown.
        """
        try:
            found = row["validation"]
            validation = None if found is None else Validation(**{**found, "ci95": tuple(found["ci95"])})
            parts = {
                "prompts": {name: _from_json(value) for name, value in row["prompts"].items()},
                "validation": validation,
                "per_problem": {problem: tuple(rewards) for problem, rewards in row["per_problem"].items()},
                "tokens": Spend(**row["tokens"]),
                "cost_usd": Spend(**row["cost_usd"]),
                "attempts": tuple(map(Attempt.from_row, row.get("attempts", ()))),
            }
            return cls(**{**row, **parts})
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"no row of a search's nodes.jsonl ({type(error).__name__}: {error})") from None


# Stands in a row for a dict whose keys are not all text, which JSON cannot write.
_ITEMS = "items of a dict"


def _as_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if all(isinstance(key, str) for key in value) and _ITEMS not in value:
        return {key: _as_json(item) for key, item in value.items()}
    return {_ITEMS: [[key, _as_json(item)] for key, item in value.items()]}


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_ITEMS}:
        return {key: _from_json(item) for key, item in value[_ITEMS]}
    return {key: _from_json(item) for key, item in value.items()}
