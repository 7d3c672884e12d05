"""Under which names and with which arguments workflows call operators.

AFlow's own form calls the operators by their class names. Two relatives of it call some of them by other names, or
without the problem, which their operators know already: the older `SolveGraph` form (`operator.Generate`), whose
operators named their results differently from version to version, and ScoreFlow's
(https://github.com/Gen-Verse/ScoreFlow), whose operators are built from the problem and return text.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from aflow_ops.operators import OPERATORS, Operator
from aflow_ops.operators.base import IGNORED_ARGUMENTS
from data.problem import ProblemView

# Prefixes of the keys under which the operators of these dialects go through the door.
SCOREFLOW, SOLVEGRAPH = "scoreflow:", "solvegraph:"
# What some version of the older form called the result of some operator.
_OLDER_RESULTS = ("response", "solution", "final_solution")
# What AFlow's templates leave out in places: the workflow has one problem, so there is one thing it can be.
_FILLED = frozenset({"problem", "entry_point"})


@cache
def _parameters(operator: type[Operator]) -> Mapping[str, inspect.Parameter]:
    return operator.signature().parameters


@dataclass(frozen=True)
class Spoken:
    """One operator as workflows of one dialect call it.

    Args:
        operator (`type[Operator]`): what it runs.
        parameters (`tuple[str, ...]`): the operator's arguments in the order in which this dialect passes them.
        renamed (`Mapping[str, str]`): this dialect's names of arguments.
        filled (`frozenset[str]`): arguments that stand for the problem when they are left out.
        defaults (`Mapping[str, str]`): further arguments that may be left out.
        keys (`tuple[str, ...]`): keys of the result beside the operator's own; each holds the main output.
    """

    operator: type[Operator]
    parameters: tuple[str, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)
    filled: frozenset[str] = _FILLED
    defaults: Mapping[str, str] = field(default_factory=dict)
    keys: tuple[str, ...] = ()

    def known(self, name: str) -> str | None:
        """Return the operator's name of a keyword argument; `None` for one that it does not have."""
        name = self.renamed.get(name, name)
        return name if name in _parameters(self.operator) else None

    def missing(self, given: Sequence[str]) -> list[str]:
        """Return the required arguments that are neither given nor filled."""
        optional = self.filled | set(self.defaults) | set(given)
        parameters = _parameters(self.operator).items()
        return [n for n, parameter in parameters if parameter.default is inspect.Parameter.empty and n not in optional]

    def arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any], problem: ProblemView) -> dict[str, Any]:
        """Return a call's arguments by the operator's own names, completed; unknown ones are left out.

        Raises:
            TypeError: too many arguments, or one given twice.
        """
        name = self.operator.__name__
        if len(args) > len(self.parameters):
            raise TypeError(f"{name} takes {len(self.parameters)} arguments, not {len(args)}")
        found = dict(zip(self.parameters, args, strict=False))
        for keyword, value in kwargs.items():
            known = self.known(str(keyword))
            if known is None or keyword in IGNORED_ARGUMENTS:
                continue
            if known in found:
                raise TypeError(f"{name} is given {known!r} twice")
            found[known] = value
        for filled in self.filled & set(_parameters(self.operator)) - set(found):
            found[filled] = (problem.entry_point or "") if filled == "entry_point" else problem.text
        return {**self.defaults, **found}


def spoken_operator(key: str) -> Spoken | None:
    """Return the operator that a key stands for.

    Args:
        key (`str`): an operator's class name, a name of the older form, or a dialect's prefix and its name.
    """
    if key.startswith(SOLVEGRAPH):
        spoken = spoken_operator(key.removeprefix(SOLVEGRAPH))
        return None if spoken is None else _solvegraph(spoken)
    if key.startswith(SCOREFLOW):
        name = key.removeprefix(SCOREFLOW)
        return _SCOREFLOW.get(name) or spoken_operator(name)
    if key in OPERATORS:
        return Spoken(OPERATORS[key], tuple(_parameters(OPERATORS[key])))
    return _OLDER.get(key)


def operator_keys(dialect: str = "") -> dict[str, str]:
    """Return the keys of all operators by the names under which a workflow constructs them.

    Args:
        dialect (`str`): `SCOREFLOW`, `SOLVEGRAPH`, or nothing for AFlow's own.
    """
    names = [*OPERATORS, *(name for name in _OLDER if name not in OPERATORS)]
    names += [name for name in _SCOREFLOW if dialect == SCOREFLOW and name not in names]
    return {name: dialect + name for name in names}


def _solvegraph(spoken: Spoken) -> Spoken:
    parameters = _parameters(spoken.operator)
    task = "problem" if "problem" in parameters else "input"
    renamed = {"problem_description": task, **spoken.renamed}
    keys = (*spoken.keys, *_OLDER_RESULTS)
    return replace(spoken, renamed=renamed, keys=tuple(key for key in keys if key not in spoken.operator.returns))


def _older(name: str, *parameters: str, keys: tuple[str, ...] = (), **renamed: str) -> Spoken:
    return Spoken(OPERATORS[name], parameters, renamed, keys=("response", "solution", *keys))


def _code(*parameters: str) -> Spoken:
    return _older("CustomCodeGenerate", *parameters, keys=("code", "code_solution"), function_name="entry_point")


_OLDER = {
    "Generate": _older("Custom", "input", "instruction", problem="input", prompt="instruction"),
    "ContextualGenerate": _older(
        "Custom", "input", "instruction", problem="input", context="instruction", thought="instruction"
    ),
    "CodeGenerate": _code("problem", "entry_point", "instruction"),
    "GenerateCode": _code("problem", "instruction"),
    "GenerateCodeBlock": _code("problem", "entry_point", "instruction"),
    "Rephrase": replace(
        _older("Custom", "input", keys=("rephrased_problem",), problem="input"),
        defaults={
            "instruction": "Say the problem again in your own words, with everything that is needed to solve it."
        },
    ),
    "FuEnsemble": _older("ScEnsemble", "solutions", "problem"),
}


def _scoreflow(name: str, *parameters: str, **renamed: str) -> Spoken:
    operator = OPERATORS[name]
    filled = _FILLED | {"input"}
    return Spoken(operator, parameters, renamed, filled, {"feedback": "Find the mistakes."} if name == "Revise" else {})


_SCOREFLOW = {
    "Custom": _scoreflow("Custom", "instruction"),
    "Generate": _scoreflow("Custom", "instruction"),
    "AnswerGenerate": _scoreflow("AnswerGenerate"),
    "Programmer": _scoreflow("Programmer", "analysis"),
    "CodeGenerate": _scoreflow("CustomCodeGenerate", "instruction"),
    "CustomCodeGenerate": _scoreflow("CustomCodeGenerate", "instruction"),
    "ScEnsemble": _scoreflow("ScEnsemble", "solutions"),
    # ScoreFlow's reviewer writes the better solution itself.
    "Review": _scoreflow("Revise", "solution", pre_solution="solution"),
    "Test": _scoreflow("Test", "solution", pre_solution="solution"),
    "Format": _scoreflow("Format", "solution"),
}
