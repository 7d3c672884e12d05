"""What running a workflow leaves behind: every operator call, what it cost, and how it ended."""

from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["ok", "policy_error", "timeout", "infra_error"]
# What ran the workflow's code: the first ring or the second.
Interpreter = Literal["monty", "cpython"]


@dataclass(frozen=True)
class TraceError:
    """Class and message of the error that ended a run, as in `{"class": "TypeError", "message": "..."}`."""

    kind: str
    message: str

    def to_dict(self) -> dict[str, str]:
        """Return the JSON form."""
        return {"class": self.kind, "message": self.message}


@dataclass(frozen=True)
class OperatorCall:
    """One operator call of a workflow.

    Args:
        operator (`str`): class name of the operator, e.g. `"ScEnsemble"`.
        args (`dict[str, Any]`): its arguments by name.
        output (`Any`): what it returned to the workflow (JSON-serialisable), `None` when it raised.
        prompt_tokens (`int`): executor prompt tokens of all its executor calls.
        completion_tokens (`int`): likewise, completion tokens.
        cost_usd (`float`): likewise, price in USD; 0 for cached replies.
        seconds (`float`): wall time.
        cached (`bool`): whether every executor reply came from the cache (false when it made no executor call).
        error (`str`, *optional*): the error that it raised into the workflow.
        replies (`int`): executor calls it made.
        improved (`tuple[str, str]`, *optional*): the draft that it was given and what it made of it, whole, where the
            operator improves drafts; `args` and `output` hold long texts without their middle. Not written down.
    """

    operator: str
    args: dict[str, Any]
    output: Any
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    seconds: float
    cached: bool
    error: str | None = None
    replies: int = 0
    improved: tuple[str, str] | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {name: value for name, value in vars(self).items() if name != "improved"}


@dataclass(frozen=True)
class Trace:
    """The record of one workflow run.

    Args:
        answer (`str`, *optional*): the workflow's answer; `None` unless `outcome` is `"ok"`.
        outcome (`str`): `"ok"`, `"policy_error"` (raised, looped, wrong operator use), `"timeout"` (the whole-workflow
            deadline) or `"infra_error"` (executor unreachable, sandbox lost, budget spent).
        error (`TraceError`, *optional*): why it is not `"ok"`.
        calls (`tuple[OperatorCall, ...]`): operator calls in order of their start.
        seconds (`float`): wall time of the run.
        lost_seconds (`float`): the part of it in which it waited for retries, rate limits, a slot or an outage.
        interpreter (`str`): what ran its code: `"monty"`, the first ring, or `"cpython"` in the sandbox, the second.
    """

    answer: str | None
    outcome: Outcome
    error: TraceError | None = None
    calls: tuple[OperatorCall, ...] = field(default_factory=tuple)
    seconds: float = 0.0
    lost_seconds: float = 0.0
    interpreter: Interpreter = "monty"

    @property
    def prompt_tokens(self) -> int:
        """Executor prompt tokens over all calls."""
        return sum(call.prompt_tokens for call in self.calls)

    @property
    def completion_tokens(self) -> int:
        """Executor completion tokens over all calls."""
        return sum(call.completion_tokens for call in self.calls)

    @property
    def tokens(self) -> int:
        """Executor tokens over all calls."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def cost_usd(self) -> float:
        """Price of the run in USD."""
        return sum(call.cost_usd for call in self.calls)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, with the keys of `scripts/run_workflow.py --json`."""
        return {
            "answer": self.answer,
            "outcome": self.outcome,
            "error": self.error.to_dict() if self.error else None,
            "calls": [call.to_dict() for call in self.calls],
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost_usd": self.cost_usd,
            "seconds": self.seconds,
            "lost_seconds": self.lost_seconds,
            "interpreter": self.interpreter,
        }
