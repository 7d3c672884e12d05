"""What an operator is: a small class with one `async __call__`, whose signature and attributes are its whole interface.

The checker reads argument names from `__call__`, the policy's prompt is built from `summary` and `returns`, the DSL
writes calls from all of them, the runtime makes one instance per call. An operator talks to the world through its
`OperatorContext` only.

In a pipeline of the DSL arguments are filled by what they are:

| argument | is given |
|---|---|
| `solution`, or the one that `draft` names | the solution so far |
| one of type `list[str]` | the solutions of the branches before it: the operator is an ensemble |
| `feedback` | what the last reviewer said |
| `entry_point` | the name of the function to write, where there is one |
| the first other one | the problem, with the solution so far if no argument takes that |
| any other one | its default; without a default the operator cannot stand in a pipeline |
"""

import functools
import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from aflow_ops.executor.types import Message
from aflow_ops.operators.prompt import find_prompt
from aflow_ops.sandbox import RunProgram
from data.problem import Domain, ProblemView

# AFlow's workflows pass these to operators of their own versions; here they mean nothing.
IGNORED_ARGUMENTS = frozenset({"question_id", "_mode"})
# Argument and result key of this name carry what a reviewer said from one operator to the next.
FEEDBACK = "feedback"
_WORD_STARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


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
    """Base of all operators; `register_operator` makes a subclass known.

    Class attributes:
        summary: one line for the policy's prompt: what it does and when it helps.
        returns: keys of the returned dict, in order.
        main: the key that stands for the result where a workflow passes or returns the whole dict.
        domains: where it makes sense, by default everywhere; the checker rejects it elsewhere.
        needs_entry_point: only for problems with an entry point.
        verdict: for one that checks a draft, the key of the bool that says whether the draft is fine; such an operator
            may stand before `?` in the DSL and ends loops there.
        draft: the argument that takes the solution so far in the DSL, where it is not called `solution`.
        improves: it tries to make the draft in `solution` a better one under its `main` key: WA-GRPO measures by how
            much (`rewards/wa_grpo.py`).
        prompts: prompts of its own by name, in the form of `prompt.py`; others are looked for in the prompt sets.

    Example:

        >>> class Shout(Operator):
        ...     '''Repeat the problem in capitals.'''
        ...     summary = "repeats a text in capital letters"
        ...     returns = ("text",)
        ...     main = "text"
        ...     async def __call__(self, problem: str) -> dict[str, Any]:
        ...         return {"text": problem.upper()}
        >>> Shout.snake_name()
        'shout'
    """

    summary: ClassVar[str]
    returns: ClassVar[tuple[str, ...]]
    main: ClassVar[str]
    domains: ClassVar[tuple[Domain, ...] | None] = None
    needs_entry_point: ClassVar[bool] = False
    verdict: ClassVar[str | None] = None
    draft: ClassVar[str] = "solution"
    improves: ClassVar[bool] = False
    prompts: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init__(self, context: OperatorContext) -> None:
        self.context = context

    @abstractmethod
    async def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run the operator. Subclasses name their arguments."""

    async def ask(self, prompt: str, **fields: str) -> str:
        """Return the executor's reply to one of the operator prompts.

        Args:
            prompt (`str`): name of the prompt among the class's own, or in the context's prompt set.
            fields (`str`): text for the prompt's places.
        """
        chosen = find_prompt(prompt, self.context.prompt_set, self.prompts)
        return await self.context.ask(
            chosen.messages(fields),
            max_tokens=chosen.max_tokens,
            temperature=chosen.temperature,
            stop=chosen.stop,
        )

    @classmethod
    @functools.cache
    def signature(cls) -> inspect.Signature:
        """The arguments a workflow may pass, `self` left out."""
        signature = inspect.signature(cls.__call__, eval_str=True)
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
    @functools.cache
    def snake_name(cls) -> str:
        """Name of the operator in the short form, e.g. `sc_ensemble`."""
        return _WORD_STARTS.sub("_", cls.__name__).lower()

    @classmethod
    def drafts(cls) -> str | None:
        """The argument that takes several solutions; only an ensemble has one."""
        parameters = cls.signature().parameters.values()
        return next((parameter.name for parameter in parameters if parameter.annotation == list[str]), None)

    @classmethod
    def rewrites(cls) -> bool:
        """Whether its main result is a solution, rather than a judgement of one."""
        return cls.main not in (FEEDBACK, cls.verdict)
