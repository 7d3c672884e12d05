"""From a checked workflow to the program that an interpreter runs.

Short form: the operators are host functions, reached by name; a call of `workflow` is appended. Native form: a prelude
gives AFlow's surroundings (`operator`, `prompt_custom`, `create_llm_instance`, `CostManager`, `logger`), imports of
AFlow's own modules are dropped, and a call of a `Workflow` instance is appended. Published workflows run as they are.
"""

import ast
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aflow_ops.language.imports import BASE_OPERATOR, PROMPTS_NAME
from aflow_ops.language.scope import Scope, method_of, scope_of
from aflow_ops.language.workflow import SOURCE_NAME, Workflow
from aflow_ops.operators import OPERATORS
from aflow_ops.python_source import MODULES_AT_HAND
from data.problem import Domain

# What Python's own `format` is called where an operator has its name.
PYTHONS_FORMAT = "_pythons_format"
# The one door out of an interpreter for native workflows; short ones call operators by their own names.
OPERATOR_DOOR = "_call_operator"

# Equal runs draw equal random numbers, in both interpreters.
_MODULES = f"""import {", ".join(MODULES_AT_HAND)}
from collections import Counter
random.seed({{seed}})
"""

# `format` is also a builtin, which the interpreter finds before it asks for host functions.
_FORMAT = f"""
{PYTHONS_FORMAT} = format
async def format(*args, **kwargs):
    reply = await {OPERATOR_DOOR}("Format", {{}}, list(args), kwargs)
    return reply["result"]
"""

_AFLOW_PRELUDE = """
class _Ledger:
    def __init__(self):
        self.total_cost = 0.0
        self.total_tokens = 0
        self.total_prompt_tokens = self.total_input_tokens = 0
        self.total_completion_tokens = self.total_output_tokens = 0
        self.total_budget = self.max_budget = 0.0
        self.usage_history = []
    def get_summary(self):
        return {
            "total_cost": self.total_cost,
            "total_tokens": self.total_tokens,
            "total_input_tokens": self.total_input_tokens,
            "total_output_tokens": self.total_output_tokens,
        }
    def get_costs(self):
        return self
    def get_total_cost(self):
        return self.total_cost
    def get_total_prompt_tokens(self):
        return self.total_prompt_tokens
    def get_total_completion_tokens(self):
        return self.total_completion_tokens
    def update_cost(self, *args, **kwargs):
        return None
    def reset(self):
        return None
_ledger = _Ledger()
async def _reply_of(key, options, args, kwargs):
    reply = await _call_operator(key, options, args, kwargs)
    _ledger.total_cost = reply["total_cost"]
    _ledger.total_prompt_tokens = _ledger.total_input_tokens = reply["prompt_tokens"]
    _ledger.total_completion_tokens = _ledger.total_output_tokens = reply["completion_tokens"]
    _ledger.total_tokens = reply["prompt_tokens"] + reply["completion_tokens"]
    return reply
def CostManager(*args, **kwargs):
    return _ledger
class AsyncLLM:
    def __init__(self, *args, **kwargs):
        self.cost_manager = self.usage_tracker = _ledger
    def get_usage_summary(self):
        return _ledger.get_summary()
    async def __call__(self, prompt, *args, **kwargs):
        return (await _reply_of("Custom", {}, [], {"input": prompt}))["text"]
    async def acompletion_text(self, messages, *args, **kwargs):
        texts = [messages] if isinstance(messages, str) else [message["content"] for message in messages]
        return await self.aask("\\n\\n".join(texts))
    async def call_with_format(self, prompt, *args, **kwargs):
        return {"response": await self.aask(prompt)}
    async def aask(self, prompt, *args, **kwargs):
        return (await _reply_of("Custom", {}, [], {"input": prompt}))["text"]
def create_llm_instance(*args, **kwargs):
    return AsyncLLM()
create = create_llm_instance
class _Operator:
    def __init__(self, key, options):
        self.key = key
        self.options = options
    async def __call__(self, *args, **kwargs):
        return (await _reply_of(self.key, self.options, list(args), kwargs))[_RESULT]
class AflowObject:
    def __init__(self, *args, **kwargs):
        pass
class _Namespace:
    pass
def _nested(first, rest, value):
    package = _packages.setdefault(first, _Namespace())
    inner = package
    for name in rest[:-1]:
        if not hasattr(inner, name):
            setattr(inner, name, _Namespace())
        inner = getattr(inner, name)
    setattr(inner, rest[-1], value)
    return package
_packages = {}
def _constructor(key):
    def construct(*llm, **options):
        return _Operator(key, options)
    return construct
class _LLMsConfig:
    def default(self):
        return self
    def get(self, *args):
        return {}
LLMsConfig = _LLMsConfig()
class _Logger:
    def log(self, *args, **kwargs):
        return None
    def opt(self, *args, **kwargs):
        return self
logger = _Logger()
logger.bind = logger.opt
logger.debug = logger.info = logger.warning = logger.error = logger.exception = logger.log
logger.trace = logger.success = logger.critical = logger.warn = logger.fatal = logger.log
logger.add = logger.remove = logger.configure = logger.setLevel = logger.addHandler = logger.log
DatasetType = str
operator = _Namespace()
operator.Operator = AflowObject
prompt_custom = _Namespace()
_aflow_LLMsConfig = LLMsConfig
_aflow_AflowObject, _aflow_DatasetType, _aflow_logger = AflowObject, DatasetType, logger
_aflow_operator, _aflow_prompt_custom = operator, prompt_custom
_aflow_create_llm_instance, _aflow_AsyncLLM, _aflow_CostManager = create_llm_instance, AsyncLLM, CostManager
"""

