"""What a prompt file computes: functions, classes, and values that are not read. They run with the workflow.

Example: `prompt.py` holds

    from enum import StrEnum
    ROLE = "expert"
    class Prompts(StrEnum):
        SOLVE = f"You are an {ROLE}."
    def ask(problem):
        return f"{Prompts.SOLVE} {problem}"

and the workflow reads `prompt_custom.ask`. It is given, in front of its own code, a function that holds what `ask`
needs (here all of the file, with `ROLE = prompt_custom.ROLE`), sets `prompt_custom.ask`, and is called at once. Nothing
is run by who reads the file; the workflow runs in a sandbox.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from aflow_ops.errors import WorkflowError
from aflow_ops.language.constants import changed_by, prompt_statements, read_constants
from aflow_ops.language.fstrings import plain_fstrings
from aflow_ops.language.imports import PROMPTS_NAME, dotted
from aflow_ops.language.scope import Scope
from aflow_ops.operators import OPERATORS

# The function that holds a file's code in a workflow: the file's names are its own.
_HOLDER = "_prompt_file"
_EVERYTHING = "*"
# Statements of a file whose code is looked at; of a longer one only the constants are known.
MAX_STATEMENTS = 2_000


@dataclass(frozen=True, eq=False)
class PromptFile:
    """A prompt file whose code may be needed.

    Args:
        statements (`list[ast.stmt]`): all of it.
        constants (`dict[str, Any]`): what can be read without running it.
    """

    statements: list[ast.stmt]
    constants: dict[str, Any]

    @cached_property
    def code_names(self) -> list[str]:
        """Names that its statements set and that are no constants; a class is code, whatever it holds."""
        found = dict[str, None]()
        for statement in self.statements:
            if not isinstance(statement, (ast.Import, ast.ImportFrom)):
                is_class = isinstance(statement, ast.ClassDef)
                found |= dict.fromkeys(name for name in _set_names(statement) if is_class or name not in self.constants)
        return list(found)

    @cached_property
    def certain_names(self) -> set[str]:
        """Names that are set whatever the file's conditions and loops come to."""
        plain = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
        return {name for item in self.statements if isinstance(item, plain) for name in changed_by(item)}

    @cached_property
    def _setters(self) -> dict[str, list[int]]:
        """Positions of the statements that set or change a name, and of calls at the top level that may."""
        found = defaultdict(list)
        for position, statement in enumerate(self.statements):
            is_call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
            for name in _read_names(statement) if is_call else dict.fromkeys(_set_names(statement)):
                found[name].append(position)
        return found

    def needed(self, names: Iterable[str]) -> tuple[list[str], list[ast.stmt]]:
        """Return the constants and the statements, in their order, that names of its code need."""
        code, chosen, constants = set(self.code_names), set[int](), []
        pending, seen = list(names), set[str]()
        while pending:
            name = pending.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self.constants and name not in code:
                constants.append(name)
                continue
            for position in self._setters.get(name, ()):
                if position not in chosen:
                    chosen.add(position)
                    pending += [*_read_names(self.statements[position]), *_set_names(self.statements[position])]
        return sorted(constants), [self.statements[position] for position in sorted(chosen)]

    @property
    def text(self) -> str:
        """All of its code as Python, constants left out."""
        _, statements = self.needed(self.code_names)
        return plain_fstrings("\n".join(map(ast.unparse, statements)))


@dataclass(frozen=True)
class PromptCode:
    """A name of a prompt file that has to be run.

    Args:
        file (`PromptFile`): where it stands.
        texts (`dict[str, Any]`): of a class, the constants that can be read without running it.
    """

    file: PromptFile
    texts: dict[str, Any] = field(default_factory=dict)


def prompt_definitions(source: str) -> dict[str, Any]:
    """Read a prompt file without running it.

    Args:
        source (`str`): Python, as in AFlow's `prompt.py` or a `<prompt>` block.

    Returns:
        `dict[str, Any]`: constants as by `prompt_constants`, and a `PromptCode` for every other name, which
        `parse_workflow` takes as `prompts`.
    """
    statements = prompt_statements(source)
    file = PromptFile(statements, read_constants(statements))
    if len(statements) > MAX_STATEMENTS:
        return file.constants
    return {**file.constants, **{name: PromptCode(file, _texts(file, name)) for name in file.code_names}}


def _texts(file: PromptFile, name: str) -> dict[str, Any]:
    texts = file.constants.get(name, {})
    return texts if isinstance(texts, dict) else {}


