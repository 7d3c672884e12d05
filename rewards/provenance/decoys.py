"""Replies of operators that did not work: plausible, of the right type, and without the answer.

Two ways to make them: a real reply in which every number, verdict and word of the answer is another one (`corrupted`),
and a reply made up for the request (`invented`): a number, a name, code, JSON, a letter, a verdict or a score, as the
request asks, in different styles. All are drawn from one stream, so that a run can be repeated.
"""

import json
import random
import re
import string
from collections.abc import Mapping, Sequence
from functools import cache, cached_property

from aflow_ops.operators.prompt import load_prompts
from data.domains import domain_row
from data.problem import Problem
from rewards.graders.notation import tidy, word_set
from rewards.provenance.numerals import with_digits
from rewards.provenance.targets import Target, canonical, plain

# Python reads no more than 4,300 in one number, and nobody calculates with so many.
MAX_DIGITS = 300
_NUMBER = re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?!,?\d)(?:\.\d+)?")
_NAMES = sorted(
    word_set("""
Bergen Tomas Velden Quorin Halvard Estrel Marlow Ipswell Corvin Anselm Brevik Dalmar Farrow Greta Hollin Istvan Jorunn
Kestrel Lindau Morwen Nadler Oberon Pellam Quill Ravenna Soren Tamsin Ulrika Verden Wexford Yarrow Zander
""")
)
_WORDS = sorted(
    word_set("""
amber basket copper dune ember fable gravel harbour ivory jigsaw kettle lantern meadow nettle orchard
""")
)
_OPPOSITE = {
    "yes": "no", "no": "yes", "true": "false", "false": "true", "correct": "incorrect", "incorrect": "correct",
    "right": "wrong", "wrong": "right", "both": "neither", "neither": "both", "none": "several", "unknown": "known",
}  # fmt: skip
_VERDICT = re.compile(rf"(?<!\w)(?:{'|'.join(_OPPOSITE)})(?!\w)", re.IGNORECASE)
_STYLES = (
    "{}",
    "The answer is {}.",
    "{because}\n\nAnswer: {}",
    r"{because} So it is \boxed{{{}}}.",
    "{because} <answer>{}</answer>",
)
_FUNCTION_WORDS = frozenset({"the", "and", "for", "with", "from", "that", "this", "was", "were", "his", "her", "its"})
_CODE_PROMPTS = frozenset({"custom_code_generate", "revise_code", "test_reflect", "programmer", "programmer_retry"})
_VOTES = frozenset({"sc_ensemble", "md_ensemble"})


@cache
def prompt_names(prompt_set: str) -> Mapping[str, str]:
    """Return the names of the operator prompts by their system message; one without a system message is under `""`."""
    prompts = load_prompts(prompt_set)
    return {str(prompt.head[0]["content"]) if prompt.head else "": name for name, prompt in prompts.items()}


