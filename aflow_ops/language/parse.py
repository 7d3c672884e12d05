"""From a completion to a checked workflow."""

import ast
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from aflow_ops.errors import WorkflowError
from aflow_ops.language.check import check_workflow
from aflow_ops.language.dsl import compile_dsl, parse_dsl, print_dsl
from aflow_ops.language.find import FoundCode, check_size, find_workflows, looks_like_dsl
from aflow_ops.language.prompt_code import with_prompt_code
from aflow_ops.language.repair import MADE_ASYNC, parse_python, repair_tree
from aflow_ops.language.scope import Scope, scope_of
from aflow_ops.language.workflow import SOURCE_NAME, Form, Workflow
from aflow_ops.operators import OPERATORS, Operator
from data.problem import Domain

# Texts that are parsed and checked once, and their greatest length.
MAX_REMEMBERED, MAX_REMEMBERED_CHARS = 512, 20_000


def parse_workflow(
    completion: str, *, domain: Domain, has_entry_point: bool, prompts: Mapping[str, Any] | None = None
) -> Workflow:
    """Find, repair and check the workflow in a completion.

    Args:
        completion (`str`): any text.
        domain (`str`): domain of the problem; some operators are for some domains only.
        has_entry_point (`bool`): whether the problem names a function to write.
        prompts (`Mapping[str, Any]`, *optional*): what `prompt_custom` has beside, from a file next to the workflow:
            constants, or as of `prompt_definitions`.

    Returns:
        `Workflow`: ready to run.

    Raises:
        WorkflowError: there is no usable workflow; nothing else is raised, whatever the text.
    """
    if prompts is not None or len(completion) > MAX_REMEMBERED_CHARS:
        return _parsed(completion, domain, has_entry_point, prompts or {})
    return _remembered(completion, domain, has_entry_point, tuple(OPERATORS.values()))


@lru_cache(maxsize=MAX_REMEMBERED)
def _remembered(
    completion: str, domain: Domain, has_entry_point: bool, operators: tuple[type[Operator], ...]
) -> Workflow:
    """An evaluation runs one text on every problem, and completions of a group are often equal."""
    return _parsed(completion, domain, has_entry_point, {})


def _parsed(completion: str, domain: Domain, has_entry_point: bool, prompts: Mapping[str, Any]) -> Workflow:
    first_error: WorkflowError | None = None
    for found in find_workflows(completion):
        try:
            return _found_workflow(found, domain, has_entry_point, prompts)
        except WorkflowError as error:
            first_error = first_error or error
    assert first_error is not None
    raise first_error


def _found_workflow(found: FoundCode, domain: Domain, has_entry_point: bool, prompts: Mapping[str, Any]) -> Workflow:
    if found.is_python:
        return _python_workflow(found, domain, has_entry_point, prompts)
    if looks_like_dsl(found.text):
        return _dsl_workflow(found, domain, has_entry_point)
    _, _, _ = parse_python(found.text)  # says what is wrong with it, if it is not even Python
    raise WorkflowError("find", "the code defines neither `async def workflow(problem)` nor `class Workflow`")


def _python_workflow(found: FoundCode, domain: Domain, has_entry_point: bool, prompts: Mapping[str, Any]) -> Workflow:
    try:
        definitions = {**prompts, **found.prompts}
        tree, text, repairs = parse_python(found.text)
        scope = scope_of(tree, definitions)
        whole, constants = with_prompt_code(text, scope, definitions)
        if whole != text:
            check_size(whole)
            tree, text, _ = parse_python(whole)
        scope = scope_of(tree, constants)
        tree_repairs = repair_tree(scope, was_plain=MADE_ASYNC in repairs)
        notes = check_workflow(scope, domain=domain, has_entry_point=has_entry_point, prompts=definitions)
        if tree_repairs:
            text = ast.unparse(scope.tree)
        operators = tuple(call.operator.__name__ for call in scope.operator_calls())
    except RecursionError:
        raise WorkflowError("syntax", "the code is nested too deeply") from None
    return Workflow(
        form=_form(scope),
        text=text,
        source=text,
        operators=operators,
        repairs=(*repairs, *tree_repairs, *notes),
        prompts=constants,
    )


def _form(scope: Scope) -> Form:
    return "short" if scope.workflow_class is None else "native"


def _dsl_workflow(found: FoundCode, domain: Domain, has_entry_point: bool) -> Workflow:
    node = parse_dsl(found.text)
    source = compile_dsl(node, has_entry_point=has_entry_point)
    try:
        scope = scope_of(ast.parse(source, SOURCE_NAME))
    except SyntaxError:  # Python indents a hundred levels at most
        raise WorkflowError("check", "the pipeline is nested too deeply") from None
    check_workflow(scope, domain=domain, has_entry_point=has_entry_point)
    text = found.text.strip()
    respelled = "".join(print_dsl(node).split()) != "".join(text.replace("→", "->").rstrip(";").split())
    needs_respelling = respelled and "".join(print_dsl(node).split()).lower() == _bare(text)
    return Workflow(
        form="dsl",
        text=print_dsl(node) if needs_respelling else text,
        source=source,
        operators=tuple(call.operator.__name__ for call in scope.operator_calls()),
        repairs=("spelled the operators by their class names",) if needs_respelling else (),
    )


def _bare(text: str) -> str:
    return "".join(text.replace("→", "->").replace("_", "").rstrip(";").split()).lower()
