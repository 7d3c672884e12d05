"""Which calls in a workflow's tree are operator calls: the one question that the checker and the repairs share."""

import ast
import builtins
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TypeGuard

from aflow_ops.errors import WorkflowError
from aflow_ops.language.demonstration import without_demonstration
from aflow_ops.language.dialects import SCOREFLOW, SOLVEGRAPH, Spoken, operator_keys, spoken_operator
from aflow_ops.language.imports import PROMPTS_NAME, Imports, dotted, read_imports
from aflow_ops.operators import OPERATORS, Operator, spelled

FunctionNode = ast.AsyncFunctionDef | ast.FunctionDef

# What AFlow's workflows use beside operators; the runtime provides or ignores these.
AFLOW_NAMES = frozenset(
    {"operator", "prompt_custom", "create_llm_instance", "AsyncLLM", "CostManager", "DatasetType", "logger"}
)
# Names of the class, newest first.
CLASS_NAMES = ("Workflow", "SolveGraph")
# What is called to run it: AFlow's name, then ScoreFlow's, whose constructor takes the problem.
_CALL_NAME, _SCOREFLOW_NAMES = "__call__", ("run_workflow", "run")


@dataclass(frozen=True)
class OperatorCallNode:
    """A call of an operator in the tree."""

    node: ast.Call
    spoken: Spoken

    @property
    def operator(self) -> type[Operator]:
        """What it runs."""
        return self.spoken.operator


@dataclass(frozen=True)
class Scope:
    """A workflow's tree with what its names mean.

    Args:
        tree (`ast.Module`): the source, without what it shows its workflow by (`demonstration.py`).
        main (`FunctionNode`): what is run: `workflow`, `Workflow.__call__` or ScoreFlow's `run_workflow`.
        workflow_class (`ast.ClassDef`, *optional*): the class, in native form.
        classes (`tuple[ast.ClassDef, ...]`): it and those of its bases that the source defines.
        attributes (`dict[str, str]`): keys of operators (see `dialects.py`) by attribute of `self`, in native form.
        bound (`frozenset[str]`): every name that the source itself binds.
        imports (`Imports`): what its imports mean.
        keys (`dict[str, str]`): keys of all operators by the names that the source may construct them by.
        derived (`dict[str, str]`): the operator, by name, that each class of the source's own is derived from.
        inherited (`dict[int, str]`): key of the operator that a call by `super()` runs, by the identity of its node.
        demonstration (`tuple[ast.stmt, ...]`): what the source has beside its workflow; none of it is in `tree`.
    """

    tree: ast.Module
    main: FunctionNode
    workflow_class: ast.ClassDef | None
    classes: tuple[ast.ClassDef, ...]
    attributes: dict[str, str]
    bound: frozenset[str]
    imports: Imports = field(default_factory=Imports)
    keys: dict[str, str] = field(default_factory=operator_keys)
    derived: dict[str, str] = field(default_factory=dict)
    inherited: dict[int, str] = field(default_factory=dict)
    demonstration: tuple[ast.stmt, ...] = ()

    @property
    def is_scoreflow(self) -> bool:
        """Whether the problem goes to the constructor and operators return text."""
        return self.workflow_class is not None and self.main.name in _SCOREFLOW_NAMES

    def constructed(self, call: ast.Call) -> str | None:
        """Return the operator's name, as it is written, of a call such as `operator.X(...)`."""
        return operator_name(call.func, self.imports)

    def is_pythons_format(self, call: ast.Call) -> bool:
        """Whether a call of `format` in the short form is Python's own: of one value, or with a specification."""
        if self.workflow_class is not None or not isinstance(call.func, ast.Name) or call.func.id != "format":
            return False
        specified = len(call.args) == 2 and isinstance(call.args[1], (ast.Constant, ast.JoinedStr))
        return "format" not in self.bound and not call.keywords and (len(call.args) == 1 or specified)

    def spoken(self, call: ast.Call) -> Spoken | None:
        """Return the operator that a call runs, or `None` for any other call."""
        function = call.func
        if self.is_pythons_format(call):
            return None
        if id(call) in self.inherited:
            return spoken_operator(self.inherited[id(call)])
        if isinstance(function, ast.Name) and self.workflow_class is None and function.id not in self.bound:
            name = spelled(function.id)
            return spoken_operator(name) if name and OPERATORS[name].snake_name() == function.id else None
        if isinstance(function, ast.Attribute) and is_self_attribute(function) and function.attr in self.attributes:
            return spoken_operator(self.attributes[function.attr])
        if isinstance(function, ast.Call):
            constructed = self.constructed(function)
            return spoken_operator(self.keys[constructed]) if constructed in self.keys else None
        return None

    def operator_of(self, call: ast.Call) -> type[Operator] | None:
        """Return the operator that a call runs, or `None` for any other call."""
        spoken = self.spoken(call)
        return spoken.operator if spoken else None

    def operator_calls(self) -> Iterator[OperatorCallNode]:
        """Yield operator calls in the order of the source."""
        calls = [node for node in ast.walk(self.tree) if isinstance(node, ast.Call)]
        for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset, -(node.end_col_offset or 0))):
            spoken = self.spoken(call)
            if spoken is not None:
                yield OperatorCallNode(call, spoken)


