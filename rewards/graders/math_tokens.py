r"""Tokens of mathematics in LaTeX or as people type it. Structure is kept: no brace, space, sign or case is lost.

Example: `\dfrac{3x}{2}` and `\frac {3 x} 2` give the same tokens, `\frac{3}{x2}` others.

Wrappers that only dress (`\textbf{..}`, `\left`, `\color{red}`) vanish as commands, while what they hold stays one
group. "The same text" means the same tokens.
"""

import re
from dataclasses import dataclass
from typing import Literal

from rewards.graders.notation import as_latex, word_set

MAX_CHARS = 1_000

Kind = Literal["number", "name", "word", "command", "operator", "separator", "environment"]


class MathSyntaxError(ValueError):
    """A text that is no mathematics, or not in a notation that is read here."""


@dataclass(frozen=True)
class Token:
    """One token; `glued` when no space stands before it."""

    kind: Kind
    text: str
    glued: bool = True


FUNCTIONS = word_set(
    "sin cos tan cot sec csc arcsin arccos arctan asin acos atan sinh cosh tanh ln log lg exp abs floor ceil gcd "
    "lcm min max factorial"
)
_COMMANDS = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "dbinom": "binom", "tbinom": "binom", "leq": "le",
    "leqslant": "le",
    "geq": "ge", "geqslant": "ge", "lt": "<", "gt": ">", "neq": "ne", "degree": "circ", "ast": "*", "cdot": "*",
    "times": "*", "div": "/", "varnothing": "emptyset", "lvert": "|", "rvert": "|", "vert": "|", "lbrace": "{{",
    "rbrace": "}}", "lbrack": "[", "rbrack": "]", "langle": "(",
    "rangle": ")", "smallsetminus": "setminus", "backslash": "setminus", "reals": "R",
    "isin": "in", "land": "and", "lor": "or", "vee": "or", "wedge": "and", "infin": "infty", "varphi": "phi",
    "varepsilon": "epsilon", "bar": "overline", "nicefrac": "frac", "sfrac": "frac", "leqq": "le", "geqq": "ge",
    "Vert": "|", "lVert": "|", "rVert": "|", "mid": "|", "dots": "ldots", "dotsc": "ldots",
    "surd": "sqrt",
}  # fmt: skip
_KEPT_COMMANDS = word_set("frac sqrt cbrt binom over choose overline in cup cap setminus emptyset R circ pm mp")
_OPERATOR_COMMANDS = word_set("< > * / | ( ) [ ] {{ }} le ge ne lfloor rfloor lceil rceil")
GREEK = word_set(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell"
)
# Commands without a meaning of their own; those of the second line are followed by a group that is dropped too.
_DRESSING = word_set(
    "left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr displaystyle textstyle limits rm bf "
    "it quad qquad thinspace enspace space bigm middle tiny small large Large LARGE huge Huge"
)
_DRESSING_WITH_ARGUMENT = word_set("color colorbox tag label hspace vspace phantom hphantom vphantom")
_TEXT_WRAPPERS = word_set(
    "text textbf textit textrm textsf texttt textnormal textup textsc textmd mbox hbox emph underline uline"
)
_MATH_WRAPPERS = word_set(
    "mathrm mathbf mathit mathsf mathtt mathop mathnormal boldsymbol bm pmb operatorname boxed fbox framebox "
    "ensuremath overbrace"
)
_ENVIRONMENTS = {
    "matrix": "matrix",
    "pmatrix": "matrix",
    "bmatrix": "matrix",
    "array": "matrix",
    "smallmatrix": "matrix",
}
_WORDS = word_set(
    "a an the is are if no not yes odd all any one two six ten none both for of to in on at by it as he she his "
    "her was day up so be we me my us our new old red get has had can may let set sum mean"
)  # fmt: skip

_GROUPED = r"(?:,\\!\s*|\\!,|\{,\}|\\,|\\!|'|\\ |\\thinspace\s*)"
_NUMBER_TAIL = r"(?:\.\d+)?(?:[eE][-+]?\d{1,4}(?![\w{.]))?"
_GROUPED_NUMBER = re.compile(rf"\d{{1,3}}(?:{_GROUPED}\d{{3}})+(?!\d){_NUMBER_TAIL}")
_COMMA_NUMBER = re.compile(rf"\d{{1,3}}(?:,\d{{3}})+(?!\d){_NUMBER_TAIL}")
_NUMBER = re.compile(rf"\d+{_NUMBER_TAIL}|\.\d+(?:[eE][-+]?\d{{1,4}}(?![\w{{.]))?")
_COMMAND = re.compile(r"\\([a-zA-Z]+)")
_LETTERS = re.compile(r"[a-zA-Z]+")
_NOT_EQUAL = re.compile(r"\\not\s*=")
_REALS = re.compile(r"\s*(?:R(?![a-zA-Z])|\{\s*R\s*\})")
_OPERATOR = re.compile(r"\*\*|<=|>=|!=|==|[-+*/^_=<>()\[\]{}|!:&%]")
_OPERATOR_NAMES = {"**": "^", "<=": "le", ">=": "ge", "!=": "ne", "==": "="}
_BEGIN = re.compile(r"\\(begin|end)\s*\{\s*([a-zA-Z]+)\*?\s*\}(?:\s*\{[clr|@{}\s]*\})?")
_SPACE = re.compile(r"\s+|(?<=.)~|\\[,;:!> ]")  # a first `~` says "about"
_ROW_SPACE = re.compile(r"\[-?[\d.]+\s*(?:pt|em|ex|mm|cm)\]")
_WRONGLY_ESCAPED = re.compile(r"\\\\(?=([a-zA-Z]{2,})(?![a-zA-Z]))")


