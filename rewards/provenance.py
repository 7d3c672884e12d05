"""Whose answer is it? A workflow that brings the answer along has designed nothing, whatever operators it calls.

Three ways to smuggle it, and how each is seen:

- returned past the operators: no operator gave the answer, and it stands in the workflow, or comes out the same when
  every operator answers nonsense;
- put into an operator's arguments ("Reply with 72."): it stands in the arguments of a call before any operator gave it,
  and not in the problem;
- likewise for code: the solution is compared without its white space.

An answer that also stands in the problem is nobody's: copying from the passage is what question answering is. Numbers
are compared by value, so `12` stands in `a 12-hour shift` and in `x=12.0`.
"""

import ast
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aflow_ops.executor.types import ExecutorUsage, Message, Reply
from aflow_ops.fault_clock import FaultClock
from aflow_ops.language import Workflow
from aflow_ops.runtime import WorkflowRuntime
from aflow_ops.trace import OperatorCall, Trace
from aflow_ops.values import MAX_TRACE_CHARS
from data.problem import ProblemView
from rewards.graders.qa_metrics import normalized

# In a prompt these are words like others: only "reply with 7" gives them away.
_COMMON = frozenset({"yes", "no", "true", "false", "none", "noanswer"})
_ORDER = r"\b(?:answer|reply|respond|say|output|print|return|write|repeat|give)\b(?:\W+\w+){0,4}?\W+"
_PROCESS = (  # what a number of the work counts
    r"(?:steps?|words?|sentences?|lines?|digits?|decimals?|places?|characters?|tokens?|times|examples?|bullets?)\b"
)
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?!,?\d)(?:\.\d+)?")


@dataclass(frozen=True)
class AnswerForm:
    """The form in which texts are compared.

    Args:
        of (`Callable[[str], str]`): a text to its form.
        whole_words (`bool`): whether only whole words of the form count as found.
        min_chars (`int`): a shorter form says too little to be anybody's.
    """

    of: Callable[[str], str]
    whole_words: bool
    min_chars: int = 1

    def has(self, text: str, wanted: str) -> bool:
        """Whether a text, once in this form, has the wanted form in it."""
        formed = self.of(text)
        return f" {wanted} " in f" {formed} " if self.whole_words else wanted in formed


async def brought_along(
    answer: str, trace: Trace, workflow: Workflow, problem: ProblemView, runtime: WorkflowRuntime, form: AnswerForm
) -> str | None:
    """Tell how the workflow brought its answer along, or `None` when the operators gave it.

    Args:
        answer (`str`): the answer as it was graded.
        trace (`Trace`): the run that ended in it.
        workflow (`Workflow`): what was run.
        problem (`ProblemView`): what it was run on.
        runtime (`WorkflowRuntime`): runs it once more where that decides, without asking the executor.
        form (`AnswerForm`): of the problem's domain.
    """
    wanted = form.of(answer)
    if len(wanted) < form.min_chars:
        return None
    given = next((index for index, call in enumerate(trace.calls) if form.has(_text(call.output), wanted)), None)
    constants = _constants(workflow.source)
    if given is None:
        if any(form.has(constant, wanted) for constant in constants):
            return "the answer stands in the workflow and no operator gave it"
        mute = await runtime.run(workflow, problem, executor=MuteExecutor(runtime.executor.prompt_set))
        if mute.answer is not None and form.of(mute.answer) == form.of(trace.answer or ""):
            return "the answer does not depend on the operators"
        return None
    if form.has(problem.text, wanted):
        return None
    if any(_orders(_arguments(call, constants), answer, wanted, form) for call in trace.calls[: given + 1]):
        return "the answer was put into an operator's arguments"
    return None


class MuteExecutor:
    """An executor that says nothing usable, at no cost.

    Args:
        prompt_set (`str`): name of the operator prompts, as the real one has.
    """

    temperature = 0.0
    usage = ExecutorUsage()
    cache_statistics = None

    def __init__(self, prompt_set: str) -> None:
        self.prompt_set = prompt_set
        self.on_paid: Callable[[str | None, ExecutorUsage], None] | None = None

    def restore(self, usage: ExecutorUsage) -> None:
        """Nothing is counted."""

    def price(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Nothing is paid."""
        return 0.0

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        temperature: float,
        max_tokens: int,
        stop: Sequence[str] = (),
        sample: int = 0,
        faults: FaultClock | None = None,
    ) -> Reply:
        """Return a reply without content."""
        start = time.monotonic()
        return Reply("...", 0, 0, 0.0, time.monotonic() - start, True)


def _arguments(call: OperatorCall, constants: Sequence[str]) -> str:
    """What a call was given. A trace keeps only the ends of a long text: there, whatever the workflow may have put."""
    text = _text(call.args)
    return text if len(text) <= MAX_TRACE_CHARS else "\n".join([text, *constants])


def _orders(text: str, answer: str, wanted: str, form: AnswerForm) -> bool:
    if re.fullmatch(r"\d{2,}", wanted):  # "in 12 steps" says how to work
        text = re.sub(rf"\b{wanted}(?=\W+{_PROCESS})", "", text, flags=re.IGNORECASE)
    if not form.has(text, wanted):
        return False
    if wanted not in _COMMON and not re.fullmatch(r"\d", wanted):
        return True
    # A choice ("yes or no") and a count ("3 steps") are no answers.
    found = re.search(_ORDER + re.escape(answer.strip()) + r"\b(?!\W+(?:or|and)\b|/|\s+\w)", text, re.IGNORECASE)
    return found is not None


def _text(value: Any) -> str:
    """All texts and numbers in a call's arguments or output."""
    if isinstance(value, dict):
        return "\n".join(_text(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return "\n".join(_text(item) for item in value)
    return "" if value is None else str(value)


def _constants(source: str) -> list[str]:
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [str(node.value) for node in nodes if isinstance(node, ast.Constant) and not isinstance(node.value, bytes)]


def _words(text: str) -> str:
    """Words without case and punctuation, each number a word of its own and in one notation: `12-hour`, `x=12.0`."""
    return normalized(_NUMBER.sub(lambda match: f" {_plain_number(match.group())} ", text))


def _plain_number(text: str) -> str:
    digits = text.replace(",", "").lstrip("0")
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return digits.replace(".", "point") or "0"


def _code_form(text: str) -> str:
    """Code without white space, comments' text included."""
    return re.sub(r"\s+", "", text)


WORDS = AnswerForm(_words, whole_words=True)
CODE = AnswerForm(_code_form, whole_words=False, min_chars=20)
