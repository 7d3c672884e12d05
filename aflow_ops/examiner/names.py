"""Which names a solution and a test bind and use, read from their syntax trees; nothing is run.

Part of the program of `harness.py`.
"""

import ast
import builtins
import importlib
import re
import types
from collections.abc import Iterable, Iterator, Set
from functools import lru_cache
from typing import Any

# What LeetCode's editor has imported, and so what answers in its form leave out: module -> names.
USUAL_IMPORTS: dict[str, str] = {
    "typing": "Any Callable Deque DefaultDict Dict FrozenSet Generator Generic Hashable Iterable Iterator List Literal "
    "Mapping NamedTuple Optional Sequence Set Tuple Type TypeVar Union",
    "collections": "ChainMap Counter OrderedDict defaultdict deque namedtuple",
    "heapq": "heapify heappop heappush heappushpop heapreplace nlargest nsmallest",
    "bisect": "bisect bisect_left bisect_right insort insort_left insort_right",
    "functools": "cache cached_property cmp_to_key lru_cache partial reduce",
    "itertools": "accumulate chain combinations combinations_with_replacement count cycle groupby islice pairwise "
    "permutations product repeat starmap takewhile zip_longest",
    "math": "ceil comb cos exp factorial floor gcd inf isqrt lcm log log10 log2 perm pi sin sqrt tan",
    "string": "ascii_letters ascii_lowercase ascii_uppercase digits punctuation",
    "copy": "deepcopy",
    "dataclasses": "dataclass field",
    "datetime": "date datetime timedelta",
    "fractions": "Fraction",
    "decimal": "Decimal",
    "operator": "add itemgetter attrgetter mul or_ xor",
    "random": "choice randint shuffle",
}
# Its own classes, as its editor has them in a comment.
USUAL_CLASSES = {
    "ListNode": "class ListNode:\n    def __init__(self, val=0, next=None):\n        self.val, self.next = val, next",
    "TreeNode": "class TreeNode:\n    def __init__(self, val=0, left=None, right=None):\n"
    "        self.val, self.left, self.right = val, left, right",
}
USUAL_MODULES = frozenset(
    [
        "array",
        "bisect",
        "calendar",
        "cmath",
        "collections",
        "copy",
        "datetime",
        "decimal",
        "fractions",
        "functools",
        "heapq",
        "itertools",
        "json",
        "math",
        "operator",
        "random",
        "re",
        "statistics",
        "string",
        "sys",
        "time",
        "typing",
    ]
)
# Other names for modules; in a test they mean the module, never something of the solution's.
ALIASES = {"np": "numpy", "numpy": "numpy", "sympy": "sympy", "sp": "sympy"}
UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
# What tests judge by is never the solution's own.
JUDGES = {"isclose": "math", "allclose": "numpy", "array_equal": "numpy"}
_USUAL = USUAL_MODULES | set(ALIASES)
_WORD = re.compile(r"\w+")
_HOMES = {name: module for module, names in USUAL_IMPORTS.items() for name in names.split()}


