"""Tokens one after the other, with a look ahead: what a parser takes them from."""

from collections.abc import Callable

from rewards.graders.math_nodes import Node
from rewards.graders.math_tokens import MathSyntaxError, Token

MAX_TOKENS = 400


class TokenStream:
    """A place in a row of tokens.

    Args:
        tokens (`tuple[Token, ...]`): at least one.

    Raises:
        MathSyntaxError: there is none, or there are too many.
    """

    def __init__(self, tokens: tuple[Token, ...]) -> None:
        if not tokens or len(tokens) > MAX_TOKENS:
            raise MathSyntaxError("nothing, or too much")
        self.tokens, self.at, self.depth = list(tokens), 0, 0

    def peek(self, ahead: int = 0) -> Token:
        """Return a coming token without taking it; behind the last one stands `end`."""
        index = self.at + ahead
        return self.tokens[index] if index < len(self.tokens) else Token("operator", "end")

    def take(self) -> Token:
        """Return the next token and go on."""
        token = self.peek()
        self.at += 1
        return token

    def is_next(self, *texts: str) -> bool:
        """Whether the next token is one of these operators or commands."""
        token = self.peek()
        return token.text in texts and token.kind in ("operator", "command", "environment")

    def accept(self, *texts: str) -> bool:
        """Take the next token if it is one of these operators or commands."""
        if self.is_next(*texts):
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        """Take the next token, which must be this one.

        Raises:
            MathSyntaxError: it is not.
        """
        if not self.accept(text):
            raise MathSyntaxError(f"{text} expected, not {self.peek().text}")


def matrix_of(stream: TokenStream, entry: Callable[[], Node]) -> Node:
    """Take a matrix between `\\begin` and `\\end`.

    Args:
        stream (`TokenStream`): at its beginning.
        entry (`Callable`): takes one entry from the stream.

    Raises:
        MathSyntaxError: rows of different length, or no end.
    """
    if stream.take().text != "begin":
        raise MathSyntaxError("an end without a beginning")
    rows, row = [], []
    while True:
        row.append(entry())
        if stream.accept("&"):
            continue
        stream.accept("\\\\")
        if stream.is_next("end") and stream.peek().kind == "environment":
            stream.take()
            rows.append(Node("row", tuple(row)))
            break
        rows.append(Node("row", tuple(row)))
        row = []
        if stream.tokens[stream.at - 1].text != "\\\\":
            raise MathSyntaxError("a matrix without an end")
    if len({len(item.args) for item in rows}) != 1:
        raise MathSyntaxError("rows of different length")
    return Node("matrix", tuple(rows))
