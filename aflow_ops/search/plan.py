"""Plans: what the grammar can say. A plan is a small tree that always prints as a valid short-form workflow.

    vote(sc, 'Consider both.', ask(programmer), ask(answer_generate))

prints as a workflow that runs both operators and lets ScEnsemble choose. The printed workflow carries its plan in a
comment on its first line, which is how a plan is read back from a node.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace

MAX_SIZE = 9
_HEAD = "# plan: "


@dataclass(frozen=True)
class Plan:
    """One step of a plan, with the steps that it needs first.

    Args:
        kind (`str`): a key of `KINDS`.
        choice (`str`): what the kind leaves open: an operator, an instruction, a test on the problem.
        parts (`tuple[Plan, ...]`): as many as the kind takes.
    """

    kind: str
    choice: str = ""
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

    def __str__(self) -> str:
        inner = [repr(self.choice)] if self.choice else []
        return f"{self.kind}({', '.join([*inner, *map(str, self.parts)])})"


def print_plan(plan: Plan, *, has_entry_point: bool) -> str:
    """Return the plan as a short-form workflow.

    Args:
        plan (`Plan`): what to print.
        has_entry_point (`bool`): whether its problems name a function to write.
    """
    printer = _Printer()
    answer = printer.step(plan)
    parameters = "problem, entry_point" if has_entry_point else "problem"
    body = "\n".join(printer.lines)
    return f"{_HEAD}{plan}\nasync def workflow({parameters}):\n{body}\n    return {answer}"


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


def _plan_of(node: ast.AST) -> Plan:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS):
        raise ValueError("no step of a plan")
    choice, arguments = "", list(node.args)
    if arguments and isinstance(arguments[0], ast.Constant):
        choice = str(arguments.pop(0).value)  # type: ignore[attr-defined]
    parts = tuple(map(_plan_of, arguments))
    if len(parts) not in KINDS[node.func.id]:
        raise ValueError(f"{node.func.id} does not take {len(parts)} parts")
    return Plan(node.func.id, choice, parts)


# Kind -> how many parts it may have.
KINDS: dict[str, range] = {
    "answer": range(1),  # answer_generate
    "compute": range(1),  # programmer
    "custom": range(1),  # custom, with an instruction
    "write": range(1),  # custom_code_generate, with an instruction
    "shorten": range(1, 2),  # format
    "refine": range(1, 2),  # review, then revise; the choice says how often at most
    "tested": range(1, 2),  # test
    "vote": range(2, 5),  # sc_ensemble or md_ensemble
    "branch": range(2, 3),  # if a test on the problem holds, the first part, else the second
}
# What a problem can be told by: a name, and a Python expression over `problem`.
TESTS: dict[str, str] = {
    "has an arithmetic expression": r're.search(r"\d\s*[-+*/]\s*\(?\d", problem) is not None',
    "has a passage": 'problem.startswith("Context:")',
    "asks for a function": 're.search(r"\\bfunction\\b|\\bdef \\w+", problem) is not None',
    "is long": "len(problem.split()) > 60",
    "has several numbers": r'len(re.findall(r"\d+", problem)) > 2',
    "asks who, where or when": 're.search(r"\\b(?:[Ww]ho|[Ww]here|[Ww]hen)\\b", problem) is not None',
    "asks how many or how much": 're.search(r"\\b[Hh]ow (?:many|much)\\b", problem) is not None',
}


class _Printer:
    """Prints steps as statements; every step's result is a variable of its own."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._count = 0
        self._indent = 1

    def _name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"

    def _line(self, text: str) -> None:
        self.lines.append("    " * self._indent + text)

    def step(self, plan: Plan) -> str:
        """Print a step after those it needs; returns the expression of its result."""
        printed: str = getattr(self, f"_{plan.kind}")(plan)
        return printed

    def _call(self, call: str, key: str, stem: str = "draft") -> str:
        name = self._name(stem)
        self._line(f'{name} = (await {call})["{key}"]')
        return name

    def _answer(self, plan: Plan) -> str:
        return self._call("answer_generate(input=problem)", "answer")

    def _compute(self, plan: Plan) -> str:
        return self._call("programmer(problem=problem)", "output")

    def _custom(self, plan: Plan) -> str:
        return self._call(f"custom(input=problem, instruction={plan.choice!r})", "response")

    def _write(self, plan: Plan) -> str:
        arguments = f"problem=problem, entry_point=entry_point, instruction={plan.choice!r}"
        return self._call(f"custom_code_generate({arguments})", "response")

    def _shorten(self, plan: Plan) -> str:
        draft = self.step(plan.parts[0])
        return self._call(f"format(problem=problem, solution={draft})", "solution", "short")

    def _tested(self, plan: Plan) -> str:
        draft = self.step(plan.parts[0])
        call = f"test(problem=problem, solution={draft}, entry_point=entry_point)"
        return self._call(call, "solution", "tested")

    def _refine(self, plan: Plan) -> str:
        draft, best, check = self.step(plan.parts[0]), self._name("best"), self._name("check")
        self._line(f"{best} = {draft}")
        self._line(f"for _ in range({int(plan.choice or 1)}):")
        self._indent += 1
        self._line(f"{check} = await review(problem=problem, solution={best})")
        self._line(f'if {check}["review_result"]:')
        self._line("    break")
        feedback = f'{check}["feedback"]'
        self._line(f'{best} = (await revise(problem=problem, solution={best}, feedback={feedback}))["solution"]')
        self._indent -= 1
        return best

    def _vote(self, plan: Plan) -> str:
        drafts = ", ".join([self.step(part) for part in plan.parts])
        key = "solution" if plan.choice == "md_ensemble" else "response"
        return self._call(f"{plan.choice}(solutions=[{drafts}], problem=problem)", key, "chosen")

    def _branch(self, plan: Plan) -> str:
        name = self._name("picked")
        for line, part in zip((f"if {TESTS[plan.choice]}:", "else:"), plan.parts, strict=True):
            self._line(line)
            self._indent += 1
            self._line(f"{name} = {self.step(part)}")
            self._indent -= 1
        return name


def printable(value: object) -> bool:
    """Whether a value is a plan whose every choice can be printed."""
    if not isinstance(value, Plan) or value.kind not in KINDS or len(value.parts) not in KINDS[value.kind]:
        return False
    fits = {
        "vote": value.choice in ("sc_ensemble", "md_ensemble"),
        "branch": value.choice in TESTS,
        "refine": value.choice in ("1", "2", "3"),
    }
    return fits.get(value.kind, True) and all(map(printable, value.parts))
