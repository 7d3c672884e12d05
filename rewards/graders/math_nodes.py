r"""What mathematical text is read as: a tree of nodes.

Example: `\frac{1}{2}x^2` is `mul(div(1, 2), pow(x, 2))`; `[1, 2)` is `bracket(1, 2)` with the text `"[)"`.
"""

from dataclasses import dataclass
from fractions import Fraction

from rewards.graders.math_tokens import MathSyntaxError
from rewards.graders.notation import word_set

MAX_DIGITS = 4_000
SCALARS = word_set("number name add mul div pow neg root call fact abs binom deg")


@dataclass(frozen=True)
class Node:
    """A part of a mathematical text.

    Args:
        op (`str`): `number`, `name`, `word`; `add mul div pow neg pm mp root call fact abs binom deg base`; `list set
            bracket ratio matrix row relation union intersection difference reals empty`.
        args (`tuple[Node, ...]`): its parts.
        text (`str`): a name, a word, a function, the two brackets, the separator of a list, the signs of a relation.
        value (`Fraction`, *optional*): of a number.
        places (`int`, *optional*): digits after the point of a number that is written as a decimal.
    """

    op: str
    args: tuple["Node", ...] = ()
    text: str = ""
    value: Fraction | None = None
    places: int | None = None


def number_node(text: str) -> Node:
    """Return the node of a number in ASCII digits, exact however long.

    Raises:
        MathSyntaxError: more digits than Python reads.
    """
    if len(text) > MAX_DIGITS:
        raise MathSyntaxError("too many digits")
    mantissa, _, power = text.lower().partition("e")
    whole, point, decimals = mantissa.partition(".")
    exponent = int(power or 0)
    if abs(exponent) > MAX_DIGITS:
        raise MathSyntaxError("too large an exponent")
    value = Fraction(int((whole + decimals) or "0")) * Fraction(10) ** (exponent - len(decimals))
    places = max(len(decimals) - exponent, 0) if point or power else None
    return Node("number", value=value, places=places)


def is_scalar(node: Node) -> bool:
    """Whether a node is one value: a number or an expression."""
    return node.op in SCALARS and all(map(is_scalar, node.args))


def negative(node: Node) -> Node:
    """Return the node with the other sign."""
    return Node("neg", (node,))


def transposed(node: Node) -> Node:
    """Return a matrix with its rows as columns; a vector in brackets is the same however it is written."""
    if node.op == "bracket":
        return Node("bracket", node.args, text="()")
    columns = zip(*(row.args for row in node.args), strict=True)
    return Node("matrix", tuple(Node("row", column) for column in columns))


def check_words(node: Node) -> None:
    """English stands for itself, alone or as an item of a list: there is no arithmetic with it.

    Raises:
        MathSyntaxError: there is.
    """
    if node.op not in ("list", "set", "bracket") and any(part.op == "word" for part in node.args):
        raise MathSyntaxError("words in mathematics")
    for part in node.args:
        check_words(part)