# Operators that a workflow derives classes of its own from: classes themselves, which is more than Monty speaks.
_DERIVABLE = f"""
class _Derivable(_Operator):
    key, options = None, {{}}
    def __init__(self, llm=None, *args, **options):
        self.llm = AsyncLLM() if llm is None else llm
        self.options = options
    async def __call__(self, *args, **kwargs):
        if self.key is None:
            raise NotImplementedError("an operator of one's own needs an `async def __call__`")
        return await super().__call__(*args, **kwargs)
def _constructor(key):
    return type(key, (_Derivable,), {{"key": key}})
operator.{BASE_OPERATOR} = _Derivable
"""


@dataclass(frozen=True)
class Program:
    """What an interpreter runs.

    Args:
        source (`str`): Python whose last expression is the workflow's answer. The problem's text reaches it as the
            input `_problem`, the entry point as `_entry_point`: neither is written into the code.
        own (`ast.Module`): the tree of the part that the workflow's author wrote.
    """

    source: str
    own: ast.Module


def lower_workflow(workflow: Workflow, domain: Domain, *, seed: int = 0) -> Program:
    """Return the program for one run.

    Args:
        workflow (`Workflow`): a checked workflow.
        domain (`str`): of the problem that it is run on.
        seed (`int`): of its random numbers.
    """
    scope = scope_of(ast.parse(workflow.source, SOURCE_NAME), workflow.prompts)
    source = _without_aflow(workflow.source, scope)
    modules = _MODULES.format(seed=seed)
    own = ast.parse(source, SOURCE_NAME)
    if scope.workflow_class is None:
        surroundings = _short_prelude(scope, workflow.prompts)
        return Program(f"{modules}{surroundings}{_FORMAT}{source}\nawait workflow({call_arguments(scope)})", own)
    reads_text = scope.is_scoreflow and not _reads_items(scope.tree)
    prelude = [modules, f"_RESULT = {'text' if reads_text else 'result'!r}", _AFLOW_PRELUDE]
    prelude += [_DERIVABLE] if scope.derived else []
    prelude += [f"operator.{name} = _constructor({key!r})\n" for name, key in scope.keys.items()]
    # JSON's constants are no Python, but texts, lists and dicts of them are.
    prelude += [_prompt(name, value, scope) for name, value in workflow.prompts.items()]
    instance = f"{scope.workflow_class.name}({_constructor_arguments(scope, domain)})"
    method = "" if scope.main.name == "__call__" else f".{scope.main.name}"
    called = f"_workflow = {instance}\nawait _workflow{method}({call_arguments(scope)})"
    return Program(f"{''.join(prelude)}{source}\n{called}", own)


