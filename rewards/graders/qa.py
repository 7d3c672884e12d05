"""Question answering: does the answer say what a gold answer says?

Example: gold `Ada Lovelace`, answer `It was Lovelace.` has token F1 0.5 after normalisation.

The metric is that of the row's benchmark (`qa_metrics.py`): the one that its entry in `data/benchmarks/hub.yaml` names
(DROP's), else SQuAD's with HotpotQA's rule for yes and no. Several gold answers: the best one counts. An empty gold
answer means that the passage does not say (SQuAD 2.0), and only an answer that says so is right.

The reward is stricter than the metric where the official normalisation makes different values equal, and reads
sentences where the metric counts tokens (`qa_reading.py`): an answer that hedges, denies or lists is no answer.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import product

from aflow_ops.errors import UsageError
from data.catalogue import metric_of
from data.problem import SPAN_SEPARATOR, Problem
from rewards.graders.notation import tidy
from rewards.graders.number_words import begun_in_digits
from rewards.graders.qa_metrics import drop_scores, normalized, squad_scores
from rewards.graders.qa_reading import denies, in_one_piece, lists_options, says, says_unanswerable
from rewards.graders.qa_text import (
    adds_sign,
    currencies,
    date_alone,
    extract_answer,
    number_alone,
    number_said,
    strikes_out,
    values,
)
from rewards.tiers import Grade, Tier

# A containing answer is a sentence, not a passage.
MAX_CONTAINING_EXTRA = 24
# An answer with very many spans is scored as it is split first.
MAX_SPANS_TRIED = 40
MAX_SEPARATORS_TRIED = 6

_STOP_WORDS = frozenset(
    {"a", "an", "the", "of", "in", "on", "at", "to", "is", "was", "it", "he", "she", "they", "and", "or", "for", "by"}
    | {"as", "be", "this", "that", "with", "from", "his", "her", "its", "their", "are", "were", "has", "had", "did"}
)
_STRONG = r"\||;|\n"
# Between spans too, unless a span has them itself: "Washington, D.C.", "Procter & Gamble".
_ITEM = re.compile(r"^\s*\d{1,2}[.)]\s+", re.MULTILINE)
_DIVIDES = re.compile(r"\w\s*[;|]\s*\w")
_WEAK = re.compile(r",(?!\d{3}(?!\d))|\band\b|&")


def grade_qa(answer: str, problem: Problem) -> Grade:
    """Grade a short answer against the gold ones; the best grade counts.

    Args:
        answer (`str`): the workflow's answer.
        problem (`Problem`): with its gold answers; its `context` is what an answer must not simply repeat.
    """
    extracted = extract_answer(answer)
    return max((_grade(extracted, gold, problem) for gold in problem.golds), key=lambda grade: grade.tier)


def _grade(extracted: str, gold_text: str, problem: Problem) -> Grade:
    gold_text = tidy(gold_text)
    if SPAN_SEPARATOR in gold_text and all(map(_ITEM.match, extracted.split("\n"))):  # a numbered list
        extracted = _ITEM.sub("", extracted)
    tokens, gold = normalized(extracted).split(), normalized(gold_text).split()
    if not gold_text.strip():
        right = says_unanswerable(extracted)
        return Grade(5 if right else 1, right, extracted or None, "the passage does not say")
    if not gold:  # "A", "The The", "+": all that the metric drops, and still the answer
        right = _bare(extracted) == _bare(gold_text)
        return Grade(5 if right else 1, right, extracted or None, f"{extracted[:40]!r} against {gold_text!r}")
    if gold in (["yes"], ["no"]):
        right = says(extracted, problem.question) == gold[0]
        return Grade(5 if right else 1, right, extracted, f"{' '.join(tokens[:3])} against {gold[0]}")
    exact, score = answer_scores(extracted, gold_text, problem)
    stated = exact and not adds_sign(extracted, gold_text, problem.question)
    stated = stated and strikes_out(extracted) <= strikes_out(gold_text)
    stated = stated and (
        SPAN_SEPARATOR in gold_text or not _DIVIDES.search(extracted) or bool(_DIVIDES.search(gold_text))
    )
    signs, gold_signs = currencies(extracted), currencies(gold_text)
    same = (stated and _same_values(extracted, gold_text)) or _same_value(extracted, gold_text, problem.question)
    if same and (not signs or not gold_signs or signs == gold_signs):
        return Grade(5, True, extracted, "exact match")
    if not [token for token in tokens if token not in _STOP_WORDS]:
        return Grade(1, False, extracted or None, "says nothing")
    return _partial(extracted, gold_text, score, problem)


def _partial(extracted: str, gold_text: str, score: float, problem: Problem) -> Grade:
    """The grade of an answer that is not the gold one but may have some of it."""
    tokens, gold = normalized(extracted).split(), normalized(gold_text).split()
    little: Tier = 2 if score >= 0.1 else 1
    if number_alone(gold_text) is not None and number_alone(gold_text) not in values(extracted)[0]:
        return Grade(1, False, extracted, "another number", disputable=number_alone(extracted) is None)
    if denies(extracted, gold_text) or strikes_out(extracted) or (extracted.endswith("?") and "?" not in gold_text):
        return Grade(little, False, extracted, "denies it, or something")
    given = f"{problem.context or ''}\n{problem.question}"
    several = SPAN_SEPARATOR in gold_text or lists_options(gold_text, given)
    if not several and lists_options(extracted, given):
        return Grade(little, False, extracted, "names several options")
    if problem.context and _pastes(tokens, normalized(problem.context).split()) and len(tokens) > len(gold) + 3:
        return Grade(little, False, extracted, "repeats the context")
    tier = f1_tier(score)
    if not several and _holds(tokens, gold):
        news = _news(tokens, gold, problem)
        if not news or in_one_piece(extracted.strip(" ."), given):
            tier = max(tier, 4)
        else:  # what else it names may be another option
            tier = min(max(tier, 3), 3 if news <= len(gold) else 2)
    if score == 1:  # the metric's normalisation hides that it is another value
        tier = 3
    return Grade(tier, False, extracted, f"F1 {score:.2f}", disputable=True)


def _bare(text: str) -> str:
    """A text that is no words, as it is compared: a full stop behind a letter is no part of it."""
    text = " ".join(tidy(text).casefold().split()).strip("\"'")
    return re.sub(r"(?<=\w)\.$", "", text)


def _same_values(left: str, right: str) -> bool:
    """Whether two texts that the metric calls equal have the same numbers and signed letters, spans in any order."""
    (numbers, letters), (other_numbers, other_letters) = values(left), values(right)
    if SPAN_SEPARATOR in right:
        return Counter(numbers) == Counter(other_numbers)
    return numbers == other_numbers and letters == other_letters


def _same_value(left: str, right: str, question: str) -> bool:
    """Whether two texts are one number, one quantity or one date, however written."""
    one, other = number_said(left, question), number_said(right, question)
    if one is not None or other is not None:
        return one == other
    quantity, other_quantity = begun_in_digits(left.strip()), begun_in_digits(right.strip())
    if (quantity, other_quantity) != (left.strip(), right.strip()) and normalized(quantity) == normalized(
        other_quantity
    ):
        return _same_values(quantity, other_quantity)
    day, other_day = date_alone(left), date_alone(right)
    return day is not None and day == other_day


def answer_scores(extracted: str, gold: str, problem: Problem) -> tuple[bool, float]:
    """Return exact match and F1 in [0, 1] by the metric of the problem's benchmark.

    Args:
        extracted (`str`): the answer.
        gold (`str`): one gold answer; empty when the passage does not say.
        problem (`Problem`): whose source names the benchmark.

    Raises:
        UsageError: the benchmark names a metric that there is not.
    """
    if not gold:
        silent = says_unanswerable(extracted)
        return silent, float(silent)
    spans = [span.strip() for span in gold.split(SPAN_SEPARATOR)]
    metric = metric_of(problem.source) or "squad"
    if metric not in METRICS:
        raise UsageError(
            f"data/benchmarks/hub.yaml: {problem.source} has the metric {metric!r}; qa has {', '.join(METRICS)}"
        )
    return METRICS[metric](extracted, spans)


def _squad(extracted: str, spans: Sequence[str]) -> tuple[bool, float]:
    return squad_scores(" ".join(_spans(extracted)) if len(spans) > 1 else extracted, " ".join(spans))


def _drop(extracted: str, spans: Sequence[str]) -> tuple[bool, float]:
    if len(spans) == 1:
        return drop_scores([extracted], spans)
    splits = list(_ways_to_split(extracted, set(_WEAK.findall(SPAN_SEPARATOR.join(spans)))))
    if len(splits[0]) > MAX_SPANS_TRIED:
        splits = splits[:1]
    return max(drop_scores(split, spans) for split in splits)


# By the name that a benchmark has for its metric in `data/benchmarks/hub.yaml`; answer and spans of the gold answer to
# exact match and F1.
METRICS: Mapping[str, Callable[[str, Sequence[str]], tuple[bool, float]]] = {"squad": _squad, "drop": _drop}


def best_scores(extracted: str, problem: Problem) -> tuple[bool, float]:
    """Return exact match and F1 in [0, 1], each the best over the problem's gold answers."""
    scores = [answer_scores(extracted, gold, problem) for gold in problem.golds]
    return any(exact for exact, _ in scores), max(f1 for _, f1 in scores)