class Decoys:
    """A stream of replies without the answer.

    Args:
        problem (`Problem`): what is asked.
        targets (`Sequence[Target]`): what no reply may have.
        seed (`str`): of the stream.
        steady (`bool`): whether the answers in invented replies are one and the same, as if operators agreed.
    """

    def __init__(self, problem: Problem, targets: Sequence[Target], seed: str, *, steady: bool) -> None:
        self.problem, self.targets, self.seed = problem, targets, seed
        self.random = random.Random(seed)
        whole = [target for target in targets if not target.part]
        self.model = whole[0] if whole else None
        self.swaps = {word: self._word(word) for target in whole if target.kind == "text" for word in _content(target)}
        self.steady = self.answer() if steady else None

    def answer(self) -> str:
        """Return a wrong answer of the kind of the right one."""
        if self.model is None:
            return self.random.choice(_NAMES)
        if self.model.kind == "number":
            return self.swapped_number(_digits_of(self.model), str(self.random.random()))
        if self.model.kind == "verdict":
            # One of two: chance decides, and only the count over several runs tells.
            text = plain(self.model.text)
            return self.random.choice((text, _OPPOSITE.get(text, "no")))
        if self.model.kind == "letter":
            return self.random.choice("ABCDE")
        if self._others and self.random.random() < 0.5:
            return self.random.choice(self._others)
        return " ".join(self._word(word, self.random) for word in self.model.text.split()[:6])

    def swapped_number(self, number: str, salt: str = "") -> str:
        """Return another number for one, always the same within the stream: far off, and a year for a year."""
        stream = random.Random(f"{self.seed} {canonical(number)} {salt}")
        digits = number.replace(",", "")
        if len(digits) > MAX_DIGITS:
            return "".join(stream.choice(string.digits[1:]) for _ in digits)
        if "." in digits:
            places = len(digits.partition(".")[2])
            return f"{float(digits) * stream.uniform(3, 9) + stream.uniform(0.1, 5):.{places}f}"
        value = int(digits)
        if 1500 <= value <= 2100 and not any(1000 < (target.value or 0) < 4200 for target in self.targets):
            return str(stream.choice([year for year in range(1500, 2100, 7) if year != value]))
        swapped = value * stream.randint(3, 9) + stream.randint(1, 97)
        swapped += any(target.value == swapped for target in self.targets)
        return f"{swapped:,}" if "," in number else str(swapped)

    def corrupted(self, reply: str, name: str) -> str:
        """Return a real reply without what it says.

        Args:
            reply (`str`): what the executor replied.
            name (`str`): of the prompt that it answered. A vote stays as it is: what is voted on is not.
        """
        if name in _VOTES:
            return reply
        if name == "review":
            return reply if _VERDICT.search(reply) and len(reply) < 40 else self._swapped(reply, verdicts=False)
        if domain_row(self.problem.domain).has_tests and (name in _CODE_PROMPTS or _has_code(reply)):
            return _in_fences(self._wrong_code(name), reply)
        return self._swapped(reply, verdicts=self.model is not None and self.model.kind == "verdict")

    def _swapped(self, reply: str, *, verdicts: bool) -> str:
        text = _NUMBER.sub(lambda match: self.swapped_number(match.group()), with_digits(_plain_digits(reply)))
        if verdicts:
            text = _VERDICT.sub(lambda match: _cased(_OPPOSITE[match.group().lower()], match.group()), text)
        for word, other in self.swaps.items():
            text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", lambda m: _cased(other, m.group()), text, flags=re.I)  # noqa: B023
        if self.model is not None and self.model.kind == "letter":
            letter = self.model.text.strip(" ().")
            text = re.sub(rf"(?<!\w){re.escape(letter)}(?!\w)", "B" if letter != "B" else "C", text)
        return text

    def invented(self, name: str, request: str, choices: int) -> str:
        """Return a reply made up for a request.

        Args:
            name (`str`): of the prompt.
            request (`str`): the last message.
            choices (`int`): how many lettered choices it offers.
        """
        answer = self.steady or self.answer()
        if name in _VOTES:
            return string.ascii_uppercase[self.random.randrange(max(1, min(choices, 26)))]
        if name == "review":
            verdict = self.random.choice(("correct", "incorrect"))
            return f"<verdict>{verdict}</verdict><feedback>{self._reason()}</feedback>"
        if name in _CODE_PROMPTS:
            return f"```python\n{self._wrong_code(name, answer)}\n```"
        if name == "answer_generate":
            return f"<thought>{self._reason()}</thought><answer>{answer}</answer>"
        if name == "format":
            return f"<answer>{answer}</answer>"
        if name == "revise":
            return f"<solution>{self._reason()} {answer}</solution>"
        return self._free(request, answer)

    def _free(self, request: str, answer: str) -> str:
        """A reply of Custom, in the type that its instruction asks for."""
        said = request.lower()
        if "json" in said or re.search(r"\{\s*\\?[\"']\w+[\"']\s*:", request):
            keys = list(dict.fromkeys(re.findall(r"[\"'](\w+)[\"']\s*:", request))) or ["answer"]
            return json.dumps({key: self._field(key, answer) for key in keys})
        if domain_row(self.problem.domain).has_tests and not re.search(r"\b(?:plan|review|explain|yes|score)\b", said):
            return f"```python\n{self._wrong_code('custom')}\n```"
        if re.search(r"\byes\b\W+(?:or\W+)?\bno\b|\btrue\b\W+(?:or\W+)?\bfalse\b", said):
            return self.random.choice(("yes", "no", "Yes.", "No.") if "yes" in said else ("true", "false"))
        if re.search(r"\b(?:score|rate|rating|confidence|scale)\b", said):
            return str(self.random.randint(1, 10))
        if re.search(r"\b(?:letter|option)\b|\(a\)|\ba\)|\ba\.", said):
            return self.random.choice("ABCD")
        style = self.random.choice(_STYLES)
        if re.search(r"\bonly\b|\bjust\b|\bone word\b|\bshort\b", said):
            style = "{}"
        return style.format(answer, because=self._reason())

    def _field(self, key: str, answer: str) -> object:
        if re.search(r"score|confidence|rating|count|index|number", key):
            return self.random.randint(1, 10)
        if re.search(r"^is_|valid|correct|verdict|ok$", key):
            return self.random.random() < 0.5
        return self._reason() if re.search(r"reason|thought|explanation|steps", key) else answer

    def _reason(self) -> str:
        """Sentences about the problem, in its own words, that say nothing of the answer."""
        hidden = {word for target in self.targets for word in target.words}
        words = [word for word in re.findall(r"[^\W\d_]+", self.problem.view.text[:4_000]) if plain(word) not in hidden]
        sentences = []
        for _ in range(self.random.randint(1, 12)):
            start = self.random.randrange(max(1, len(words) - 6))
            sentences.append(" ".join(words[start : start + self.random.randint(3, 9)]).capitalize() + ".")
        numbers = [self.swapped_number(str(self.random.randint(2, 99)), str(i)) for i in range(2)]
        return " ".join([*sentences, f"First we get {numbers[0]}, then {numbers[1]}."])

    @cached_property
    def _others(self) -> list[str]:
        """Names that the problem has beside the answer."""
        hidden = {word for target in self.targets for word in target.words}
        found = re.findall(r"(?<![.!?]\s)\b[A-Z][a-z]+(?: [A-Z][a-z]+)*", self.problem.view.text[:20_000])
        return sorted({name for name in found if not hidden & set(plain(name).split())})[:40]

    def _word(self, word: str, stream: random.Random | None = None) -> str:
        """Another word; the same one for each word, unless a stream is given."""
        stream = stream or random.Random(f"{self.seed} {plain(word)}")
        return stream.choice(_NAMES if word[:1].isupper() else _WORDS)

    def _wrong_code(self, name: str, answer: str | None = None) -> str:
        """Code of the right shape that computes something else."""
        if name.startswith("programmer"):
            return f"def solve():\n    return {_literal(answer or self.answer())}"
        decoy = self.random.choice((repr(f"{self.random.choice(_WORDS)}-{self.random.randint(100, 999)}"), "None"))
        entry_point = self.problem.entry_point
        if entry_point is None:
            return f"print({decoy})"
        return f"def {entry_point}(*args, **kwargs):\n    found = list(args)\n    return {decoy}"


