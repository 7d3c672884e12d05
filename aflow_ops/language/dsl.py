"""The DSL: a pipeline of operators on one line, compiled to the short form.

    pipeline := step ("->" step)*
    step     := atom ["*" count]  |  NAME "?" branch ":" branch
    branch   := atom ["*" count]  |  "done"
    atom     := NAME  |  "(" pipeline ")"  |  "[" pipeline ("," pipeline)* "]"

The state is the problem and the current solution. The first operator works on the problem, later ones on the problem
and the solution so far. `[A, B]` runs branches at the same time and must be followed by an ensemble. `Review ? Revise :
done` takes the left branch when the reviewer (or Test) found something wrong. `(Review -> Revise) * 3` repeats, and
ends early once the reviewer is content.

Names, arguments and result keys are those of the operators' classes; `operators/base.py` says which argument is given
what.
"""

import re
from dataclasses import dataclass

from aflow_ops.errors import WorkflowError
from aflow_ops.language.calls import operator_call
from aflow_ops.operators import OPERATORS, Operator, spelled
from aflow_ops.operators.base import FEEDBACK

MAX_REPEATS = 10
_TOKEN = re.compile(r"\s*(->|→|[A-Za-z_]\w*|\d+|[\[\](),*?:])")


@dataclass(frozen=True)
class Call:
    """One operator by its class name."""

    name: str


@dataclass(frozen=True)
class Sequence:
    """Steps one after the other."""

    steps: "tuple[Node, ...]"


@dataclass(frozen=True)
class Parallel:
    """Branches at the same time."""

    branches: "tuple[Node, ...]"


@dataclass(frozen=True)
class Loop:
    """A body repeated `count` times at most."""

    body: "Node"
    count: int


@dataclass(frozen=True)
class Branch:
    """`check ? wrong : right`; `None` is `done`."""

    check: str
    wrong: "Node | None"
    right: "Node | None"


Node = Call | Sequence | Parallel | Loop | Branch


def parse_dsl(text: str) -> Node:
    """Parse a DSL workflow.

    Args:
        text (`str`): the pipeline; operators in any spelling.

    Raises:
        WorkflowError: stage `"syntax"` (not of the grammar) or `"check"` (unknown operator, misplaced ensemble).
    """
    parser = _Parser(_tokens(text))
    node = parser.pipeline()
    if parser.peek() is not None:
        raise WorkflowError("syntax", f"unexpected {parser.peek()!r} in the pipeline")
    return node


def _tokens(text: str) -> list[str]:
    text = " ".join(text.replace(";", " ").split())
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            if not text[position:].strip():
                break
            raise WorkflowError("syntax", f"unexpected {text[position:].strip()[:20]!r} in the pipeline")
        tokens.append("->" if match.group(1) == "→" else match.group(1))
        position = match.end()
    return tokens


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.position = tokens, 0

    def peek(self) -> str | None:
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def take(self, expected: str | None = None) -> str:
        token = self.peek()
        if token is None or (expected is not None and token != expected):
            wanted = expected or "an operator"
            raise WorkflowError("syntax", f"expected {wanted!r} but found {token or 'the end of the pipeline'!r}")
        self.position += 1
        return token

    def pipeline(self) -> Node:
        steps = [self.step()]
        while self.peek() == "->":
            self.take()
            if self.peek() == "done":
                self.take()
                break
            steps.append(self.step())
        return steps[0] if len(steps) == 1 else Sequence(tuple(steps))

    def step(self) -> Node:
        node = self.repeated()
        if self.peek() != "?":
            return node
        self.take()
        if not isinstance(node, Call) or OPERATORS[node.name].verdict is None:
            checks = [name for name, operator in OPERATORS.items() if operator.verdict is not None]
            raise WorkflowError("check", f"only {' or '.join(checks)} can stand before '?'")
        wrong = self.branch()
        self.take(":")
        return Branch(node.name, wrong, self.branch())

    def branch(self) -> "Node | None":
        if self.peek() == "done":
            self.take()
            return None
        return self.repeated()

    def repeated(self) -> Node:
        node = self.atom()
        if self.peek() != "*":
            return node
        self.take()
        count = self.take()
        if not count.isdigit() or not 1 <= int(count) <= MAX_REPEATS:
            raise WorkflowError("check", f"'* {count}': repeat 1 to {MAX_REPEATS} times")
        return Loop(node, int(count))

    def atom(self) -> Node:
        token = self.take()
        if token == "(":
            node = self.pipeline()
            self.take(")")
            return node
        if token == "[":
            branches = [self.pipeline()]
            while self.peek() == ",":
                self.take()
                if self.peek() != "]":  # a comma after the last one
                    branches.append(self.pipeline())
            self.take("]")
            return Parallel(tuple(branches))
        name = spelled(token)
        if name is None:
            raise WorkflowError("check", f"unknown operator {token!r}; known: {', '.join(OPERATORS)}")
        return Call(name)