def with_prompt_code(source: str, scope: Scope, definitions: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Give a workflow the code of its prompt files that it needs.

    Args:
        source (`str`): the workflow.
        scope (`Scope`): what its names mean.
        definitions (`Mapping[str, Any]`): as of `prompt_definitions`.

    Returns:
        `tuple`: the source, with the code in front where it needs some, and the constants. A class of which the source
        reads constants only is a dict of them.

    Raises:
        WorkflowError: the code defines what would be taken for an operator, or is no Python of ours.
    """
    code = {name: value for name, value in definitions.items() if isinstance(value, PromptCode)}
    constants = {name: value for name, value in definitions.items() if name not in code}
    wanted: dict[PromptFile, list[str]] = {}
    uses = _uses(scope)
    for name, value in code.items():
        if value.texts and uses.get(name, set()) <= value.texts.keys() and _EVERYTHING not in uses:
            constants[name] = value.texts
        elif name in uses or (_EVERYTHING in uses and name in value.file.certain_names):
            wanted.setdefault(value.file, []).append(name)
    if PROMPTS_NAME in scope.bound - scope.imports.bound:  # an object of the source's own
        wanted.clear()
    for file, names in wanted.items():
        source = _behind_futures(source, _held(file, names, scope))
    return source, constants


def _held(file: PromptFile, names: Iterable[str], scope: Scope) -> str:
    """The function that holds what some names need, and its call."""
    constants, statements = file.needed(names)
    operators = {operator.snake_name() for operator in OPERATORS.values()} if scope.workflow_class is None else set()
    for name in operators.intersection(name for statement in statements for name in _set_names(statement)):
        raise WorkflowError("check", f"the prompt file defines {name!r}, which is the name of an operator")
    (holder,) = ast.parse(f"def {_HOLDER}():\n    pass").body
    assert isinstance(holder, ast.FunctionDef)
    reads = "\n".join(f"{name} = {PROMPTS_NAME}.{name}" for name in constants)
    sets = "\n".join(f"{PROMPTS_NAME}.{name} = {name}" for name in names)
    starred = any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in ast.walk(scope.tree))
    imported = [name for name in names if starred and name in scope.imports.constants]
    bound = "".join(f"{name} = {PROMPTS_NAME}.{name}\n" for name in imported)
    holder.body = [*ast.parse(reads).body, *statements, *ast.parse(sets).body]
    try:
        return f"{plain_fstrings(ast.unparse(holder))}\n{_HOLDER}()\n{bound}"
    except ValueError as error:  # an f-string that Python before 3.12 cannot write
        raise WorkflowError("syntax", f"the prompt file: {error}") from None


def _behind_futures(source: str, code: str) -> str:
    """Put code in front of a source, behind what must come first in a file."""
    lines = source.split("\n")
    futures = (n for n in ast.parse(source).body if isinstance(n, ast.ImportFrom) and n.module == "__future__")
    at = max((node.end_lineno or 0 for node in futures), default=0)
    return "\n".join([*lines[:at], code, *lines[at:]])


def _uses(scope: Scope) -> dict[str, set[str | None]]:
    """What a source does with each name of its prompt file: attributes that it reads, `None` for anything else.

    A name that is imported counts, used or not. `"*"` is among the names when the module itself goes somewhere.
    """
    nodes = list(ast.walk(scope.tree))
    owners = {id(node.value): node for node in nodes if isinstance(node, ast.Attribute)}
    named = dict(_named(nodes))
    found: dict[str, set[str | None]] = defaultdict(set)
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if scope.imports.constants.get(alias.asname or alias.name) == alias.name:
                    found[alias.name].update()
        if not isinstance(node, (ast.Name, ast.Attribute)) or not isinstance(node.ctx, ast.Load):
            continue
        owner = owners.get(id(node))
        if isinstance(node, ast.Name) and node.id in scope.imports.constants:
            found[scope.imports.constants[node.id]].add(owner.attr if owner else None)
        elif dotted(node) in scope.imports.prompts:
            if owner is None:
                found[named.get(id(node), _EVERYTHING)].add(None)
            elif isinstance(owner.ctx, ast.Load):
                further = owners.get(id(owner))
                found[owner.attr].add(further.attr if further else None)
    return found


def _named(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    """Yield what stands for a module, by its identity, with the name that is asked of it."""
    for node in nodes:
        match node:
            case ast.Call(func=ast.Name(id="getattr" | "hasattr"), args=[module, ast.Constant(value=name), *_]):
                yield id(module), str(name)


def _set_names(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement sets or changes, those of imports in it included."""
    yield from changed_by(statement)
    for node in ast.walk(statement):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)


def _read_names(statement: ast.stmt) -> list[str]:
    names = (node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))
    return list(dict.fromkeys(names))