def operator_name(node: ast.expr, imports: Imports) -> str | None:
    """Return the operator's name, as it is written, of an expression such as `operator.X`; `None` for any other."""
    if isinstance(node, ast.Attribute) and dotted(node.value) in imports.operators:
        return node.attr
    return imports.classes.get(node.id) if isinstance(node, ast.Name) else None


def is_self_attribute(node: ast.expr) -> bool:
    """Whether the expression is `self.name`."""
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"


def scope_of(tree: ast.Module, prompts: Collection[str] = ()) -> Scope:
    """Find the workflow in a parsed source.

    Args:
        tree (`ast.Module`): the source.
        prompts (`Collection[str]`): names of the prompt constants, which an import may bind.

    Raises:
        WorkflowError: neither a workflow's class nor `async def workflow` (stage `"find"`), or an import that no
            workflow may make (stage `"check"`).
    """
    tree, shown = without_demonstration(tree)
    imports = read_imports(tree, prompts)
    bound = frozenset(_bound_names(tree)) | imports.bound
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    aliases = dict(_aliases(tree))
    named = (classes.get(aliases.get(name, name)) for name in CLASS_NAMES)
    workflow_class = next((node for node in named if node is not None), None)
    if workflow_class is not None:
        line = _with_bases(workflow_class, classes)
        main = _main_method(line)
        older = SOLVEGRAPH if "SolveGraph" in (workflow_class.name, *aliases) else ""
        keys = operator_keys(SCOREFLOW if main.name in _SCOREFLOW_NAMES else older)
        scope = Scope(tree, main, workflow_class, line, {}, bound, imports, keys, demonstration=shown)
        _find_derived(scope, classes)
        scope.attributes.update(_operator_attributes(scope, classes))
        return scope
    for node in tree.body:
        if isinstance(node, FunctionNode) and node.name == aliases.get("workflow", "workflow"):
            scope = Scope(tree, node, None, (), {}, bound, imports, demonstration=shown)
            _find_derived(scope, classes)
            return scope
    raise WorkflowError("find", "no `async def workflow(problem)` and no `class Workflow` at the top level")


def _aliases(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the names of other things that the source gives the workflow's name to: `Workflow = MathWorkflow`."""
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Name(id=value)) if name in (
                *CLASS_NAMES,
                "workflow",
            ):
                yield name, value