def print_dsl(node: "Node | None") -> str:
    """Return the canonical text of a pipeline."""
    if node is None:
        return "done"
    if isinstance(node, Call):
        return node.name
    if isinstance(node, Sequence):
        return " -> ".join(_grouped(step, inside_sequence=True) for step in node.steps)
    if isinstance(node, Parallel):
        return "[" + ", ".join(print_dsl(branch) for branch in node.branches) + "]"
    if isinstance(node, Loop):
        return f"{_grouped(node.body)} * {node.count}"
    return f"{node.check} ? {_grouped(node.wrong)} : {_grouped(node.right)}"


def _grouped(node: "Node | None", *, inside_sequence: bool = False) -> str:
    simple = (Call, Parallel) if not inside_sequence else (Call, Parallel, Loop, Branch)
    return print_dsl(node) if node is None or isinstance(node, simple) else f"({print_dsl(node)})"


def compile_dsl(node: Node, *, has_entry_point: bool) -> str:
    """Return the pipeline as a short-form Python workflow.

    Raises:
        WorkflowError: stage `"check"`: branches that no ensemble follows, or an operator with an argument that nothing
            in a pipeline is.
    """
    writer = _Writer(has_entry_point=has_entry_point)
    parameters = "problem, entry_point" if has_entry_point else "problem"
    writer.line(f"async def workflow({parameters}):")
    writer.indent += 1
    state = writer.node(node, "None")
    writer.line(f"return {'problem' if state == 'None' else state}")
    return "\n".join(writer.lines)


