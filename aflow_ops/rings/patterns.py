"""Regular expressions that Monty (pydantic-monty 1.4) reads otherwise than Python's `re` does, told from the source.

Its `$` is the very end and its `\\Z` may stand before a line's end; beside a match it finds no empty one; a class in it
has operators (`[a&&b]`) and classes of its own. In what replaces a match it knows groups but no `\\n`, and no function.
None of this is an error there: the workflow would go on with another text.
"""

import ast
import re
from collections.abc import Collection, Iterator
from re import _parser as regex_parser  # type: ignore[attr-defined]

# Functions of `re` whose first argument is a pattern; these find a match of nothing as Python does.
_SEARCHES = frozenset({"search", "match", "fullmatch"})
_FUNCTIONS = _SEARCHES | {"compile", "findall", "finditer", "split", "sub", "subn"}
# A sign by itself, or behind a backslash.
_SIGN = re.compile(r"\\?.", re.DOTALL)
_CLASS_OPERATORS = ("&&", "||", "--", "~~")
_PLAIN_TEMPLATE = re.compile(r"(?:[^\\]|\\[1-9](?!\d)|\\g<\w+>|\\\\)*", re.DOTALL)


def strange_patterns(
    calls: Collection[ast.Call], modules: dict[str, str], imported: dict[str, str], own: Collection[str]
) -> Iterator[str]:
    """Yield what in the regular expressions of a source Monty reads otherwise, as short phrases.

    Args:
        calls (`Collection[ast.Call]`): all of the source's.
        modules (`dict[str, str]`): modules by the names that the source has for them.
        imported (`dict[str, str]`): names of `re`'s functions by the names under which they were imported.
        own (`Collection[str]`): names, methods and attributes that the source itself defines.
    """
    for call in calls:
        function = call.func
        if isinstance(function, ast.Name):
            yield from _of_function(imported.get(function.id, ""), call)
        elif isinstance(function, ast.Attribute):
            of_module = isinstance(function.value, ast.Name) and modules.get(function.value.id) == "re"
            if of_module:
                yield from _of_function(function.attr, call)
            elif function.attr not in own:
                yield from _of_method(function.attr, call)


def _of_function(name: str, call: ast.Call) -> Iterator[str]:
    if name not in _FUNCTIONS:
        return
    pattern = _argument(call, 0, "pattern")
    if not isinstance(pattern, ast.Constant) or not isinstance(pattern.value, str):
        yield "a pattern that is made at run time"
    elif (strange := _strange(pattern.value, can_be_empty=name in _SEARCHES)) is not None:
        yield strange
    if name in ("sub", "subn") and not _is_plain(_argument(call, 1, "repl")):
        yield "what replaces a match"


def _of_method(name: str, call: ast.Call) -> Iterator[str]:
    """Of a compiled pattern, or of a match, as far as the name tells: texts and numbers have no such methods."""
    if name in ("sub", "subn") and not _is_plain(_argument(call, 0, "repl")):
        yield "what replaces a match"
    if name in (*_SEARCHES, "findall", "finditer") and len(call.args) > 1:
        yield "a search from a position on"
    if name == "groups" and (call.args or call.keywords):
        yield "groups with a default"


def _argument(call: ast.Call, position: int, name: str) -> ast.expr | None:
    if len(call.args) > position:
        return call.args[position]
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _is_plain(template: ast.expr | None) -> bool:
    """Whether what replaces a match is a text in which only groups are named."""
    text = template.value if isinstance(template, ast.Constant) else None
    return isinstance(text, str) and _PLAIN_TEMPLATE.fullmatch(text) is not None


def _strange(pattern: str, *, can_be_empty: bool) -> str | None:
    in_class, before = False, ""
    for match in _SIGN.finditer(pattern):
        sign = match.group()
        if in_class and (sign == "[" or before + sign in _CLASS_OPERATORS):
            return "a class of signs with operators"
        if sign == "\\Z" or (sign == "$" and not in_class):
            return f"`{sign}` in a pattern"
        if not in_class:
            in_class = sign == "["
        elif sign == "]" and before not in ("[", "[^"):
            in_class = False
        before = before + sign if (before, sign) == ("[", "^") else sign
    try:
        width = regex_parser.parse(pattern).getwidth()[0]
    except (re.error, ValueError, OverflowError, RecursionError):
        return "a pattern that cannot be read"
    return None if width or can_be_empty else "a pattern that matches nothing too"