def find_entry_point(source: str, entry_point: str | None) -> tuple[bool, bool, str, str | None]:
    """Tell whether the source parses, whether it has the entry point, and what to add so that it goes by its name.

    A method of that name in `class Solution` will do, and so will the only function there is. The last part says what
    was taken for the entry point, or why the source does not parse.
    """
    try:
        body = parsed(source)
    except UNPARSABLE as error:
        return False, False, "", f"{type(error).__name__}: {error}"
    if not entry_point or entry_point in bound_names(body):
        return True, True, "", None
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name == "Solution":
            methods = [part.name for part in node.body if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef))]
            if entry_point in methods:
                return True, True, f"{entry_point} = Solution().{entry_point}\n", f"Solution().{entry_point}"
    functions = [node.name for node in body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    if len(functions) == 1:
        return True, True, f"{entry_point} = {functions[0]}\n", f"{functions[0]} taken for {entry_point}"
    return True, False, "", None


@lru_cache(maxsize=4)
def parsed(source: str) -> list[ast.stmt]:
    """The statements of a source.

    Raises:
        SyntaxError, or another of `UNPARSABLE`: it does not parse.
    """
    return ast.parse(source).body


def bound_names(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Names that a module binds at its top level, in order."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield from (part.id for part in ast.walk(target) if isinstance(part, ast.Name))
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            yield from bound_names(node.body)


def imports_of(source: str) -> dict[str, tuple[str, str | None]]:
    """What a solution imports at its top level: name -> module and, for `from` imports, the name there."""
    found: dict[str, tuple[str, str | None]] = {}
    for node in parsed(source):
        if isinstance(node, ast.Import):
            for alias in node.names:
                module = alias.name if alias.asname else alias.name.split(".")[0]
                found[alias.asname or module] = (module, None)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if alias.name != "*":
                    found[alias.asname or alias.name] = (node.module, alias.name)
    return found


def missing_imports(source: str, *, everything: bool) -> str:
    """Import lines for usual names that a solution uses and nothing in it binds.

    Args:
        source (`str`): the solution.
        everything (`bool`): all of LeetCode's; else only names that annotations use.
    """
    wanted = {name for name, module in _HOMES.items() if everything or module == "typing"}
    if everything:
        wanted |= USUAL_MODULES | set(USUAL_CLASSES)
    # Most solutions name nothing of the kind that they do not import; walking through their trees takes longer.
    if wanted.isdisjoint(set(_WORD.findall(source)) - set(imports_of(source))):
        return ""
    nodes = [part for node in parsed(source) for part in ast.walk(node)]
    used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    bound = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    bound |= {node.arg for node in nodes if isinstance(node, ast.arg)} | set(imports_of(source))
    bound |= {n.name for n in nodes if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
    missing = sorted((used - bound - set(dir(builtins))) & wanted)
    # `datetime.datetime` is the module's, `datetime.now` the class's.
    attributes = {(n.value.id, n.attr) for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)}
    modules = {name for name, attribute in attributes if attribute in USUAL_IMPORTS.get(name, "").split()}
    lines = [
        f"from {_HOMES[name]} import {name}" if name in _HOMES and name not in modules else f"import {name}"
        for name in missing
        if name not in USUAL_CLASSES
    ]
    return "\n".join([*lines, *(USUAL_CLASSES[name] for name in missing if name in USUAL_CLASSES)])


def names_in(test: types.CodeType) -> set[str]:
    """Names that a compiled test looks up, those of attributes among them."""
    found = set(test.co_names)
    for constant in test.co_consts:
        if isinstance(constant, types.CodeType):
            found |= names_in(constant)
    return found


def module_values(wanted: Set[str], imports: dict[str, tuple[str, str | None]]) -> dict[str, Any]:
    """Modules, and what the solution imports from them, that a test names without importing them.

    A name means what it usually does, whatever the solution calls so: `from unittest.mock import call as math` would
    find everything close to everything. Only usual modules are imported: others do things when they are.

    Args:
        wanted (`Set[str]`): names in the test.
        imports (`dict`): what the solution imports, see `imports_of`.
    """
    found = {}
    for name in sorted(wanted):
        module, attribute = _meaning(name, imports)
        if module is None:
            continue
        try:
            value: Any = importlib.import_module(module)
            found[name] = value if attribute is None else getattr(value, attribute)
        except (ImportError, AttributeError):
            continue
    return found


def _meaning(name: str, imports: dict[str, tuple[str, str | None]]) -> tuple[str | None, str | None]:
    """The module that a name means, and the name there; `None` for what no usual module has."""
    if name in USUAL_MODULES or name in ALIASES:
        # `from datetime import datetime`: the module's own member of that name
        member = imports.get(name) == (name, name) and name in USUAL_MODULES
        return ALIASES.get(name, name), name if member else None
    if name in JUDGES:
        return JUDGES[name], name
    module, attribute = imports.get(name, ("", None))
    usual = module.split(".")[0] in _USUAL
    return (module, attribute) if usual and attribute == name else (None, None)
