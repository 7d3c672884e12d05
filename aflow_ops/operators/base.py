"""What an operator is: a small class with one `async __call__`, whose signature and docstring are its whole interface.

The checker reads argument names from `__call__`, the policy's prompt is built from `summary` and `returns`, the runtime
makes one instance per call. An operator talks to the world through its `OperatorContext` only.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from aflow_ops.executor.types import Message
from aflow_ops.operators.prompt import load_prompts
from aflow_ops.sandbox import RunProgram
from data.problem import Domain, ProblemView

# AFlow's workflows pass these to operators of their own versions; here they mean nothing.
IGNORED_ARGUMENTS = frozenset({"question_id", "_mode"})


class Ask(Protocol):
    """The metered door to the executor: like `Executor.complete`, with the sample index kept by the runtime."""

    async def __call__(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float | None = None,
        stop: Sequence[str] = (),
    ) -> str:
        """Return the reply's text; tokens and cost are booked to the running operator call."""
        ...


@dataclass(frozen=True)
class OperatorContext:
    """What one operator call may use.

    Args:
        problem (`ProblemView`): the problem that the workflow runs on: its public tests, its entry point.
        ask (`Ask`): the executor.
        run_code (`RunProgram`): the sandbox, where code that the executor wrote is run.
        prompt_set (`str`): which prompts to use, `"standard"` or `"small"`.
        options (`dict[str, Any]`): what the workflow passed to the operator's constructor, e.g. `vote_count`.
    """

    problem: ProblemView
    ask: Ask
    run_code: RunProgram
    prompt_set: str
    options: dict[str, Any]


class Operator(ABC):
    """Base of the ten operators.

    Class attributes:
        summary: one line for the policy's prompt: what it does and when it helps.
        returns: keys of the returned dict, in order; the first text key is the operator's main output.
        main: the key that stands for the result where a workflow passes or returns the whole dict.
        domains: where it makes sense, by default everywhere; the checker rejects it elsewhere.
        needs_entry_point: only for problems with an entry point.
    """

    summary: ClassVar[str]
    returns: ClassVar[tuple[str, ...]]
    main: ClassVar[str]
    domains: ClassVar[tuple[Domain, ...] | None] = None
    needs_entry_point: ClassVar[bool] = False

    def __init__(self, context: OperatorContext) -> None:
        self.context = context

    @abstractmethod
    async def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run the operator. Subclasses name their arguments."""

    async def ask(self, prompt: str, **fields: str) -> str:
        """Return the executor's reply to one of the operator prompts.

        Args:
            prompt (`str`): name of the prompt in the context's prompt set.
            fields (`str`): text for the prompt's places.
        """
        chosen = load_prompts(self.context.prompt_set)[prompt]
        return await self.context.ask(
            chosen.messages(fields),
            max_tokens=chosen.max_tokens,
            temperature=chosen.temperature,
            stop=chosen.stop,
        )

    @classmethod
    def signature(cls) -> inspect.Signature:
        """The arguments a workflow may pass, `self` left out."""
        signature = inspect.signature(cls.__call__)
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    @classmethod
    def misfit(cls, domain: Domain, has_entry_point: bool) -> str | None:
        """Tell why a workflow for such a problem may not call the operator; `None` when it may."""
        if cls.needs_entry_point and not has_entry_point:
            return f"{cls.__name__} needs an entry point, and this {domain} problem has none"
        if cls.domains is not None and domain not in cls.domains:
            return f"{cls.__name__} is for {', '.join(cls.domains)} problems, not {domain}"
        return None

    @classmethod
    def snake_name(cls) -> str:
        """Name of the operator in the short form, e.g. `sc_ensemble`."""
        return "".join("_" + c.lower() if c.isupper() else c for c in cls.__name__).lstrip("_")