def comma_is_ambiguous(text: str) -> bool:
    """Whether a comma in a text may be one of thousands or one between numbers: `1,234`."""
    return bool(_COMMA_NUMBER.search(text))


def tokens_of(text: str, *, thousands: bool = True, any_command: bool = False) -> tuple[Token, ...]:
    """Return the tokens of a text.

    Args:
        text (`str`): LaTeX or plain mathematics, with or without `$`.
        thousands (`bool`): read `1,234` as one number.
        any_command (`bool`): take commands without a meaning here as they are.

    Raises:
        MathSyntaxError: too long, an unknown command, or a character that mathematics has no use for.
    """
    if len(text) > MAX_CHARS:
        raise MathSyntaxError("too long")
    text = _WRONGLY_ESCAPED.sub(_one_backslash, without_delimiters(as_latex(text)))
    text = _NOT_EQUAL.sub(r"\\ne ", text)
    return tuple(_Lexer(text, thousands, any_command).all())


def without_delimiters(text: str) -> str:
    r"""Return a text without `$..$`, `\(..\)` and `\[..\]`; a single `$`, a currency, stays."""
    text = re.sub(r"(?<!\\)\\[()\[\]]", " ", re.sub(r"(?<!\\)\\\\?\s*$", "", text))
    if len(re.findall(r"(?<!\\)\$", text)) % 2 == 0:
        text = re.sub(r"(?<!\\)\$", " ", text)
    return text.strip()


def _one_backslash(match: re.Match[str]) -> str:
    """JSON written by hand escapes twice; a row of a matrix never begins with the name of a command."""
    name = match.group(1)
    names = (_COMMANDS, _KEPT_COMMANDS, _OPERATOR_COMMANDS, GREEK, _DRESSING, _TEXT_WRAPPERS, ("infty", "pi"))
    return "\\" if any(name in known for known in names) else "\\\\"