class _Writer:
    """Writes Python for a tree; the state is the name of the variable with the current solution, or `None`."""

    def __init__(self, *, has_entry_point: bool) -> None:
        self.has_entry_point = has_entry_point
        self.lines: list[str] = []
        self.indent = 0
        self.counter = 0
        self.feedback: str | None = None  # the expression with the last Review's feedback, until a step used it

    def line(self, text: str) -> None:
        self.lines.append("    " * self.indent + text)

    def name(self, stem: str) -> str:
        self.counter += 1
        return f"{stem}_{self.counter}"

    def node(self, node: Node, state: str) -> str:
        if isinstance(node, Call):
            return self.call(node.name, state)
        if isinstance(node, Sequence):
            return self.sequence(node, state)
        if isinstance(node, Loop):
            return self.loop(node, state)
        if isinstance(node, Branch):
            return self.branch(node, state)
        raise _no_ensemble()

    def sequence(self, node: Sequence, state: str) -> str:
        index = 0
        while index < len(node.steps):
            step = node.steps[index]
            if isinstance(step, Parallel):
                ensemble = node.steps[index + 1] if index + 1 < len(node.steps) else None
                if not isinstance(ensemble, Call) or OPERATORS[ensemble.name].drafts() is None:
                    raise _no_ensemble()
                state = self.ensemble(step, OPERATORS[ensemble.name], state)
                index += 2
            else:
                state = self.node(step, state)
                index += 1
        return state

    def ensemble(self, node: Parallel, ensemble: type[Operator], state: str) -> str:
        """Branches become local coroutines that are gathered; their answers go to the ensemble."""
        names = []
        for branch in node.branches:
            name = self.name("branch")
            names.append(f"{name}()")
            self.line(f"async def {name}():")
            self.indent += 1
            result = self.node(branch, state)
            self.line(f"return {'problem' if result == 'None' else result}")
            self.indent -= 1
        drafts, best = self.name("drafts"), self.name("solution")
        self.line(f"{drafts} = await asyncio.gather({', '.join(names)})")
        self.line(f"{best} = {self.result(ensemble, state, drafts=f'list({drafts})')}")
        return best

    def call(self, name: str, state: str) -> str:
        operator = OPERATORS[name]
        result = self.name("solution" if operator.rewrites() else "feedback")
        self.line(f"{result} = {self.result(operator, state)}")
        if operator.rewrites():
            self.feedback = None
            return result
        if operator.main == FEEDBACK:
            self.feedback = result
        return "problem" if state == "None" else state

    def result(self, operator: type[Operator], state: str, drafts: str | None = None) -> str:
        """The main result of an operator's call."""
        return f"(await {self.called(operator, state, drafts)})[{operator.main!r}]"

    def called(self, operator: type[Operator], state: str, drafts: str | None = None) -> str:
        """The call of an operator; one that takes feedback uses it up."""
        draft = None if state == "None" else state
        call = operator_call(
            operator, has_entry_point=self.has_entry_point, draft=draft, drafts=drafts, feedback=self.feedback
        )
        if FEEDBACK in operator.signature().parameters:
            self.feedback = None
        return call

    def loop(self, node: Loop, state: str) -> str:
        variable = self.name("solution")
        self.line(f"{variable} = {'problem' if state == 'None' else state}")
        self.line(f"for _ in range({node.count}):")
        self.indent += 1
        steps = node.body.steps if isinstance(node.body, Sequence) else (node.body,)
        if isinstance(steps[0], Call) and OPERATORS[steps[0].name].verdict and len(steps) > 1:
            self.check(OPERATORS[steps[0].name], variable)
            self.line("if not wrong:")
            self.line("    break")
            steps = steps[1:]
        result = self.sequence(Sequence(steps), variable)
        if result != variable:
            self.line(f"{variable} = {result}")
        self.indent -= 1
        return variable

    def check(self, operator: type[Operator], variable: str) -> None:
        """Set `wrong`, and what the check leaves behind: feedback, or a repaired solution."""
        self.line(f"verdict = await {self.called(operator, variable)}")
        if operator.rewrites():
            self.line(f"{variable} = verdict[{operator.main!r}]")
        self.line(f"wrong = not verdict[{operator.verdict!r}]")
        if FEEDBACK in operator.returns:
            self.feedback = f"verdict[{FEEDBACK!r}]"

    def branch(self, node: Branch, state: str) -> str:
        variable = self.name("solution")
        self.line(f"{variable} = {'problem' if state == 'None' else state}")
        self.check(OPERATORS[node.check], variable)
        feedback = self.feedback
        self.arm("if wrong:", node.wrong, variable)
        self.feedback = feedback
        if node.right is not None:
            self.arm("else:", node.right, variable)
        self.feedback = None
        return variable

    def arm(self, head: str, node: "Node | None", variable: str) -> None:
        self.line(head)
        self.indent += 1
        if node is None:
            self.line("pass")
        else:
            result = self.node(node, variable)
            if result != variable:
                self.line(f"{variable} = {result}")
        self.indent -= 1


def _no_ensemble() -> WorkflowError:
    ensembles = [name for name, operator in OPERATORS.items() if operator.drafts() is not None]
    return WorkflowError("check", f"branches in [...] must be followed by {' or '.join(ensembles)}")
