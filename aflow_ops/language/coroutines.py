"""Which calls a workflow leaves without `await` on purpose: it keeps the coroutine and awaits it elsewhere.

A missing `await` can be repaired only where nothing else can have been meant. A coroutine that is given to `gather`, to
a task or to a function of the source's own that awaits it, put into a list or a dict whose items are awaited, returned
by a function whose results are, or chosen by a condition, stays as it is.
"""

import ast
from collections import defaultdict
from collections.abc import Collection, Iterator
from functools import cached_property

from aflow_ops.language.imports import dotted
from aflow_ops.language.scope import FunctionNode, Scope

# A coroutine passed to one of these is awaited later.
_NAMES = """
gather create_task ensure_future wait wait_for shield as_completed Task isawaitable iscoroutine append appendleft extend
extendleft insert put put_nowait heappush add
"""
COLLECTORS = frozenset(_NAMES.split())
# From hand to hand a coroutine is followed through so many functions.
MOST_HANDS = 4


def parents_of(tree: ast.Module) -> dict[ast.AST, ast.AST]:
    """Return the node that each node stands in."""
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def enclosing_function(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> ast.AST | None:
    """Return the innermost function or lambda around a node."""
    while node in parents:
        node = parents[node]
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            return node
    return None


class Coroutines:
    """Follows coroutines through a source.

    Args:
        scope (`Scope`): the workflow.
        parents (`dict[ast.AST, ast.AST]`): as of `parents_of`.
    """

    def __init__(self, scope: Scope, parents: dict[ast.AST, ast.AST]) -> None:
        self._scope, self._parents = scope, parents
        self._nodes = list(ast.walk(scope.tree))
        self._known: dict[str, bool] = {}

    def is_kept(self, node: ast.AST) -> bool:
        """Whether the coroutine that an expression is goes where it is awaited, rather than being used as a result."""
        parent = self._parents.get(node)
        match parent:
            case ast.Await() | ast.Starred() | ast.Lambda() | ast.ListComp() | ast.GeneratorExp() | ast.SetComp():
                return True
            case ast.List() | ast.Tuple() | ast.Set():
                return not self._is_operator_argument(parent)
            case ast.IfExp(test=test) if node is not test:
                return self.is_kept(parent)
            case ast.BoolOp():
                return self.is_kept(parent)
            case ast.NamedExpr(target=target):
                return self.is_kept(parent) or self._is_awaited(target)
            case ast.keyword(arg=name):
                call = self._parents.get(parent)
                return isinstance(call, ast.Call) and (self._is_handed_on(call) or self._is_field(call, name))
            case ast.Call():
                return self._is_handed_on(parent)
            case ast.Match(cases=cases):
                bound = (
                    part.name for case in cases for part in ast.walk(case.pattern) if isinstance(part, ast.MatchAs)
                )
                return any(self._is_awaited(ast.Name(id=name)) for name in bound if name is not None)
            case ast.Assign(targets=targets):
                return any(map(self._is_awaited, targets))
            case ast.AnnAssign(target=target):
                return self._is_awaited(target)
            case ast.Dict() | ast.DictComp():
                holder, parts = self._parents.get(parent), (ast.Dict, ast.List, ast.Tuple, ast.Attribute, ast.Call)
                while isinstance(holder, parts):
                    holder = self._parents.get(holder)
                if isinstance(holder, (ast.For, ast.comprehension)):
                    return self._is_awaited(holder.target)
                targets = holder.targets if isinstance(holder, ast.Assign) else []
                return any(ast.unparse(target) in self._holders for target in targets)
            case ast.For(target=target) | ast.comprehension(target=target):
                return self._is_awaited(target)
            case ast.Return() | ast.Yield():
                return self._has_awaited_results(enclosing_function(node, self._parents))
        return False

    def _is_handed_on(self, call: ast.Call) -> bool:
        """Whether what a call is given, or is given under a name, is awaited there or behind it."""
        function = call.func
        if self._takes_coroutines(call):
            return True
        if isinstance(function, ast.Attribute) and function.attr == "setdefault":
            return ast.unparse(function.value) in self._holders
        is_lambda = isinstance(function, ast.Name) and function.id in self._lambdas
        return is_lambda and isinstance(self._parents.get(call), ast.Await)

    def _is_field(self, call: ast.Call, name: str | None) -> bool:
        """Whether a call makes an object, or a dict, whose part of this name is awaited."""
        if name is None or _called(call) in self._own or self._scope.operator_of(call) is not None:
            return False
        return name in self._awaited_parts

    def _is_awaited(self, target: ast.expr) -> bool:
        """Whether what a name, an attribute or an item is set to is kept where it is read."""
        if isinstance(target, ast.Subscript):
            return ast.unparse(target.value) in self._holders
        place = ast.unparse(target)
        if place not in self._known:
            self._known[place] = False  # while it is being looked for: two names may be set to each other
            self._known[place] = any(map(self.is_kept, self._reads_of(target)))
        return self._known[place]

    def _has_awaited_results(self, function: ast.AST | None) -> bool:
        """Whether a plain function of the source's own hands coroutines to whoever calls it."""
        if not isinstance(function, ast.FunctionDef):
            return False
        place = f"{function.name}()"
        if place not in self._known:
            self._known[place] = False
            calls = (node for node in self._nodes if isinstance(node, ast.Call) and _called(node) == function.name)
            self._known[place] = any(map(self.is_kept, calls))
        return self._known[place]

    def _takes_coroutines(self, call: ast.Call) -> bool:
        """Whether a call is given coroutines: by its name, or by what a function of the source's own does."""
        name = _called(call)
        return self._own.get(name, name in COLLECTORS)

    @cached_property
    def _own(self) -> dict[str, bool]:
        """Names of the source's functions, with whether they await one of their arguments, and of its classes, with
        whether what an object of theirs holds is awaited."""
        functions = [node for node in self._nodes if isinstance(node, FunctionNode)]
        found = dict.fromkeys((node.name for node in functions), False)
        for _ in range(MOST_HANDS):
            takes = COLLECTORS - found.keys() | {name for name, awaits in found.items() if awaits}
            for node in functions:
                arguments = set(_arguments(node))
                found[node.name] |= any(_is_awaited_name(item, arguments, takes) for item in ast.walk(node))
        awaited = {n.value.attr for n in self._nodes if isinstance(n, ast.Await) and isinstance(n.value, ast.Attribute)}
        awaited.add("__await__")
        return found | {name: not awaited.isdisjoint(fields) for name, fields in _fields_of_classes(self._nodes)}

    @cached_property
    def _lambdas(self) -> set[str]:
        """Names that the source gives to functions without one."""
        lambdas = (node for node in self._nodes if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda))
        return {target.id for node in lambdas for target in node.targets if isinstance(target, ast.Name)}

    @cached_property
    def _awaited_parts(self) -> set[str]:
        """Names of attributes and keys of items that are awaited as they are."""
        found = set()
        for node in self._nodes:
            match node:
                case ast.Await(value=ast.Attribute(attr=name) | ast.Subscript(slice=ast.Constant(value=str() as name))):
                    found.add(name)
        return found

    @cached_property
    def _holders(self) -> set[str]:
        """Names and attributes that hold coroutines: as items, in a loop, or all together they are awaited."""
        awaits = (node.value for node in self._nodes if isinstance(node, ast.Await))
        found = {ast.unparse(value.value) for value in awaits if isinstance(value, ast.Subscript)}
        for node in self._nodes:
            match node:
                case ast.For(target=target, iter=items) | ast.comprehension(target=target, iter=items):
                    reads = list(self._reads_of(target))
                    if any(map(self._is_awaited_here, reads)) or any(dotted(read) in found for read in reads):
                        found.update(_places(items))
                case ast.Call() if self._takes_coroutines(node):
                    found.update(place for argument in node.args for place in _places(argument))
        return found

    def _is_awaited_here(self, read: ast.AST) -> bool:
        parent = self._parents.get(read)
        return isinstance(parent, ast.Await) or (isinstance(parent, ast.Call) and self._takes_coroutines(parent))

    def _is_operator_argument(self, node: ast.AST) -> bool:
        """Whether a value goes straight into an operator, which takes results and not coroutines."""
        parent = self._parents.get(node)
        if isinstance(parent, ast.keyword):
            parent = self._parents.get(parent)
        return isinstance(parent, ast.Call) and self._scope.operator_of(parent) is not None

    @cached_property
    def _reads(self) -> dict[str, list[ast.expr]]:
        """Where names and attributes are read."""
        found: dict[str, list[ast.expr]] = defaultdict(list)
        for node in self._nodes:
            if (
                isinstance(node, (ast.Name, ast.Attribute))
                and isinstance(node.ctx, ast.Load)
                and (place := dotted(node))
            ):
                found[place].append(node)
        return found

    def _reads_of(self, target: ast.expr) -> Iterator[ast.expr]:
        parts = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
        for part in parts:
            yield from self._reads.get(dotted(part) or "", ())