class _Lexer:
    def __init__(self, text: str, thousands: bool, any_command: bool = False) -> None:
        self.text, self.at, self.glued, self.any_command = text, 0, True, any_command
        self.found: list[Token] = []
        self.numbers = [_GROUPED_NUMBER, _COMMA_NUMBER, _NUMBER] if thousands else [_GROUPED_NUMBER, _NUMBER]

    def all(self) -> list[Token]:
        while self.at < len(self.text):
            if space := self.match(_SPACE):
                self.glued = False
                if "\n" in space.group() and self.found and self.text[self.at :].strip():
                    self.add("separator", ",")
            elif self.text.startswith("\\", self.at):
                self.command()
            else:
                self.plain()
        return _unwrapped(self.found)

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.at)
        if match:
            self.at = match.end()
        return match

    def add(self, kind: Kind, text: str) -> None:
        self.found.append(Token(kind, text, self.glued))
        self.glued = True

    def plain(self) -> None:
        for pattern in self.numbers:
            if number := self.match(pattern):
                self.add("number", re.sub(rf"{_GROUPED}|,", "", number.group()))
                return
        if letters := self.match(_LETTERS):
            self.letters(letters.group())
        elif operator := self.match(_OPERATOR):
            self.add("operator", _OPERATOR_NAMES.get(operator.group(), operator.group()))
        elif self.text[self.at] in ",;":
            self.at += 1
            self.add("separator", ",")
        elif self.text[self.at] == "'" and self.found and self.found[-1].kind == "name" and self.glued:
            self.at += 1
            last = self.found.pop()
            self.found.append(Token("name", last.text + "'", last.glued))
        elif self.text[self.at] == "." and not self.text[self.at + 1 :].strip():
            self.at += 1
        else:
            raise MathSyntaxError(f"{self.text[self.at]!r} is no mathematics")

    def letters(self, run: str) -> None:
        lower = run.lower()
        if lower in ("and", "or"):
            self.add("separator", lower)
        elif lower in FUNCTIONS or lower in ("sqrt", "cbrt", "binom", "frac"):
            self.add("command" if lower in _KEPT_COMMANDS else "name", lower)
        elif lower == "pi":
            self.add("name", "pi")
        elif lower in ("inf", "infty", "infinity"):
            self.add("name", "infty")
        elif run in ("in", "cup", "cap") and self.found:
            self.add("command", run)
        elif (
            len(run) == 1
            or (len(run) <= 3 and run.islower() and run not in _WORDS)
            or (len(run) == 2 and not (run.islower() or run.istitle() or run.isupper()))
        ):
            for letter in run:
                self.add("name", letter)
        elif run.isupper() and len(run) <= 3:
            self.add("name", run)
        else:
            self.add("word", lower)

    def command(self) -> None:
        if begin := self.match(_BEGIN):
            name = _ENVIRONMENTS.get(begin.group(2))
            if name is None:
                raise MathSyntaxError(f"environment {begin.group(2)}")
            self.add("environment", begin.group(1))
            return
        if self.text.startswith("\\\\", self.at):
            self.at += 2
            self.match(_ROW_SPACE)
            self.add("operator", "\\\\")
            return
        if self.text[self.at : self.at + 2] in ("\\{", "\\}", "\\|", "\\%", "\\$", "\\&"):
            sign = self.text[self.at + 1]
            self.at += 2
            self.add("operator", {"{": "{{", "}": "}}"}.get(sign, sign))
            return
        match = self.match(_COMMAND)
        if match is None:
            raise MathSyntaxError("a backslash before no command")
        self.named(match.group(1))

    def named(self, name: str) -> None:
        name = _COMMANDS.get(name, name)
        if name in _OPERATOR_COMMANDS:
            self.add("operator", name)
        elif name in ("and", "or"):
            self.add("separator", name)
        elif name in _KEPT_COMMANDS:
            self.add("command", name)
        elif name in FUNCTIONS or name in GREEK or name in ("pi", "infty"):
            self.add("name", name)
        elif name in _DRESSING:
            self.glued = False
            if self.text[self.at : self.at + 1] == "." and name in ("left", "right"):
                raise MathSyntaxError("a delimiter on one side only")
        elif name in _DRESSING_WITH_ARGUMENT or name == "textcolor":
            self.group()
        elif name == "cr":
            self.add("operator", "\\\\")
        elif name in ("mathbb", "Bbb") and _REALS.match(self.text, self.at):
            self.match(_REALS)
            self.add("command", "R")
        elif name in _TEXT_WRAPPERS or name in _MATH_WRAPPERS:
            self.wrapper(name)
        elif self.any_command:
            self.add("command", name)
        else:
            raise MathSyntaxError(f"\\{name}")

    def group(self) -> str:
        """Take the text of the group that follows, or the one character."""
        while self.match(_SPACE):
            pass
        if not self.text.startswith("{", self.at):
            raise MathSyntaxError("a group is missing")
        depth, start = 0, self.at
        for position in range(start, len(self.text)):
            depth += {"{": 1, "}": -1}.get(self.text[position], 0)
            if depth == 0:
                self.at = position + 1
                return self.text[start + 1 : position]
        raise MathSyntaxError("a group without an end")

    def wrapper(self, name: str) -> None:
        """What a wrapper holds is one group; English in it is words, whatever their length."""
        inner = self.group()
        self.add("operator", "{")
        english = _english(name, inner)
        self.found += _words(inner) if english else _Lexer(inner.strip(), True, self.any_command).all()
        self.add("operator", "}")


def _english(name: str, inner: str) -> bool:
    letters = _LETTERS.findall(_COMMAND.sub(" ", inner))
    return name in _TEXT_WRAPPERS and any(len(run) > 1 and run.lower() not in ("and", "or") for run in letters)


def _words(text: str) -> list[Token]:
    found = re.findall(r"[a-zA-Z]+|\d+(?:\.\d+)?|[^\s.a-zA-Z\d]", text)
    return [
        Token("word" if part.isalpha() else "number" if part[0].isdigit() else "operator", part.lower())
        for part in found
    ]


def _unwrapped(tokens: list[Token]) -> list[Token]:
    """Without the braces around a single token, which say nothing that the token does not."""
    found: list[Token] = []
    for token in tokens:
        found.append(token)
        while (
            len(found) >= 3
            and found[-1] == Token("operator", "}", found[-1].glued)
            and found[-3] == Token("operator", "{", found[-3].glued)
            and found[-2].text not in ("{", "}")
            and not (found[-2].kind == "number" and len(found[-2].text) > 1)
            and not (found[-2].text in ("-", "+") and len(found) > 3 and found[-4].text in ("^", "_"))  # `10^{-}3`
        ):
            inner = found[-2]
            glued = found[-3].glued
            del found[-3:]
            found.append(Token(inner.kind, inner.text, glued))
    return found
