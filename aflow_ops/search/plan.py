"""Plans: what the grammar can say. A plan is a small tree that always prints as a valid short-form workflow.

    vote('ScEnsemble', call('Programmer'), call('Format', call('Custom', 'Think.')))

prints as a workflow that runs Programmer, and Custom with Format after it, and lets ScEnsemble choose. The printed
workflow carries its plan in a comment on its first line, which is how a plan is read back from a node.

| step | constants | steps before it |
|---|---|---|
| `call` | an operator and, if it takes one, an instruction | none, or the draft that it works on |
| `vote` | an ensemble | 2 to 4 drafts |
| `refine` | a checker, a reviser, how often at most | the draft |
| `fallback` | a checker | a draft, and one that takes its place if it fails the check and the other passes |
| `branch` | a condition on the problem | what is done if it holds, what else |
| `given` | the source of a function (`given.py`) | none: a workflow that no plan printed |

Every registered operator can be called; `roles.py` says as what.
"""

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from aflow_ops.language.calls import operator_call, quoted
from aflow_ops.operators import OPERATORS, Operator
from aflow_ops.operators.base import FEEDBACK
from aflow_ops.search.conditions import read_condition
from aflow_ops.search.given import NAME as GIVEN
from aflow_ops.search.given import framed, parameters_of
from aflow_ops.search.roles import INSTRUCTION, can_check, can_choose, can_revise, can_write

MAX_SIZE = 9
_HEAD = "# plan: "
# Step -> how many steps it may need first.
KINDS: dict[str, range] = {
    "call": range(2),
    "vote": range(2, 5),
    "refine": range(1, 2),
    "fallback": range(2, 3),
    "branch": range(2, 3),
    "given": range(1),
}