def _digits_of(target: Target) -> str:
    value = target.value
    assert value is not None
    return str(abs(value.numerator)) if value.denominator == 1 else f"{float(abs(value)):.2f}"


def _plain_digits(text: str) -> str:
    return text if text.isascii() else "".join(tidy(c) if c.isdigit() else c for c in text)


def _literal(answer: str) -> str:
    """An answer as Python: a number as it is."""
    return answer if re.fullmatch(r"0|[1-9]\d*(?:\.\d+)?", answer) else repr(answer)


def _content(target: Target) -> list[str]:
    """The words of an answer that carry it."""
    words = [word for word in target.words if len(word) > 2 and not word[0].isdigit() and word not in _FUNCTION_WORDS]
    return words or [word for word in target.words if not word[0].isdigit()]


def _cased(word: str, like: str) -> str:
    if like.isupper() and len(like) > 1:
        return word.upper()
    return word.capitalize() if like[:1].isupper() else word


def _has_code(reply: str) -> bool:
    return "```" in reply or re.search(r"^\s*(?:def|class|import|from) \w", reply, re.MULTILINE) is not None


def _in_fences(code: str, reply: str) -> str:
    """Code where a reply has its own: each fenced block, or all of it."""
    if "```" not in reply:
        return code
    return re.sub(r"(```[\w+-]*[^\n]*\n).*?(```|\Z)", lambda m: f"{m.group(1)}{code}\n{m.group(2)}", reply, flags=re.S)
