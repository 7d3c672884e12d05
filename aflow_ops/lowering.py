"""From a checked workflow to the program that the Monty interpreter runs.

Short form: the operators are host functions, reached by name; a call of `workflow` is appended. Native form: a prelude
gives AFlow's surroundings (`operator`, `prompt_custom`, `create_llm_instance`, `CostManager`, `logger`), imports of
AFlow's own modules are dropped, and a call of a `Workflow` instance is appended. Published workflows run as they are.
"""

import ast
import json

from aflow_ops.language.check import AFLOW_MODULES
from aflow_ops.language.scope import Scope, scope_of
from aflow_ops.language.workflow import SOURCE_NAME, Workflow
from aflow_ops.operators import OPERATORS
from data.problem import ProblemView

# The one door out of the interpreter for native workflows; short ones call operators by their own names.
OPERATOR_DOOR = "_call_operator"

_MODULES = "import asyncio, collections, json, math, random, re\nfrom collections import Counter\n"

# `format` is also a builtin, which the interpreter finds before it asks for host functions.
_FORMAT = f"""
async def format(*args, **kwargs):
    reply = await {OPERATOR_DOOR}("Format", {{}}, list(args), kwargs)
    return reply["result"]
"""

_AFLOW_PRELUDE = """
class _Ledger:
    def __init__(self):
        self.total_cost = 0.0
_ledger = _Ledger()
def CostManager(*args, **kwargs):
    return _ledger
class _LLM:
    def __init__(self):
        self.cost_manager = _ledger
    def get_usage_summary(self):
        return {"total_cost": _ledger.total_cost}
def create_llm_instance(*args, **kwargs):
    return _LLM()
class _Operator:
    def __init__(self, name, options):
        self.name = name
        self.options = options
    async def __call__(self, *args, **kwargs):
        reply = await _call_operator(self.name, self.options, list(args), kwargs)
        _ledger.total_cost = reply["total_cost"]
        return reply["result"]
class _Namespace:
    pass
def _constructor(name):
    def construct(llm=None, **options):
        return _Operator(name, options)
    return construct
class _Logger:
    def log(self, *args, **kwargs):
        return None
logger = _Logger()
logger.debug = logger.info = logger.warning = logger.error = logger.exception = logger.log
DatasetType = str
operator = _Namespace()
prompt_custom = _Namespace()
"""


def lower_workflow(workflow: Workflow, problem: ProblemView) -> str:
    """Return the program for one run; its last expression is the workflow's answer.

    Args:
        workflow (`Workflow`): a checked workflow.
        problem (`ProblemView`): what it is run on. Its text reaches the program as the input `_problem`, the entry
            point as `_entry_point`: neither is written into the code.
    """
    tree = ast.parse(workflow.source, SOURCE_NAME)
    scope = scope_of(tree)
    call = f"({_call_arguments(scope)})"
    if scope.workflow_class is None:
        return f"{_MODULES}{_FORMAT}{workflow.source}\nawait workflow{call}"
    tree.body = [node for node in tree.body if not _is_aflow_only(node)]
    prelude = [_MODULES, _AFLOW_PRELUDE]
    prelude += [f"operator.{name} = _constructor({name!r})\n" for name in OPERATORS]
    prelude += [f"prompt_custom.{name} = {json.dumps(text)}\n" for name, text in workflow.prompts.items()]
    instance = f"Workflow(name='workflow', llm_config={{}}, dataset={problem.domain!r})"
    return f"{''.join(prelude)}{ast.unparse(tree)}\n_workflow = {instance}\nawait _workflow{call}"


def _call_arguments(scope: Scope) -> str:
    """The problem first, the entry point by its name, and empty text for anything else without a default."""
    arguments = scope.main.args
    names = [argument.arg for argument in [*arguments.posonlyargs, *arguments.args]]
    names = names[1:] if scope.workflow_class is not None else names
    required = len(names) - len(arguments.defaults)
    values = ["_problem"] + [_value_of(name) for name in names[1:required]]
    values += [f"{name}=_entry_point" for name in names[max(1, required) :] if name == "entry_point"]
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if default is None or argument.arg == "entry_point":
            values.append(f"{argument.arg}={_value_of(argument.arg)}")
    return ", ".join(values)


def _value_of(name: str) -> str:
    return "_entry_point" if name == "entry_point" else "''"


def _is_aflow_only(node: ast.stmt) -> bool:
    """Whether a top-level statement has no meaning here: an AFlow import, or an alias that Monty cannot evaluate."""
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] in AFLOW_MODULES
    if isinstance(node, ast.Import):
        node.names = [alias for alias in node.names if alias.name.split(".")[0] not in AFLOW_MODULES]
        return not node.names
    return (
        isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Subscript)
        and isinstance(node.value.value, ast.Name)
        and node.value.value.id in ("Literal", "List", "Dict", "Tuple", "Optional", "Union")
    )