@dataclass(frozen=True)
class Plan:
    """One step of a plan, with the steps that it needs first.

    Args:
        kind (`str`): a key of `KINDS`.
        constants (`tuple[str, ...]`): what the kind leaves open: operators, an instruction, a condition.
        parts (`tuple[Plan, ...]`): as many as the kind takes.
    """

    kind: str
    constants: tuple[str, ...] = ()
    parts: tuple["Plan", ...] = ()

    @property
    def size(self) -> int:
        """Number of steps."""
        return 1 + sum(part.size for part in self.parts)

    def positions(self, path: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
        """Yield where every step stands, this one first."""
        yield path
        for index, part in enumerate(self.parts):
            yield from part.positions((*path, index))

    def at(self, path: tuple[int, ...]) -> "Plan":
        """Return the step at a position."""
        return self.parts[path[0]].at(path[1:]) if path else self

    def put(self, path: tuple[int, ...], other: "Plan") -> "Plan":
        """Return this plan with the step at a position exchanged."""
        if not path:
            return other
        parts = list(self.parts)
        parts[path[0]] = parts[path[0]].put(path[1:], other)
        return replace(self, parts=tuple(parts))

    @property
    def written(self) -> str:
        """All of it in a line, to be read again."""
        return f"{self.kind}({', '.join([*map(repr, self.constants), *(part.written for part in self.parts)])})"

    def __str__(self) -> str:
        if self.kind == "given":
            return "the given workflow"
        return f"{self.kind}({', '.join([*map(repr, self.constants), *map(str, self.parts)])})"


def call(operator: str, *parts: Plan, instruction: str = "") -> Plan:
    """Return a call of an operator by its class name."""
    return Plan("call", (operator, instruction) if instruction else (operator,), parts)


def vote(ensemble: str, *parts: Plan) -> Plan:
    """Return a vote over drafts."""
    return Plan("vote", (ensemble,), parts)


def refine(checker: str, reviser: str, times: int, part: Plan) -> Plan:
    """Return a loop that revises a draft until the checker is content."""
    return Plan("refine", (checker, reviser, str(times)), (part,))


def fallback(checker: str, draft: Plan, other: Plan) -> Plan:
    """Return a draft, or another one where the first fails a check that the other passes."""
    return Plan("fallback", (checker,), (draft, other))


def branch(condition: object, then: Plan, otherwise: Plan) -> Plan:
    """Return a choice by a condition on the problem."""
    return Plan("branch", (str(condition),), (then, otherwise))


def simplified(plan: Plan, known: Mapping[str, bool] | None = None) -> Plan:
    """Return what a plan does without choices that are none.

    A choice by a condition that a choice around it has decided is what was chosen; one between equal parts is the part.

    Args:
        plan (`Plan`): any.
        known (`Mapping[str, bool]`, *optional*): whether conditions hold, by their texts.
    """
    known = known or {}
    if plan.kind != "branch":
        return replace(plan, parts=tuple(simplified(part, known) for part in plan.parts))
    (condition,), (then, otherwise) = plan.constants, plan.parts
    if condition in known:
        return simplified(then if known[condition] else otherwise, known)
    parts = simplified(then, {**known, condition: True}), simplified(otherwise, {**known, condition: False})
    return parts[0] if parts[0] == parts[1] else replace(plan, parts=parts)


def given(source: str) -> Plan:
    """Return a workflow that no plan printed, as a step."""
    return Plan("given", (source,))


def least_plan(operator: type[Operator]) -> Plan | None:
    """Return the least plan around an operator, which gets its drafts from Custom; `None` when no plan can have it."""
    name, draft = operator.__name__, call("Custom")
    if can_write(operator, has_draft=False):
        return call(name)
    if can_write(operator, has_draft=True):
        return call(name, draft)
    if can_choose(operator):
        return vote(name, draft, draft, draft)
    return refine(name, "Revise", 1, draft) if can_check(operator) else None


def print_plan(plan: Plan, *, has_entry_point: bool) -> str:
    """Return the plan as a short-form workflow.

    Args:
        plan (`Plan`): what to print; `printable`.
        has_entry_point (`bool`): whether its problems name a function to write.
    """
    printer = _Printer(has_entry_point)
    answer = printer.step(plan, "result")
    parameters = "problem, entry_point" if has_entry_point else "problem"
    body = "\n".join(printer.lines)
    functions = "".join(framed(source, number) for source, number in printer.functions.items())
    return f"{_HEAD}{plan.written}\n{functions}async def workflow({parameters}):\n{body}\n    return {answer}"


def read_plan(workflow: str) -> Plan | None:
    """Return the plan that a workflow was printed from; `None` when it was not, or was changed since.

    Args:
        workflow (`str`): its text. Nothing in it is run.
    """
    first = workflow.split("\n", 1)[0]
    if not first.startswith(_HEAD):
        return None
    try:
        plan = _plan_of(ast.parse(first[len(_HEAD) :], mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if not printable(plan):
        return None
    printed = (print_plan(plan, has_entry_point=flag) for flag in (False, True))
    return plan if workflow.strip() in printed else None


def without_plan(workflow: str) -> str:
    """Return a workflow's text without the comment that holds its plan."""
    return "\n".join(line for line in workflow.splitlines() if not line.startswith(_HEAD))


def _plan_of(node: ast.AST) -> Plan:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        raise ValueError("no step of a plan")
    constants = [item.value for item in node.args if isinstance(item, ast.Constant)]
    parts = [_plan_of(item) for item in node.args[len(constants) :]]
    return Plan(node.func.id, tuple(map(str, constants)), tuple(parts))


def printable(plan: Plan) -> bool:
    """Whether every step of a plan can be printed: its operators are registered and can do what they are to do."""
    if plan.kind not in KINDS or len(plan.parts) not in KINDS[plan.kind]:
        return False
    return _PRINTABLE[plan.kind](plan) and all(map(printable, plan.parts))


def _printable_call(plan: Plan) -> bool:
    operator = OPERATORS.get(plan.constants[0]) if 1 <= len(plan.constants) <= 2 else None
    if operator is None or not can_write(operator, has_draft=bool(plan.parts)):
        return False
    return len(plan.constants) == 1 or (bool(plan.constants[1]) and INSTRUCTION in operator.signature().parameters)


def _printable_vote(plan: Plan) -> bool:
    operator = OPERATORS.get(plan.constants[0]) if len(plan.constants) == 1 else None
    return operator is not None and can_choose(operator)


def _printable_refine(plan: Plan) -> bool:
    if len(plan.constants) != 3 or plan.constants[2] not in ("1", "2", "3"):
        return False
    checker, reviser = (OPERATORS.get(name) for name in plan.constants[:2])
    return checker is not None and reviser is not None and can_check(checker) and can_revise(reviser)


def _printable_fallback(plan: Plan) -> bool:
    checker = OPERATORS.get(plan.constants[0]) if len(plan.constants) == 1 else None
    return checker is not None and can_check(checker)


def _printable_branch(plan: Plan) -> bool:
    return len(plan.constants) == 1 and read_condition(plan.constants[0]) is not None


def _printable_given(plan: Plan) -> bool:
    return len(plan.constants) == 1 and bool(parameters_of(plan.constants[0]))


_PRINTABLE = {
    "call": _printable_call,
    "vote": _printable_vote,
    "refine": _printable_refine,
    "fallback": _printable_fallback,
    "branch": _printable_branch,
    "given": _printable_given,
}


class _Printer:
    """Prints steps as statements, in the words of `data/workflow_corpus.yaml`; every call has a variable of its own.

    A policy that was taught the corpus finds what it reads here likely, piece by piece, and learns from it sooner.
    """

    def __init__(self, has_entry_point: bool) -> None:
        self.lines: list[str] = []
        self.functions: dict[str, int] = {}
        self._has_entry_point = has_entry_point
        self._names: Counter[str] = Counter()
        self._indent = 1

    def _name(self, stem: str) -> str:
        self._names[stem] += 1
        return stem if self._names[stem] == 1 else f"{stem}_{self._names[stem]}"

    def _line(self, text: str) -> None:
        self.lines.append("    " * self._indent + text)

    def step(self, plan: Plan, stem: str = "draft") -> str:
        """Print a step after those it needs; returns the expression of its result.

        Args:
            plan (`Plan`): the step.
            stem (`str`): what the variable of a call is called.
        """
        if plan.kind == "call":
            return self._call(plan, stem)
        printed: str = getattr(self, f"_{plan.kind}")(plan)
        return printed

    def _called(self, operator: type[Operator], **given: str) -> str:
        instruction = given.pop("instruction", None)
        options = {} if instruction is None else {INSTRUCTION: quoted(instruction)}
        return f"await {operator_call(operator, has_entry_point=self._has_entry_point, options=options, **given)}"

    def _result(self, stem: str, operator: type[Operator], **given: str) -> str:
        name = self._name(stem)
        self._line(f"{name} = {self._called(operator, **given)}")
        return f"{name}[{quoted(operator.main)}]"

    def _call(self, plan: Plan, stem: str) -> str:
        given = {"draft": self.step(plan.parts[0])} if plan.parts else {}
        if len(plan.constants) == 2:
            given["instruction"] = plan.constants[1]
        return self._result(stem, OPERATORS[plan.constants[0]], **given)

    def _given(self, plan: Plan) -> str:
        (source,), name = plan.constants, self._name("draft")
        number = self.functions.setdefault(source, len(self.functions) + 1)
        self._line(f"{name} = await {GIVEN}_{number}({', '.join(parameters_of(source))})")
        return name

    def _vote(self, plan: Plan) -> str:
        drafts = ", ".join([self.step(part) for part in plan.parts])
        return self._result("best", OPERATORS[plan.constants[0]], drafts=f"[{drafts}]")

    def _refine(self, plan: Plan) -> str:
        checker, reviser = (OPERATORS[name] for name in plan.constants[:2])
        draft, text, notes = self.step(plan.parts[0]), self._name("text"), self._name("notes")
        self._line(f"{text} = {draft}")
        self._line(f"for _ in range({plan.constants[2]}):")
        self._indent += 1
        passed = self._checked(checker, text, notes)
        self._line(f"if {passed}:")
        self._line("    break")
        said = {"feedback": f"{notes}[{quoted(FEEDBACK)}]"} if FEEDBACK in checker.returns else {}
        self._line(f"{text} = ({self._called(reviser, draft=text, **said)})[{quoted(reviser.main)}]")
        self._indent -= 1
        return text

    def _checked(self, checker: type[Operator], text: str, notes: str) -> str:
        """Print a check of a variable, which the checker may rewrite; returns the expression of its verdict."""
        assert checker.verdict is not None
        self._line(f"{notes} = {self._called(checker, draft=text)}")
        if checker.rewrites():
            self._line(f"{text} = {notes}[{quoted(checker.main)}]")
        return f"{notes}[{quoted(checker.verdict)}]"

    def _fallback(self, plan: Plan) -> str:
        checker = OPERATORS[plan.constants[0]]
        draft, text, notes = self.step(plan.parts[0]), self._name("text"), self._name("notes")
        self._line(f"{text} = {draft}")
        self._line(f"if not {self._checked(checker, text, notes)}:")
        self._indent += 1
        found, other = self.step(plan.parts[1]), self._name("other")
        self._line(f"{other} = {found}")
        self._line(f"if {self._checked(checker, other, notes)}:")
        self._line(f"    {text} = {other}")
        self._indent -= 1
        return text

    def _branch(self, plan: Plan) -> str:
        name, condition = self._name("picked"), read_condition(plan.constants[0])
        assert condition is not None
        for line, part in zip((f"if {condition.expression}:", "else:"), plan.parts, strict=True):
            self._line(line)
            self._indent += 1
            self._line(f"{name} = {self.step(part)}")
            self._indent -= 1
        return name
