r"""Mathematics as a tree: what an expression, a list, an interval, a matrix or a relation says.

Example: `\frac{1}{2}x^2` is `mul(div(1, 2), pow(x, 2))` (`math_nodes.py` has the kinds of nodes).

A text is read as a whole or not at all. Where two readings are usual (`1/2x`, `\sin x(y)`, `x2`) there is none.
"""

from rewards.graders.math_nodes import Node, check_words, negative, number_node, transposed
from rewards.graders.math_stream import TokenStream, matrix_of
from rewards.graders.math_tokens import FUNCTIONS, MathSyntaxError, Token, tokens_of

MAX_DEPTH = 40
RELATIONS = frozenset({"=", "<", ">", "le", "ge", "ne", "in"})
_OPENING = {"(": ")", "[": "]"}
_ALL_REALS = frozenset({"all real numbers", "all reals", "the real numbers"})
_ROUNDED = {"lfloor": ("rfloor", "floor"), "lceil": ("rceil", "ceil")}


def parse_math(text: str, *, thousands: bool = True) -> Node:
    """Read a text as mathematics.

    Raises:
        MathSyntaxError: it is not, or can be read in several ways.
    """
    return _Parser(tokens_of(text, thousands=thousands)).whole()


class _Parser(TokenStream):
    # Lists and relations

    def whole(self) -> Node:
        node = self._items()
        if self.at < len(self.tokens):
            raise MathSyntaxError(f"{self.peek().text} is too much")
        check_words(node)
        return node

    def _items(self) -> Node:
        """One statement or several between separators."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise MathSyntaxError("too deep")
        found, separators = [self._statement()], set()
        while self.peek().kind == "separator":
            separators.add(self.take().text)
            if self.peek().kind == "separator":  # ", and"
                separators.add(self.take().text)
            found.append(self._statement())
        self.depth -= 1
        if len(found) == 1:
            return found[0]
        return Node(
            "list", tuple(found), text=separators.pop() if len(separators) == 1 else "or" if "or" in separators else ","
        )

    def _statement(self) -> Node:
        parts, signs = [self._sets()], []
        while self.peek().text in RELATIONS and self.peek().kind in ("operator", "command"):
            signs.append(self.take().text)
            parts.append(self._sets())
        if signs:
            return Node("relation", tuple(parts), text=" ".join(signs))
        if self.accept(":"):
            parts.append(self._sets())
            while self.accept(":"):
                parts.append(self._sets())
            return Node("ratio", tuple(parts))
        return parts[0]

    def _sets(self) -> Node:
        node = self._sum()
        while self.is_next("cup", "cap", "setminus"):
            op = {"cup": "union", "cap": "intersection", "setminus": "difference"}[self.take().text]
            if node.op in ("union", "intersection", "difference") and node.op != op:
                raise MathSyntaxError("sets joined in two ways")
            node = Node(op, (node, self._sum()))
        return node

    # Arithmetic

    def _sum(self) -> Node:
        node = self._signed()
        while self.is_next("+", "-", "pm", "mp"):
            sign = self.take().text
            right = self._product()
            if sign == "-" and node.op == "reals" and right.op == "set":
                node = Node("difference", (node, right))
                continue
            signed = {"+": right, "-": negative(right)}.get(sign) or Node(sign, (right,))
            node = Node("add", (node, signed))
        if self.accept("over"):
            node = Node("div", (node, self._sum()))
        elif self.accept("choose"):
            node = Node("binom", (node, self._sum()))
        return node

    def _signed(self) -> Node:
        if self.accept("+"):
            return self._product()
        if self.accept("-"):
            return negative(self._product())
        if self.is_next("pm", "mp"):
            return Node(self.take().text, (self._product(),))
        return self._product()

    def _product(self) -> Node:
        node = self._juxtaposed()
        while self.is_next("*", "/"):
            division = self.take().text == "/"
            sign = self.accept("-")
            if division:
                right = self._power()
                if self._starts_factor():
                    raise MathSyntaxError("what does the slash divide by?")
            else:
                right = self._juxtaposed()
            right = negative(right) if sign else right
            node = Node("div" if division else "mul", (node, right), text="" if division else "*")
        return node

    def _juxtaposed(self) -> Node:
        """Factors side by side: `3x`, `2\\sqrt{3}`, `(a)(b)`; a whole number before a fraction is a mixed number."""
        first = self.peek()
        node = self._power()
        if node.op == "number" and first.kind == "number" and (mixed := self._mixed(node)) is not None:
            return mixed
        while self._starts_factor():
            if self.peek().kind == "number" and self.tokens[self.at - 1].text not in (")", "}", "!"):
                raise MathSyntaxError("two numbers side by side")
            node = Node("mul", (node, self._power()))
        return node

    def _mixed(self, whole: Node) -> Node | None:
        """`1\\frac{1}{2}` and `1 1/2`; with an improper fraction nobody knows."""
        start = self.at
        fraction: Node | None = None
        if self.is_next("frac"):
            fraction = self._power()
        elif self.peek().kind == "number" and not self.peek().glued and self.peek(1).text == "/":
            top = self._power()
            self.expect("/")
            fraction = Node("div", (top, self._power()))
            if self._starts_factor():
                raise MathSyntaxError("what follows a mixed number?")
        if fraction is None:
            return None
        parts = [part.value for part in fraction.args if part.op == "number" and part.places is None]
        if fraction.op != "div" or len(parts) != 2 or whole.places is not None:
            if self.tokens[start].kind == "number":
                raise MathSyntaxError("two numbers side by side")
            self.at = start
            return None
        top_value, bottom_value = parts
        if top_value is None or bottom_value is None or not 0 < top_value < bottom_value:
            raise MathSyntaxError("a mixed number with an improper fraction")
        if self._starts_factor():
            raise MathSyntaxError("what follows a mixed number?")
        return Node("add", (whole, fraction), text="mixed")

    def _starts_factor(self) -> bool:
        token = self.peek()
        if token.kind in ("number", "name"):
            return True
        opens = ("(", "{", "frac", "sqrt", "cbrt", "binom", "lfloor", "lceil")
        return token.text in opens and token.kind in ("operator", "command")

    def _power(self) -> Node:
        node = self._postfixed()
        if not self.accept("^"):
            return node
        if self.is_next("circ"):
            self.take()
            return Node("deg", (node,))
        exponent = self._exponent()
        if exponent.op == "name" and exponent.text == "circ":
            return Node("deg", (node,))
        if exponent == Node("name", text="T") and node.op in ("matrix", "bracket"):
            return transposed(node)
        node = Node("pow", (node, exponent))
        if self.is_next("^"):
            raise MathSyntaxError("two exponents")
        while self.accept("!"):
            node = Node("fact", (node,))
        return node

    def _exponent(self) -> Node:
        if self.is_next("{") and self.peek(1).text == "circ":
            self.at += 2
            self.expect("}")
            return Node("name", text="circ")
        if self.accept("-"):
            return negative(self._argument(split=False))
        return self._argument(split=False)

    def _postfixed(self) -> Node:
        node = self._atom()
        while True:
            if self.accept("!"):
                if self.is_next("!"):
                    raise MathSyntaxError("a double factorial")
                node = Node("fact", (node,))
            elif self.is_next("circ"):
                self.take()
                node = Node("deg", (node,))
            else:
                return node

    # Atoms

    def _atom(self) -> Node:
        token = self.peek()
        if token.kind == "number":
            return self._number()
        if token.kind == "name":
            return self._name()
        if token.kind == "word":
            return self._words()
        if token.kind == "environment":
            return matrix_of(self, self._sum)
        if token.kind == "command":
            return self._command()
        if token.text in _OPENING:
            return self._bracket()
        if self.accept("{{"):
            return self._closed_set("}}")
        if self.accept("{"):
            if (described := self._described("}")) is not None:
                return described
            node = self._items()
            self.expect("}")
            return Node("set", node.args) if node.op == "list" else node
        if self.accept("|"):
            node = self._sum()
            self.expect("|")
            return Node("abs", (node,))
        if self.accept(*_ROUNDED):
            node = self._sum()
            closing, function = _ROUNDED[token.text]
            self.expect(closing)
            return Node("call", (node,), text=function)
        raise MathSyntaxError(f"{token.text} where a value was expected")

    def _number(self) -> Node:
        node = number_node(self.take().text)
        if self.accept("_"):
            base = self._argument(split=False)
            if node.places is not None or base.op != "number":
                raise MathSyntaxError("a number with a subscript")
            return Node("base", (node, base))
        if self.is_next("overline") and self.peek().glued and node.places is not None:
            raise MathSyntaxError("a repeating decimal in an expression")
        return node

    def _name(self) -> Node:
        text = self.take().text
        if text in FUNCTIONS:
            return self._call(text)
        if self.accept("_"):
            text = f"{text}_{self._subscript()}"
        return Node("name", text=text)

    def _subscript(self) -> str:
        if not self.accept("{"):
            token = self.take()
            if token.kind not in ("number", "name", "word"):
                raise MathSyntaxError("a subscript")
            return token.text
        parts = []
        while not self.accept("}"):
            token = self.take()
            if token.text in ("{", "end"):
                raise MathSyntaxError("a subscript")
            parts.append(token.text)
        return " ".join(parts)

    def _words(self) -> Node:
        """English says something only as a whole: no arithmetic with it."""
        parts = []
        while self.peek().kind in ("word", "name"):
            parts.append(self.take().text)
        text = " ".join(parts).lower()
        return Node("reals") if text in _ALL_REALS else Node("word", text=text)

    def _call(self, function: str) -> Node:
        base: tuple[Node, ...] = ()
        exponent: Node | None = None
        for _ in range(2):
            if self.accept("_"):
                base = (self._argument(split=False),)
            if self.accept("^"):
                exponent = self._exponent()
        if self.is_next("("):
            inner = self._bracket()
            arguments = inner.args if inner.op == "bracket" and inner.text == "()" else (inner,)
            if self.is_next("^", "!", "("):
                raise MathSyntaxError("what does the function end with?")
        else:
            arguments = (self._argument_of_function(),)
        if exponent is not None and exponent == negative(number_node("1")):
            function, exponent = f"arc{function.removeprefix('a').removeprefix('rc')}", None
        node = Node("call", (*arguments, *base), text=f"{function}_" if base else function)
        return node if exponent is None else Node("pow", (node, exponent))

    def _argument_of_function(self) -> Node:
        sign = self.accept("-")
        node = self._power()
        while self._starts_factor():
            token = self.peek()
            if token.text in FUNCTIONS:
                break
            if token.text == "(" or token.kind == "number":
                raise MathSyntaxError("where does the function's argument end?")
            node = Node("mul", (node, self._power()))
        if self.is_next("/"):
            self.take()
            node = Node("div", (node, self._power()))
            if self._starts_factor():
                raise MathSyntaxError("where does the function's argument end?")
        return negative(node) if sign else node

    def _command(self) -> Node:
        name = self.take().text
        if name in ("frac", "binom"):
            if self.is_next("("):  # binom(5, 2)
                inner = self._bracket()
                if inner.op != "bracket" or len(inner.args) != 2:
                    raise MathSyntaxError("two arguments expected")
                return Node("div" if name == "frac" else "binom", inner.args)
            return Node("div" if name == "frac" else "binom", (self._argument(split=True), self._argument(split=True)))
        if name in ("sqrt", "cbrt"):
            index = number_node("3" if name == "cbrt" else "2")
            if self.accept("["):
                index = self._sum()
                self.expect("]")
            return Node("root", (self._argument(split=True), index))
        if name == "emptyset":
            return Node("empty")
        if name == "R":
            return Node("reals")
        raise MathSyntaxError(f"\\{name} where a value was expected")

    def _argument(self, *, split: bool) -> Node:
        """The argument of a command or an exponent: a group or one token, of digits in LaTeX only the first."""
        token = self.peek()
        if token.kind == "number" and split and len(token.text) > 1:
            if not token.text.isdigit():
                raise MathSyntaxError("a decimal without braces")
            self.tokens[self.at : self.at + 1] = [Token("number", token.text[0]), Token("number", token.text[1:])]
        if token.kind == "name" and token.text not in FUNCTIONS:
            self.take()
            return Node("name", text=token.text)
        if token.kind == "number":
            return number_node(self.take().text)
        if token.kind == "command" or token.text in ("{", "("):
            return self._atom()
        raise MathSyntaxError(f"{token.text} as an argument")

    def _bracket(self) -> Node:
        opening = self.take().text
        if self.is_next(")", "]"):
            raise MathSyntaxError("empty brackets")
        node = self._items()
        closing = self.take().text
        if closing not in (")", "]"):
            raise MathSyntaxError("a bracket without an end")
        if node.op == "list":
            if node.text != ",":
                raise MathSyntaxError("words between brackets")
            return Node("bracket", node.args, text=opening + closing)
        if _OPENING[opening] != closing or node.op == "relation":
            raise MathSyntaxError("brackets around one value")
        return Node("bracket", (node,), text="[]") if opening == "[" and node.op == "bracket" else node

    def _closed_set(self, closing: str) -> Node:
        if self.accept(closing):
            return Node("empty")
        if (described := self._described(closing)) is not None:
            return described
        node = self._items()
        self.expect(closing)
        return Node("set", node.args if node.op == "list" else (node,))

    def _described(self, closing: str) -> Node | None:
        """`{x | -2 < x < 3}`, after the brace: what is said of the elements."""
        ahead = 3 if self.peek(1).text == "in" else 1
        if self.peek().kind != "name" or self.peek(ahead).text not in ("|", ":"):
            return None
        self.at += ahead + 1
        node = self._items()
        self.expect(closing)
        if not all(part.op == "relation" for part in (node.args if node.op == "list" else (node,))):
            raise MathSyntaxError("a set of what?")
        return Node("list", node.args, text="and") if node.op == "list" and node.text == "," else node
