"""Characters: one spelling for what Unicode writes in many ways.

Example: `tidy("O’Neill\u200b －５")` is `"O'Neill -5"`; `as_latex("2√3 ≤ x²")` is `r"2\\sqrt {3} \\le  x^{2}"`.

`tidy` changes nothing but typography (widths, quotes, dashes, spaces, invisible characters) and is for every domain;
`as_latex` goes on to mathematical signs.
"""

import html
import re
import unicodedata

from aflow_ops.python_source import MAX_MARKS, longest_marks

_DASHES = dict.fromkeys(map(ord, "‐‑‒–—―−⁃﹘﹣－➖"), "-")
_QUOTES = dict.fromkeys(map(ord, "‘’‚‛′´`ʼ＇"), "'") | dict.fromkeys(map(ord, "“”„‟″«»＂"), '"')
_KEPT = frozenset("\n\t")
_VARIANTS = frozenset(map(chr, range(0xFE00, 0xFE10)))  # selectors: how the character before is drawn
# Decompositions that change what is said: 2² is not 22, and ½ after 1 is not 11/2.
_TELLING = ("<super>", "<sub>", "<fraction>")

# What text that was once on a web page has for a few signs.
_ENTITY = re.compile(r"&(?:amp|lt|gt|le|ge|quot|apos|nbsp|#39|#x27);")

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱ", "0123456789+-()ni")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋ₙᵢₖ", "0123456789+-nik")
_SUPERSCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱ]+")
_SUBSCRIPT_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋ₙᵢₖ]+")
_FRACTION_OF_SCRIPTS = re.compile("([⁰¹²³⁴⁵⁶⁷⁸⁹]+)[⁄∕/]([₀₁₂₃₄₅₆₇₈₉]+)")
_ROOT_SIGN = re.compile(r"([√∛])\s*(\d+(?:\.\d+)?|[a-zA-Zπ])")
_HARD_SPACED_THOUSANDS = re.compile(r"(?<=\d)[\u00a0\u2007\u2009\u202f](?=\d{3}(?!\d))")

_SIGNS = {
    "√": "sqrt", "∛": "cbrt", "±": "pm", "∓": "mp", "∞": "infty", "≤": "le", "≦": "le", "⩽": "le", "≥": "ge", "≧": "ge",
    "⩾": "ge", "≠": "ne", "≈": "approx", "×": "times", "⋅": "cdot", "·": "cdot", "∙": "cdot", "•": "cdot", "÷": "div",
    "∪": "cup", "∩": "cap", "∈": "in", "∖": "setminus", "∅": "emptyset", "π": "pi", "°": "circ", "∘": "circ",
    "⟨": "langle", "⟩": "rangle", "⌊": "lfloor", "⌋": "rfloor", "⌈": "lceil", "⌉": "rceil", "∣": "mid", "→": "to",
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "ρ": "rho", "σ": "sigma", "τ": "tau",
    "φ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda",
    "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
_WORDS = {"或": " or ", "和": " and ", "且": " and ", "、": ", ", "∧": " and ", "∨": " or "}
# Letters to the rest of Unicode, so that they have to be read before its compatible forms are.
_NUMBER_SETS = str.maketrans({sign: f"\\mathbb{{{letter}}} " for sign, letter in zip("ℝℕℤℚℂ", "RNZQC", strict=True)})
_AS_LATEX = str.maketrans({sign: f"\\{name} " for sign, name in _SIGNS.items()} | _WORDS)


def word_set(words: str) -> frozenset[str]:
    """Return the words of a text, for closed lists of them."""
    return frozenset(words.split())


def tidy(text: str) -> str:
    """Return a text with ASCII digits, quotes, dashes and spaces, in usual width, without invisible characters.

    Superscripts, subscripts and fraction signs stay as they are. Never raises.
    """
    if "&" in text:
        text = _ENTITY.sub(lambda entity: html.unescape(entity.group()), text)
    if text.isascii():
        return _without_controls(text)
    if longest_marks(text) > MAX_MARKS:  # no letters, and they take long to put in order
        text = "".join(character for character in text if not unicodedata.combining(character))
    # Twice: what is compatible with a letter is often written with a combining mark.
    return "".join(map(_plain, unicodedata.normalize("NFC", text.translate(_DASHES).translate(_QUOTES))))


def _without_controls(text: str) -> str:
    return text if text.isprintable() else "".join(map(_plain, text))


def _plain(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Cf", "Cs") or character in _VARIANTS:
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category in ("Zl", "Zp") or character in "\r\v\f\x85":
        return "\n"
    if category in ("Zs", "Cc"):
        return character if character in _KEPT else " "
    if unicodedata.decomposition(character).startswith(_TELLING):
        return character
    return unicodedata.normalize("NFKC", character).translate(_DASHES).translate(_QUOTES)


def as_latex(text: str) -> str:
    r"""Return a text whose mathematical signs are LaTeX commands: `√` is `\sqrt`, `x²` is `x^{2}`, `1½` is `1 1/2`."""
    text = _HARD_SPACED_THOUSANDS.sub(",", text)
    text = tidy(text.translate(_NUMBER_SETS).replace("º", "°"))
    if text.isascii():
        return text
    text = _FRACTION_OF_SCRIPTS.sub(lambda f: f"{f[1].translate(_SUPERSCRIPTS)}/{f[2].translate(_SUBSCRIPTS)}", text)
    text = _ROOT_SIGN.sub(r"\1{\2}", text)  # of the whole number behind it
    text = _SUPERSCRIPT_RUN.sub(lambda run: f"^{{{run.group().translate(_SUPERSCRIPTS)}}}", text)
    text = _SUBSCRIPT_RUN.sub(lambda run: f"_{{{run.group().translate(_SUBSCRIPTS)}}}", text)
    text = text.replace("°C", "\\circ C").replace("°F", "\\circ F")
    return "".join(map(_vulgar, text)).replace("⁄", "/").replace("∕", "/").translate(_AS_LATEX)


def _vulgar(character: str) -> str:
    if unicodedata.decomposition(character).startswith("<fraction>"):
        return f" {unicodedata.normalize('NFKC', character)} "
    return character