def _with_bases(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> tuple[ast.ClassDef, ...]:
    """The class, then its bases as far as the source defines them, in the order in which Python looks."""
    line = [node]
    for item in line:
        bases = [classes[base.id] for base in item.bases if isinstance(base, ast.Name) and base.id in classes]
        line += [base for base in bases if base not in line]
    return tuple(line)


def main_functions(tree: ast.Module) -> Iterator[FunctionNode]:
    """Yield the functions that may be what a source runs: `workflow`, and the calls of a workflow's class and bases."""
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    yield from (node for node in tree.body if isinstance(node, FunctionNode) and node.name == "workflow")
    for item in (base for name in CLASS_NAMES if name in classes for base in _with_bases(classes[name], classes)):
        names = (_CALL_NAME, *_SCOREFLOW_NAMES)
        yield from (node for node in item.body if isinstance(node, FunctionNode) and node.name in names)


def _main_method(line: tuple[ast.ClassDef, ...]) -> FunctionNode:
    for name in (_CALL_NAME, *_SCOREFLOW_NAMES):
        method = method_of(line, name)
        if method is not None:
            return method
    raise WorkflowError("find", f"class {line[0].name} has no `async def __call__(self, problem)`")


def method_of(line: tuple[ast.ClassDef, ...], name: str) -> FunctionNode | None:
    """Return a method by its name, looked for in the class first and in its bases then."""
    methods = (item for node in line for item in node.body if isinstance(item, FunctionNode))
    return next((item for item in methods if item.name == name), None)


def _find_derived(scope: Scope, classes: dict[str, ast.ClassDef]) -> None:
    """Note which classes of the source's own are operators, and where these call the operator they are made from."""
    for name, node in classes.items():
        for base in node.bases:
            own = base.id if isinstance(base, ast.Name) else ""
            operator = scope.derived.get(own) or operator_name(base, scope.imports)
            if operator is not None:
                scope.derived[name] = operator
    for name, operator in scope.derived.items():
        calls = [node for node in ast.walk(classes[name]) if isinstance(node, ast.Call)]
        direct = not any(isinstance(base, ast.Name) and base.id in scope.derived for base in classes[name].bases)
        if direct and operator in scope.keys:
            scope.inherited.update({id(call): scope.keys[operator] for call in calls if _is_super_call(call)})


def _is_super_call(call: ast.Call) -> bool:
    function = call.func
    is_call = isinstance(function, ast.Attribute) and function.attr == _CALL_NAME
    owner = function.value if isinstance(function, ast.Attribute) else None
    return is_call and isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name) and owner.func.id == "super"


def _plain_derived(call: ast.Call, scope: Scope, classes: dict[str, ast.ClassDef]) -> str | None:
    """The operator that an object of the source's own class is called like; `None` where it has a call of its own."""
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    if name not in scope.derived or method_of(_with_bases(classes[name], classes), _CALL_NAME) is not None:
        return None
    return scope.derived[name]


def _operator_attributes(scope: Scope, classes: dict[str, ast.ClassDef]) -> dict[str, str]:
    attributes = {}
    for node in (node for item in scope.classes for node in ast.walk(item)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if _is_annotated(node) else []
        value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
        if isinstance(value, ast.Call):
            name = scope.constructed(value) or _plain_derived(value, scope, classes)
            for target in targets:
                if name in scope.keys and isinstance(target, ast.Attribute) and is_self_attribute(target):
                    attributes[target.attr] = scope.keys[name]
    return attributes


def _is_annotated(node: ast.AST) -> TypeGuard[ast.AnnAssign]:
    return isinstance(node, ast.AnnAssign)


def used_prompts(scope: Scope) -> dict[str, str]:
    """Return the names of prompt constants that the source reads and does not set, by how it writes them."""
    read, stored = dict[str, str](), set()
    for node in ast.walk(scope.tree):
        if isinstance(node, ast.Attribute) and (owner := dotted(node.value)) in scope.imports.prompts:
            if isinstance(node.ctx, ast.Load):
                read[f"{owner}.{node.attr}"] = node.attr
            else:
                stored.add(node.attr)
    if PROMPTS_NAME in scope.bound - scope.imports.bound:  # an object of the source's own
        read.clear()
    read.update(scope.imports.constants)
    absent = stored | set(_asked_for(scope.tree))
    return {written: name for written, name in read.items() if name not in absent and not name.startswith("__")}


def _asked_for(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a source looks for before it reads them: `hasattr(prompt_custom, "NAME")`."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="hasattr"), args=[_, ast.Constant(value=str() as name)]):
                yield name


def _bound_names(tree: ast.Module) -> Iterator[str]:
    """Yield every name that the source binds anywhere; the workflow's own function is not an operator's name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            yield node.name
        elif isinstance(node, ast.MatchMapping) and node.rest:
            yield node.rest


def is_known_function(name: str, scope: Scope) -> bool:
    """Whether a called bare name is defined by the source, Python, or AFlow's surroundings."""
    given = AFLOW_NAMES | {"Counter"} | ({"create"} if scope.workflow_class is not None else set())
    return name in scope.bound or hasattr(builtins, name) or name in given
