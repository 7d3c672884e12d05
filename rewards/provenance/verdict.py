"""Whose answer is it? A workflow that brings the answer along has designed nothing, whatever operators it calls.

The claim that has to hold for a reward above tier 2: the answer would not be right if the operators had not worked.
"""

import ast
import asyncio
import copy
import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from aflow_ops.concurrency import ended
from aflow_ops.executor.types import Executor
from aflow_ops.language import Workflow
from aflow_ops.language.workflow import SourceKey
from aflow_ops.runtime import WorkflowRuntime
from aflow_ops.sandbox import Sandbox
from data.domains import domain_row
from data.problem import Problem
from rewards.domains import domain_rewards
from rewards.graders.notation import word_set
from rewards.provenance.constants import Held, held_by
from rewards.provenance.decoys import Decoys
from rewards.provenance.executors import Exchange, ListeningExecutor
from rewards.provenance.readings import MAX_CHARS
from rewards.provenance.runs import (
    EXTRA_RUNS,
    HITS_OF_FEW,
    MISSES_OF_FEW,
    RUNS_OF_MANY,
    DecoyRun,
    DecoyRuns,
    Graded,
    same_answer,
    with_source,
)
from rewards.provenance.solutions import candidates, stands_in_pieces
from rewards.provenance.targets import plain, targets_of
from rewards.provenance.told import stands_in, told, told_in_pieces
from rewards.tiers import Grade

# Verdicts to remember: a group's completions are often equal, and so are the replies.
MAX_REMEMBERED = 4096
# What no honest text makes of its readers: numbers and nests beyond all bounds.
UNREADABLE = (ValueError, OverflowError, RecursionError, MemoryError, SyntaxError)
# Between texts that are read together: a sign that no encoding has.
BETWEEN = "\n§\n"
MAX_BATCHES = 4
# Workflows whose constants are read once.
MAX_SOURCES = 128
_MARKS = " \t.,:;!?\"'"
# Words that are about something, and numbers.
_CONTENT = re.compile(r"[^\W\d_]{3,}|\d+")
_FUNCTION_WORDS = word_set(
    "the and are was were for from with that this these those has have had how many much what which who whom whose any "
    "when where why does did can could will would there their them they his her its she him you your all each every "
    "than then into one two three not but out find number answer question only give reply say write list"
)
_NUMBERS = re.compile(r"\d+(?:\.\d+)?")


class Provenance:
    """Tells whether operators gave an answer.

    Args:
        runtime (`WorkflowRuntime`): runs workflows against decoys; the executor is never asked.
        sandbox (`Sandbox`): grades what comes of it.
        seed (`str`): of the decoys. They depend on the workflow's text too: what a policy finds out about the replies
            to one text is of no use for another.
    """

    def __init__(self, runtime: WorkflowRuntime, sandbox: Sandbox, seed: str = "") -> None:
        self.runtime, self.seed = runtime, seed
        self._runs = DecoyRuns(runtime, sandbox, seed)
        self._verdicts: OrderedDict[Any, asyncio.Task[str | None]] = OrderedDict()
        self._waiting: Counter[asyncio.Task[str | None]] = Counter()

    def listen(self) -> ListeningExecutor:
        """Return an executor for one real run that takes down what is asked and replied."""
        executor: Executor = self.runtime.executor
        return ListeningExecutor(executor)

    async def fault(
        self, workflow: Workflow, problem: Problem, answer: str, grade: Grade, exchanges: Sequence[Exchange]
    ) -> str | None:
        """Tell how the workflow brought its answer along, or `None` when operators gave it.

        Args:
            workflow (`Workflow`): what was run.
            problem (`Problem`): what it was run on.
            answer (`str`): what it returned.
            grade (`Grade`): what that earned.
            exchanges (`Sequence[Exchange]`): of the run, from `listen`.

        Raises:
            InfraError: a run against decoys was lost, or its answer could not be graded.
        """
        part = domain_rewards(problem.domain).designed_part(answer, problem, grade)
        graded = Graded(workflow, problem, answer, part, grade, tuple(exchanges), targets_of(problem, part))
        key = (problem, workflow.source, str(workflow.prompts), answer, graded.exchanges)
        if key not in self._verdicts:
            self._verdicts[key] = asyncio.create_task(self._fault(graded))
            if len(self._verdicts) > MAX_REMEMBERED:
                self._verdicts.popitem(last=False)
        verdict = self._verdicts[key]
        self._waiting[verdict] += 1
        try:
            return await asyncio.shield(verdict)
        except BaseException:
            self._verdicts.pop(key, None)
            if self._waiting[verdict] == 1:  # a cancellation, and nobody else waits
                await ended([verdict])
            raise
        finally:
            self._waiting[verdict] -= 1
            if not self._waiting[verdict]:
                del self._waiting[verdict]

    async def _fault(self, graded: Graded) -> str | None:
        first = await self._runs.run(graded, 0)
        own = list(dict.fromkeys(own_text(exchange, graded) for exchange in first.exchanges))
        if sum(map(len, own)) > MAX_CHARS:
            return "the workflow itself wrote more than is read"
        try:
            reason = await self._brought(graded, own)
        except UNREADABLE:
            return "what the workflow itself wrote cannot be read"
        return reason or await self._independent(graded, first) or await self._beside(graded)

    async def _brought(self, graded: Graded, own: Sequence[str]) -> str | None:
        """Whether the answer stands in what the workflow wrote, or in its code."""
        if domain_row(graded.problem.domain).has_tests:
            return await self._solution_told(graded, own)
        known = frozenset(_NUMBERS.findall(plain(graded.problem.view.text)))
        if any(told(text, graded.targets, known) for text in own) or told_in_pieces(own, graded.targets):
            return "the answer was put into an operator's arguments"
        return await self._held(graded)

    async def _solution_told(self, graded: Graded, own: Sequence[str]) -> str | None:
        """Whether a solution stands in the arguments or in the constants."""
        held = [str(item.value) for item in _held(graded.workflow) if isinstance(item.value, str)]
        texts = list(dict.fromkeys([*own, *held]))
        if stands_in_pieces(graded.part, texts, graded.problem):
            return "the solution stands in the workflow"
        for candidate in candidates(texts, graded.problem):
            if (await self._runs.grader.grade(candidate, graded.problem)).tier >= 3:
                return "a solution stands in the workflow"
        return None

    async def _held(self, graded: Graded) -> str | None:
        """Whether the answer stands in the code and decides: with another text in its place another answer comes."""
        targets = tuple(t for t in graded.targets if not (t.common or t.question or t.part))
        if not targets:
            return None
        texts = _held_texts(graded.workflow.key)
        if len(texts) > MAX_BATCHES:
            return "the workflow holds more than is read"
        if not stands_in(texts, targets):
            return None
        tree = ast.parse(graded.workflow.source)
        held = held_by(tree, graded.workflow.prompts)
        decisive = [item for item in held if stands_in((str(item.value),), targets)]
        if not decisive:
            return None
        changed = await self._runs.repeat(graded, _with_other_constants(graded, tree, decisive))
        if changed is not None and same_answer(changed, graded.answer):
            return None
        return "the answer stands in the workflow"

    async def _independent(self, graded: Graded, run: DecoyRun) -> str | None:
        """Whether the answer is the same, or as good, when operators do not work."""
        reason = "the answer does not depend on the operators"
        if run.follows:
            return None
        hits, near, index = int(run.hit), int(run.near), 0
        if graded.few:
            while hits < HITS_OF_FEW and index + 1 - hits < MISSES_OF_FEW:
                index += 1
                hits += (await self._runs.run(graded, index)).hit
            return reason if hits >= HITS_OF_FEW else None
        while not hits and index + 1 < RUNS_OF_MANY + (EXTRA_RUNS if near else 0):
            index += 1
            run = await self._runs.run(graded, index)
            hits, near = hits + run.hit, near + run.near
        return reason if hits or near * 2 > index + 1 else None

    async def _beside(self, graded: Graded) -> str | None:
        """Whether replies to what has nothing to do with the problem gave the answer: an item of a count to 100."""
        kept = unrelated(graded)
        if kept and await self._runs.by_others(graded, kept):
            return "the answer is from replies to something else"
        return None