def _ways_to_split(text: str, inside: Set[str] = frozenset()) -> Iterator[list[str]]:
    """The spans of an answer that has several: first split everywhere, then not at some of the separators `inside`."""
    found = [match for match in _WEAK.finditer(text) if match.group() in inside]
    # Of many separators all of a kind go together.
    groups = [match.group() if len(found) > MAX_SEPARATORS_TRIED else str(match.start()) for match in found]
    names = sorted(set(groups))
    for kept in product((False, True), repeat=len(names)):
        together = {name for name, keep in zip(names, kept, strict=True) if keep}
        whole = {match.start() for match, group in zip(found, groups, strict=True) if group in together}
        yield _split(text, whole)


def _split(text: str, whole: Set[int]) -> list[str]:
    """The parts of a text between separators, other than weak ones at these places."""
    marked = _WEAK.sub(lambda match: match.group() if match.start() in whole else "|", text)
    return [part.strip() for part in re.split(_STRONG, marked) if part.strip()] or [text]


def _spans(text: str) -> list[str]:
    return next(_ways_to_split(text))


def f1_tier(score: float) -> Tier:
    """Return the tier of an F1 below an exact match."""
    return 4 if score >= 0.5 else 3 if score >= 0.3 else 2 if score >= 0.1 else 1


def _holds(tokens: list[str], gold: list[str]) -> bool:
    """Whether a reasonably short answer has the gold tokens in one piece."""
    if len(tokens) > len(gold) + MAX_CONTAINING_EXTRA or all(token in _STOP_WORDS for token in gold):
        return False
    return any(tokens[start : start + len(gold)] == gold for start in range(len(tokens) - len(gold) + 1))


def _news(tokens: list[str], gold: list[str], problem: Problem) -> int:
    """How many words of an answer are neither the gold answer's nor the question's."""
    question = normalized(problem.question).split()
    return sum(word not in _STOP_WORDS and word not in question for word in Counter(tokens) - Counter(gold))


def _pastes(tokens: list[str], context: list[str]) -> bool:
    """Whether an answer repeats more than half of the context."""
    return sum((Counter(tokens) & Counter(context)).values()) > len(context) / 2