def _prompt(name: str, value: Any, scope: Scope) -> str:
    """Bind a prompt constant; one whose parts the source reads as attributes, a class in its file, as an object."""
    lines = [f"prompt_custom.{name} = {value!r}\n"]
    if isinstance(value, dict) and any(
        isinstance(node, ast.Attribute) and node.attr in value and ast.unparse(node.value).split(".")[-1] == name
        for node in ast.walk(scope.tree)
    ):
        lines = [f"prompt_custom.{name} = _Namespace()\n"]
        lines += [f"prompt_custom.{name}.{key} = {item!r}\n" for key, item in value.items() if key.isidentifier()]
    return "".join(lines)


def _short_prelude(scope: Scope, prompts: Mapping[str, Any]) -> str:
    """AFlow's surroundings, where a short workflow imports them, reads prompts or builds operators too."""
    nodes = list(ast.walk(scope.tree))
    reads = any(isinstance(node, ast.Name) and node.id == PROMPTS_NAME for node in nodes)
    builds = any(isinstance(node, ast.Call) and scope.constructed(node) for node in nodes)
    if not (scope.imports.replacements or builds or (reads and PROMPTS_NAME not in scope.bound)):
        return ""
    given = [f"operator.{name} = _constructor({key!r})\n" for name, key in scope.keys.items()]
    given += [_prompt(name, value, scope) for name, value in prompts.items()]
    return f"_RESULT = 'result'{_AFLOW_PRELUDE}{_DERIVABLE if scope.derived else ''}{''.join(given)}"


def _reads_items(tree: ast.Module) -> bool:
    """Whether a source takes an operator's result by one of its keys: ScoreFlow's return text, and where a workflow
    reads an item of it, it expects the dict."""
    keys = {"code", *(key for operator in OPERATORS.values() for key in operator.returns)}
    return any(
        isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value in keys
        for node in ast.walk(tree)
    )


def _constructor_arguments(scope: Scope, domain: Domain) -> str:
    """AFlow's constructor takes a name, a configuration and a data set; ScoreFlow's the problem."""
    values = {"name": "'workflow'", "problem": "_problem", "dataset": repr(domain)}
    values |= dict.fromkeys(("llm_config", "config", "llm"), "{}")
    method = method_of(scope.classes, "__init__")
    if method is None:
        return ", ".join(f"{name}={values.get(name, repr(''))}" for name in _dataclass_fields(scope.classes[0]))
    arguments = method.args
    positional = [argument.arg for argument in [*arguments.posonlyargs, *arguments.args]][1:]
    required = len(positional) - len(arguments.defaults)
    given = [values.get(name, "_entry_point" if name == "entry_point" else "''") for name in positional[:required]]
    given += [f"{name}={values[name]}" for name in positional[max(0, required) :] if name in values]
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if default is None or argument.arg in values:
            given.append(f"{argument.arg}={values.get(argument.arg, repr(''))}")
    return ", ".join([*given, *_passed_on(scope, values)])


def _dataclass_fields(node: ast.ClassDef) -> Iterator[str]:
    """Yield the arguments without a default of the constructor that `@dataclass` makes."""
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.value is None:
                yield item.target.id