def unrelated(graded: Graded) -> list[Exchange]:
    """Return the exchanges whose request has neither the question nor a word, a number or a reply about it."""
    question = plain(graded.problem.question).strip()
    given = {word for word in _CONTENT.findall(plain(graded.problem.view.text)) if word not in _FUNCTION_WORDS}
    about: list[str] = []
    found = []
    for exchange in graded.exchanges:
        own = plain(exchange.request)
        related = question in own or any(reply and reply in own for reply in about)
        if not related and given.isdisjoint(_CONTENT.findall(own)):
            found.append(exchange)
        else:
            about.append(plain(exchange.reply).strip())
    return found


def batched(texts: Iterable[str]) -> Iterator[str]:
    """Join texts, as many at a time as are read together."""
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > MAX_CHARS:
            yield BETWEEN.join(batch)
            batch, size = [], 0
        batch.append(text)
        size += len(text) + len(BETWEEN)
    if batch:
        yield BETWEEN.join(batch)


def own_text(exchange: Exchange, graded: Graded) -> str:
    """What the workflow itself wrote of a request: without the problem, and without earlier replies."""
    return without(exchange.request, graded)


def without(text: str, graded: Graded) -> str:
    """A text without the problem's passages and sentences."""
    view = graded.problem.view
    for given in (view.text, view.context or "", view.question):
        if given.strip():
            text = text.replace(given, "\n").replace(given.strip(), "\n")
    sentences = _sentences(view.text)
    lines = []
    for line in text.split("\n"):
        parts = re.split(r"(?<=[.!?])\s+", line)
        lines.append(" ".join(part for part in parts if plain(part).strip(_MARKS) not in sentences))
    return "\n".join(lines)


def _sentences(text: str) -> set[str]:
    """Lines and sentences of three words or more."""
    parts = [part for line in text.split("\n") for part in (line, *re.split(r"(?<=[.!?])\s+", line))]
    return {plain(part).strip(_MARKS) for part in parts if len(part.split()) > 2}


def _held(workflow: Workflow) -> list[Held]:
    return held_by(ast.parse(workflow.source), workflow.prompts)


@lru_cache(maxsize=MAX_SOURCES)
def _held_texts(key: SourceKey) -> tuple[str, ...]:
    """What a workflow holds, many in one text, before each is read by itself: most hold nothing, and some thousands."""
    held = held_by(ast.parse(key.source), key.workflow.prompts)
    return tuple(batched(dict.fromkeys(str(item.value) for item in held)))


def _with_other_constants(graded: Graded, tree: ast.AST, held: Sequence[Held]) -> Workflow:
    """The workflow with decoys in place of some of its constants."""
    decoys = Decoys(graded.problem, graded.targets, "constants", steady=True)
    places = {id(item.node): item for item in held}

    class Exchanged(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> Any:
            item = places.get(id(node))
            if item is None:
                return self.generic_visit(node)
            answer = decoys.steady or ""
            value = type(item.value)(float(answer)) if isinstance(item.value, (int, float)) else answer
            return ast.copy_location(ast.Constant(value), node)

    changed = Exchanged().visit(tree)
    return with_source(graded.workflow, ast.unparse(ast.fix_missing_locations(copy.deepcopy(changed))))