def _places(node: ast.expr) -> Iterator[str]:
    """Yield the names and attributes in an expression."""
    for part in ast.walk(node):
        if isinstance(part, (ast.Name, ast.Attribute)) and (place := dotted(part)) is not None:
            yield place


def _called(call: ast.Call) -> str:
    """The last part of the name of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else str(getattr(call.func, "id", ""))


def _arguments(function: FunctionNode) -> Iterator[str]:
    arguments = function.args
    rest = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *rest]:
        yield argument.arg


def _fields_of_classes(nodes: list[ast.AST]) -> Iterator[tuple[str, set[str]]]:
    """Yield the classes of a source, named tuples among them, with the attributes that their objects have."""
    for node in nodes:
        match node:
            case ast.ClassDef(name=name):
                parts = list(ast.walk(node))
                stored = {p.attr for p in parts if isinstance(p, ast.Attribute) and isinstance(p.ctx, ast.Store)}
                declared = {
                    p.target.id for p in parts if isinstance(p, ast.AnnAssign) and isinstance(p.target, ast.Name)
                }
                methods = {part.name for part in node.body if isinstance(part, FunctionNode)}
                yield name, stored | declared | (methods & {"__await__"})
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(args=args) as call) if (
                _called(call) == "namedtuple"
            ):
                texts = (
                    part.value for argument in args for part in ast.walk(argument) if isinstance(part, ast.Constant)
                )
                yield name, {word for text in texts for word in str(text).replace(",", " ").split()}


def _is_awaited_name(node: ast.AST, names: set[str], takes: Collection[str]) -> bool:
    """Whether one of the names is awaited here, or given to a function that takes coroutines."""
    match node:
        case ast.Await(value=ast.Name(id=name)):
            return name in names
        case ast.Call(args=args) if _called(node) in takes:
            given = (part for argument in args for part in ast.walk(argument))
            return any(isinstance(part, ast.Name) and part.id in names for part in given)
    return False