def _passed_on(scope: Scope, values: Mapping[str, str]) -> Iterator[str]:
    """Yield what a constructor may pass on to a base of the source's: it is given all that is given anywhere."""
    method = method_of(scope.classes, "__init__")
    assert method is not None
    arguments = method.args
    named = {argument.arg for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]}
    standard = ("config", "problem") if scope.is_scoreflow else ("name", "llm_config", "dataset")
    if len(scope.classes) == 1:
        return
    if arguments.kwarg:
        yield from (f"{name}={values[name]}" for name in standard if name not in named)
    elif arguments.vararg and len(named) == 1:
        yield from (values[name] for name in standard)


def call_arguments(scope: Scope) -> str:
    """Return what the main function is called with: the problem first, the entry point by its name, and empty text for
    anything else without a default. They are written `_problem` and `_entry_point`.

    Args:
        scope (`Scope`): of the workflow.
    """
    arguments = scope.main.args
    names = [argument.arg for argument in [*arguments.posonlyargs, *arguments.args]]
    names = names[1:] if scope.workflow_class is not None else names
    required = len(names) - len(arguments.defaults)
    values, keyword_only = [], [argument.arg for argument in arguments.kwonlyargs]
    by_keyword = next((name for name in ("problem", *keyword_only) if name in keyword_only), None)
    if names or arguments.vararg:
        values, by_keyword = ["_problem"], None
    elif by_keyword is None and arguments.kwarg:
        values = ["problem=_problem"]
    values += [_value_of(name) for name in names[1:required]]
    values += [f"{name}=_entry_point" for name in names[max(1, required) :] if name == "entry_point"]
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if argument.arg == by_keyword:
            values.append(f"{argument.arg}=_problem")
        elif default is None or argument.arg == "entry_point":
            values.append(f"{argument.arg}={_value_of(argument.arg)}")
    return ", ".join(values)


def _value_of(name: str) -> str:
    return "_entry_point" if name == "entry_point" else "''"


def _without_aflow(source: str, scope: Scope) -> str:
    """The source with AFlow's imports replaced by what they bind, without aliases that Monty cannot evaluate, and
    without the demonstration that follows it."""
    lines = source.encode().split(b"\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    edits = []
    for node, text in _replaced(scope):
        if node.end_lineno is not None and node.end_col_offset is not None:
            start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
            edits.append((start, end, text.encode()))
    data = source.encode()
    for start, end, replacement in sorted(edits, reverse=True):
        data = data[:start] + replacement + data[end:]
    return data.decode()


def _replaced(scope: Scope) -> Iterator[tuple[ast.stmt | ast.expr, str]]:
    """Yield the parts of a source that something else stands for, none inside another one."""
    yield from ((statement, "pass") for statement in scope.demonstration)
    read = set(_read_names(scope.tree))
    for node in ast.walk(scope.tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            text = scope.imports.replacements.get((node.lineno, node.col_offset))
            if text is not None:
                yield node, text
        elif isinstance(node, ast.Call) and scope.is_pythons_format(node):
            yield node.func, PYTHONS_FORMAT
        elif isinstance(node, ast.stmt) and _is_type_alias(node, read):
            yield node, "pass"


def _is_type_alias(node: ast.stmt, read: Collection[str]) -> bool:
    """Whether a statement names a type that only annotations speak of."""
    return (
        isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Subscript)
        and isinstance(node.value.value, ast.Name)
        and node.value.value.id in ("Literal", "List", "Dict", "Tuple", "Optional", "Union")
        and not any(isinstance(target, ast.Name) and target.id in read for target in node.targets)
    )


def _read_names(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a source reads when it runs: annotations, and types that are made of others, are not."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.arg) or (isinstance(node, ast.stmt) and _is_type_alias(node, ())):
            continue
        elif isinstance(node, ast.AnnAssign):
            pending += [node.value] if node.value else []
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            pending += [*node.decorator_list, node.args, *node.body]
        else:
            pending.extend(ast.iter_child_nodes(node))
