"""The DSL: a pipeline of operators on one line, compiled to the short form.

    pipeline := step ("->" step)*
    step     := atom ["*" count]  |  NAME "?" branch ":" branch
    branch   := atom ["*" count]  |  "done"
    atom     := NAME  |  "(" pipeline ")"  |  "[" pipeline ("," pipeline)* "]"

The state is the problem and the current solution. The first operator works on the problem, later ones on the problem
and the solution so far. `[A, B]` runs branches at the same time and must be followed by an ensemble. `Review ? Revise :
done` takes the left branch when the reviewer (or Test) found something wrong. `(Review -> Revise) * 3` repeats, and
ends early once the reviewer is content.
"""

import re
from dataclasses import dataclass

from aflow_ops.errors import WorkflowError

MAX_REPEATS = 10
_TOKEN = re.compile(r"\s*(->|→|[A-Za-z_]\w*|\d+|[\[\](),*?:])")
_GENERATORS = ("Custom", "AnswerGenerate", "CustomCodeGenerate", "Programmer")
_ENSEMBLES = ("ScEnsemble", "MdEnsemble")
_CHECKS = ("Review", "Test")


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


def parse_dsl(text: str, operators: dict[str, str]) -> Node:
    """Parse a DSL workflow.

    Args:
        text (`str`): the pipeline.
        operators (`dict[str, str]`): class names of known operators by their lower-case spelling.

    Raises:
        WorkflowError: stage `"syntax"` (not of the grammar) or `"check"` (unknown operator, misplaced ensemble).
    """
    parser = _Parser(_tokens(text), operators)
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
    def __init__(self, tokens: list[str], operators: dict[str, str]) -> None:
        self.tokens, self.position, self.operators = tokens, 0, operators

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
        if not isinstance(node, Call) or node.name not in _CHECKS:
            raise WorkflowError("check", "only Review or Test can stand before '?'")
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
                branches.append(self.pipeline())
            self.take("]")
            return Parallel(tuple(branches))
        name = self.operators.get(token.replace("_", "").lower())
        if name is None:
            raise WorkflowError("check", f"unknown operator {token!r}; known: {', '.join(self.operators.values())}")
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
        WorkflowError: stage `"check"`: branches that no ensemble follows, or an ensemble with nothing to choose from.
    """
    writer = _Writer()
    parameters = "problem, entry_point" if has_entry_point else "problem"
    writer.line(f"async def workflow({parameters}):")
    writer.indent += 1
    state = writer.node(node, "None")
    writer.line(f"return {'problem' if state == 'None' else state}")
    return "\n".join(writer.lines)


class _Writer:
    """Writes Python for a tree; the state is the name of the variable with the current solution, or `None`."""

    def __init__(self) -> None:
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
        raise WorkflowError("check", "branches in [...] must be followed by ScEnsemble or MdEnsemble")

    def sequence(self, node: Sequence, state: str) -> str:
        index = 0
        while index < len(node.steps):
            step = node.steps[index]
            if isinstance(step, Parallel):
                ensemble = node.steps[index + 1] if index + 1 < len(node.steps) else None
                if not isinstance(ensemble, Call) or ensemble.name not in _ENSEMBLES:
                    raise WorkflowError("check", "branches in [...] must be followed by ScEnsemble or MdEnsemble")
                state = self.ensemble(step, ensemble.name, state)
                index += 2
            else:
                state = self.node(step, state)
                index += 1
        return state

    def ensemble(self, node: Parallel, ensemble: str, state: str) -> str:
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
        key, snake = ("response", "sc_ensemble") if ensemble == "ScEnsemble" else ("solution", "md_ensemble")
        self.line(f"{drafts} = await asyncio.gather({', '.join(names)})")
        self.line(f"{best} = (await {snake}(solutions=list({drafts}), problem=problem))[{key!r}]")
        return best

    def call(self, name: str, state: str) -> str:
        result = self.name("feedback" if name == "Review" else "solution")
        draft = "problem" if state == "None" else state
        if name == "Review":
            self.line(f"{result} = (await review(problem=problem, solution={draft}))['feedback']")
            self.feedback = result
            return state if state != "None" else "problem"
        self.line(f"{result} = {self.expression(name, state, draft)}")
        return result

    def expression(self, name: str, state: str, draft: str) -> str:
        """The call of an operator other than Review, reduced to its main result."""
        question = "problem" if state == "None" else f"problem + '\\n\\nDraft:\\n' + str({draft})"
        feedback = self.feedback or "'Check every step and correct what is wrong.'"
        self.feedback = None
        calls = {
            "Custom": f"custom(input={question}))['response']",
            "AnswerGenerate": f"answer_generate(input={question}))['answer']",
            "CustomCodeGenerate": f"custom_code_generate(problem={question}, entry_point=entry_point))['response']",
            "Programmer": "programmer(problem=problem"
            + ("" if state == "None" else f", analysis=str({draft})")
            + "))['output']",
            "Test": f"test(problem=problem, solution={draft}, entry_point=entry_point))['solution']",
            "Revise": f"revise(problem=problem, solution={draft}, feedback={feedback}))['solution']",
            "Format": f"format(problem=problem, solution={draft}))['solution']",
            "ScEnsemble": f"sc_ensemble(solutions=[{draft}], problem=problem))['response']",
            "MdEnsemble": f"md_ensemble(solutions=[{draft}], problem=problem))['solution']",
        }
        return "(await " + calls[name]

    def loop(self, node: Loop, state: str) -> str:
        variable = self.name("solution")
        self.line(f"{variable} = {'problem' if state == 'None' else state}")
        self.line(f"for _ in range({node.count}):")
        self.indent += 1
        steps = node.body.steps if isinstance(node.body, Sequence) else (node.body,)
        if isinstance(steps[0], Call) and steps[0].name in _CHECKS and len(steps) > 1:
            self.check(steps[0].name, variable)
            self.line("if not wrong:")
            self.line("    break")
            steps = steps[1:]
        result = self.sequence(Sequence(steps), variable)
        if result != variable:
            self.line(f"{variable} = {result}")
        self.indent -= 1
        return variable

    def check(self, name: str, variable: str) -> None:
        """Set `wrong`, and what the check leaves behind: feedback, or a repaired solution."""
        if name == "Review":
            self.line(f"verdict = await review(problem=problem, solution={variable})")
            self.line("wrong = not verdict['review_result']")
            self.feedback = "verdict['feedback']"
        else:
            self.line(f"verdict = await test(problem=problem, solution={variable}, entry_point=entry_point)")
            self.line(f"{variable} = verdict['solution']")
            self.line("wrong = not verdict['result']")

    def branch(self, node: Branch, state: str) -> str:
        variable = self.name("solution")
        self.line(f"{variable} = {'problem' if state == 'None' else state}")
        self.check(node.check, variable)
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
