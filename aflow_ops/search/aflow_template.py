"""AFlow's operator template: the folder that says which operators the workflows of a data set may call.

    workspace/MATH/workflows/template/operator.json    {"Custom": {"description": "...", "interface": "..."}}
                                      operator.py      the classes that `graph.py` imports
                                      op_prompt.py, operator_an.py    what these import

AFlow's optimizer is told of the operators in `operator.json`, in these words. Here they are the operators that a search
which goes on from the folder is told of, and proposes; what runs are the operators of this runtime by these names.
Nothing in the folder is imported. Layout as in FoundationAgents/AFlow, `scripts/optimizer_utils/graph_utils.py`.
"""

import ast
import inspect
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aflow_ops.errors import UsageError
from aflow_ops.operators import OPERATORS
from aflow_ops.workflow_files import read_source
from data.files import write_atomically

TABLE, CLASSES = "operator.json", "operator.py"
_FILES = (TABLE, CLASSES, "op_prompt.py", "operator_an.py", "__init__.py")
# The classes in AFlow's `scripts/operators.py`.
_AFLOW = frozenset(
    ("Custom", "AnswerGenerate", "CustomCodeGenerate", "Programmer", "Test", "Review", "Revise", "ScEnsemble",
     "MdEnsemble", "Format")
)  # fmt: skip
# Arguments that have a default here and none in AFlow.
REQUIRED_BY_AFLOW = {"Custom": "instruction", "CustomCodeGenerate": "instruction"}


@dataclass(frozen=True)
class AFlowTemplate:
    """What a template folder holds.

    Args:
        described (`Mapping[str, str]`): by operator, what the optimizer is told that it does; of `operator.json`.
        files (`Mapping[str, str]`): the files' texts by name, to be written again as they were.
    """

    described: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def offered(self) -> dict[str, str] | None:
        """The operators that are registered here too, with what is told of them; `None` where no table names any."""
        known = {name: said for name, said in self.described.items() if name in OPERATORS}
        return known or None

    @property
    def unknown(self) -> list[str]:
        """The operators that this runtime does not have."""
        return [name for name in self.described if name not in OPERATORS]


def read_template(workflows: Path) -> AFlowTemplate | None:
    """Read the template of a `workflows` folder, or of the data set's folder around it.

    Args:
        workflows (`Path`): where `round_1` and `template` lie.

    Returns:
        `AFlowTemplate`: `None` where there is no such folder.

    Raises:
        UsageError: a file cannot be read, or `operator.json` is no table of operators.
    """
    folder = (workflows / "workflows" if (workflows / "workflows").is_dir() else workflows) / "template"
    files = {name: read_source(folder / name) for name in _FILES if (folder / name).is_file()}
    if not files:
        return None
    return AFlowTemplate(_described(files[TABLE], folder / TABLE) if TABLE in files else {}, files)


def _described(text: str, path: Path) -> dict[str, str]:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no JSON: {error}") from None
    rows = table.items() if isinstance(table, dict) else [("", table)]
    wrong = next((row for name, row in rows if not name or not isinstance(row, dict)), None)
    if wrong is not None:
        raise UsageError(
            f'{path} is no table of operators: AFlow\'s is {{"Custom": {{"description": "...", "interface": "..."}}}}, '
            f"this has {json.dumps(wrong)[:80]}"
        )
    return {name: " ".join(str(row.get("description") or "").split()) for name, row in rows}


def write_template(folder: Path, used: Collection[str], template: AFlowTemplate | None = None) -> list[str]:
    """Complete a template folder, so that it has the operators that the rounds beside it call.

    What the folder has, or else the template that the search started from, stays as it is; what is missing is added.

    Args:
        folder (`Path`): the template's.
        used (`Collection[str]`): operators, by class name.
        template (`AFlowTemplate`, *optional*): that the search started from.

    Returns:
        `list[str]` of operators for which AFlow has no class, and the folder has none.
    """
    files = {name: read_source(folder / name) for name in _FILES if (folder / name).is_file()}
    files = files or dict(template.files if template else {})
    ordered = [name for name in OPERATORS if name in used]
    classes = files.get(CLASSES, '"""The operators of this data set."""\n')
    missing = [name for name in ordered if name not in _names_in(classes)]
    imported = [name for name in missing if name in _AFLOW]
    if imported:
        classes = f"{classes.rstrip()}\n\nfrom scripts.operators import {', '.join(imported)}\n"
    for name, text in {"__init__.py": "", **files, TABLE: _table(files.get(TABLE), ordered), CLASSES: classes}.items():
        with write_atomically(folder / name) as file:
            file.write(text)
    return [name for name in missing if name not in _AFLOW]


def _table(text: str | None, used: Collection[str]) -> str:
    """`operator.json` with a row for each operator; one that has them all, or that is no table, as it is."""
    try:
        table: Any = {} if text is None else json.loads(text)
    except ValueError:
        table = None
    if text is not None and (not isinstance(table, dict) or set(used) <= set(table)):
        return text
    for name in used:
        table.setdefault(name, {"description": OPERATORS[name].summary, "interface": _interface(name)})
    return json.dumps(table, indent=4, ensure_ascii=False) + "\n"


def _interface(name: str) -> str:
    """How an operator is called, and what it returns, in a line."""
    operator, arguments = OPERATORS[name], []
    for argument, parameter in operator.signature().parameters.items():
        if argument == "mode":
            continue  # AFlow's, without a meaning
        optional = parameter.default is not inspect.Parameter.empty and REQUIRED_BY_AFLOW.get(name) != argument
        kind = inspect.formatannotation(parameter.annotation)
        arguments.append(f"{argument}: {kind}" + (f" = {parameter.default!r}" if optional else ""))
    keys = " and ".join(repr(key) for key in operator.returns)
    return f"{operator.snake_name()}({', '.join(arguments)}) -> dict with {keys}"


def _names_in(source: str) -> set[str]:
    """The names that a module defines or imports at its top level; none where it is no Python."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    names = {node.name for node in body if isinstance(node, ast.ClassDef)}
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names
