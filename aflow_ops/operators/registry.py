"""Which operators there are, and what a class must have to be one."""

import argparse
import builtins
import inspect
import keyword
import re
from collections.abc import Iterable
from typing import Any, TypeVar

from aflow_ops.errors import UsageError
from aflow_ops.named import named_object
from aflow_ops.operators.base import IGNORED_ARGUMENTS, Operator
from aflow_ops.operators.prompt import read_prompt
from aflow_ops.python_source import MODULES_AT_HAND
from data.problem import Domain

OPERATORS: dict[str, type[Operator]] = {}

_CLASS_NAME = re.compile(r"[A-Z][A-Za-z0-9]*")
_ARGUMENT_TYPES = (str, int, list[str], str | None)
# Names that mean something else in a workflow: its own, the modules it may use, and the words of the DSL. `format` is
# a builtin too, and AFlow's.
_TAKEN = frozenset(
    [name for name in vars(builtins) if name != "format"]
    + ["workflow", "problem", "entry_point", "operator", "prompt_custom", "logger", "self"]
    + ["done", "verdict", "wrong", *MODULES_AT_HAND]
)

OperatorClass = TypeVar("OperatorClass", bound=type[Operator])


def register_operator(operator: OperatorClass) -> OperatorClass:
    """Make an operator known to this process: to the checker, the DSL, the policy's prompt and the runtime.

    Usable as a decorator. Every process that parses or runs workflows must register it: put it at the top level of a
    recipe's file, or name its file to a command (`--operators`).

    Args:
        operator (`type[Operator]`): the class; see `Operator` for what it says of itself.

    Returns:
        `type[Operator]`: the same class.

    Raises:
        UsageError: the class lacks something that an operator needs, or there is another operator of its name or with
            its keys; says what.

    Example:

        >>> from aflow_ops.operators.generate import Custom
        >>> register_operator(Custom).__name__
        'Custom'
    """
    name = operator.__name__ if isinstance(operator, type) else repr(operator)
    problems = list(_lacks(operator))
    if problems:
        raise UsageError(f"{name} is no operator: {'; '.join(problems)}")
    known = spelled(name)
    if known is not None and _same_source(OPERATORS[known], operator):
        return operator
    if known is not None:
        raise UsageError(f"there is an operator {known} already ({OPERATORS[known].__module__}); rename {name}")
    for other in OPERATORS.values():
        if set(other.returns) == set(operator.returns) and other.main != operator.main:
            raise UsageError(
                f"{name} returns the keys of {other.__name__}, whose main one is {other.main!r}, not {operator.main!r}"
            )
    OPERATORS[name] = operator
    return operator


def spelled(name: str) -> str | None:
    """Return an operator's class name for any spelling of it: `sc_ensemble`, `scEnsemble`, `ScEnsemble`."""
    plain = name.replace("_", "").lower()
    return next((known for known in OPERATORS if known.lower() == plain), None)


def fitting_operators(domain: Domain, has_entry_point: bool) -> list[type[Operator]]:
    """Return the operators that a workflow for such a problem may call, in the order of `OPERATORS`."""
    return [operator for operator in OPERATORS.values() if operator.misfit(domain, has_entry_point) is None]


def load_operators(names: Iterable[str]) -> None:
    """Register operators by where they are.

    Args:
        names (`Iterable[str]`): `package.module:Class` or `folder/file.py:Class` registers that class; without
            `:Class` the module is imported, and registers its operators itself.

    Raises:
        UsageError: there is no such module or class, or it is no operator; says why.
    """
    for name in names:
        before = len(OPERATORS)
        found = named_object(name)
        if isinstance(found, type):
            register_operator(found)
        elif len(OPERATORS) == before and not _has_registered(found):
            raise UsageError(f"operators {name}: none is registered there; decorate the class with @register_operator")


def operator_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--operators` to a command; `load_operators(arguments.operators)` then registers them."""
    parser.add_argument(
        "--operators",
        nargs="+",
        default=[],
        metavar="WHERE",
        help="operators of your own: package.module, file.py, or one class as package.module:Class",
    )


def _has_registered(module: Any) -> bool:
    """Whether a module that was imported before has an operator of its own that is known."""
    own = [item for item in vars(module).values() if isinstance(item, type) and issubclass(item, Operator)]
    return any(item.__module__.startswith(module.__name__) and item.__name__ in OPERATORS for item in own)


def _same_source(known: type[Operator], operator: type[Operator]) -> bool:
    """Whether it is the class that is known, or the same lines again: a recipe's file is both program and module."""
    if known is operator:
        return True
    if known.__qualname__ != operator.__qualname__:
        return False
    try:
        return inspect.getsourcefile(known) == inspect.getsourcefile(operator)
    except (TypeError, OSError):
        return False


def _lacks(operator: Any) -> Iterable[str]:
    """Yield what keeps a class from being an operator."""
    if not (isinstance(operator, type) and issubclass(operator, Operator)):
        yield "it does not inherit from aflow_ops.operators.Operator"
        return
    snake = operator.snake_name()
    if not _CLASS_NAME.fullmatch(operator.__name__) or snake.replace("_", "") != operator.__name__.lower():
        yield "its name must be a capital letter, then letters and digits"
    elif keyword.iskeyword(snake) or snake in _TAKEN:
        yield f"workflows call it {snake!r}, which means something else there"
    if not (operator.__dict__.get("__doc__") or "").strip():
        yield "it has no docstring"
    summary = getattr(operator, "summary", None)
    if not (isinstance(summary, str) and summary.strip() and "\n" not in summary):
        yield "`summary` must be one line of text for the policy's prompt"
    for prompt, entry in operator.prompts.items():
        try:
            read_prompt(entry)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            yield f"its prompt {prompt!r} cannot be read: {type(error).__name__} {error}"
    yield from _lacks_in_results(operator)
    yield from _lacks_in_arguments(operator)


def _lacks_in_results(operator: type[Operator]) -> Iterable[str]:
    returns = getattr(operator, "returns", None)
    if not (isinstance(returns, tuple) and returns and all(isinstance(k, str) and k.isidentifier() for k in returns)):
        yield "`returns` must be a tuple with the keys of its result"
        return
    if getattr(operator, "main", None) not in returns:
        yield f"`main` must be one of the keys in `returns`: {', '.join(returns)}"
    if operator.verdict is not None and operator.verdict not in returns:
        yield f"`verdict` must be one of the keys in `returns`: {', '.join(returns)}"


def _lacks_in_arguments(operator: type[Operator]) -> Iterable[str]:
    call = operator.__call__
    if call is Operator.__call__ or not inspect.iscoroutinefunction(call):
        yield "it needs an `async def __call__(self, ...)`"
        return
    try:
        parameters = operator.signature().parameters
    except NameError as error:
        yield f"the types of its arguments cannot be read: {error}"
        return
    for parameter in parameters.values():
        if parameter.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
            yield f"argument {parameter.name!r} must be an ordinary one, with a name"
        elif parameter.name in IGNORED_ARGUMENTS:
            yield f"argument {parameter.name!r} never arrives: AFlow's workflows pass it for another purpose"
        elif parameter.annotation not in _ARGUMENT_TYPES:
            yield f"argument {parameter.name!r} must be a `str`, `int`, `list[str]` or `str | None`"
    if operator.improves and "solution" not in parameters:
        yield "it says that it improves a draft, and has no argument `solution`"
    taken = parameters.get("entry_point")
    if taken is not None and taken.default is inspect.Parameter.empty and not operator.needs_entry_point:
        yield "it takes an `entry_point`, so set `needs_entry_point = True`, or give the argument a default"
