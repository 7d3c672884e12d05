"""Question answering: does the answer say what a gold answer says?

Example: gold `Ada Lovelace`, answer `It was Lovelace.` has token F1 0.5 after normalisation.

The metric is that of the row's benchmark (`qa_metrics.py`): DROP's for `source: drop`, else SQuAD's with
HotpotQA's rule for yes and no. Several gold answers: the best one counts. An empty gold answer means that the passage
does not say (SQuAD 2.0), and only an answer that says so is right.
"""

import re
from collections import Counter

from data.catalogue import metric_of_source
from data.problem import SPAN_SEPARATOR, Problem
from rewards.graders.qa_metrics import drop_scores, normalized, squad_scores
from rewards.tiers import Grade, Tier

MAX_ANSWER_CHARS = 4_000
# A containing answer is a sentence, not a passage, and names little that neither the gold answer nor the question has.
MAX_CONTAINING_EXTRA = 24
MAX_CONTAINING_NEWS = 2

_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_SENTENCE = re.compile(r"\b(?:final\s+)?answer(?:\s+is)?\s*[:\-]\s*([^\n]+)|\banswer\s+is\s+([^\n]+)", re.IGNORECASE)
_HEADING = re.compile(r"^[#*\s]*(?:final\s+)?answer[*:\s]*\n([^\n]+)", re.IGNORECASE | re.MULTILINE)
_BOXED = re.compile(r"\\boxed\s*\{(?:\\text\s*\{)?([^{}]+)\}")
_STOP_WORDS = frozenset(
    {"a", "an", "the", "of", "in", "on", "at", "to", "is", "was", "it", "he", "she", "they", "and", "or", "for", "by"}
    | {"as", "be", "this", "that", "with", "from", "his", "her", "its", "their", "are", "were", "has", "had", "did"}
)
_UNANSWERABLE = frozenset(
    {"", "unanswerable", "noanswer", "no answer", "none", "unknown", "not mentioned", "not stated", "not given"}
    | {"cannot be answered", "cannot be determined", "question is unanswerable", "passage does not say"}
)


def grade_qa(answer: str, problem: Problem) -> Grade:
    """Grade a short answer against the gold ones; the best grade counts.

    Args:
        answer (`str`): the workflow's answer.
        problem (`Problem`): with its gold answers; its `context` is what an answer must not simply repeat.
    """
    extracted = extract_answer(answer)
    return max((_grade(extracted, gold, problem) for gold in problem.golds), key=lambda grade: grade.tier)


def _grade(extracted: str, gold_text: str, problem: Problem) -> Grade:
    tokens, gold = normalized(extracted).split(), normalized(gold_text).split()
    if not gold:
        right = " ".join(tokens) in _UNANSWERABLE
        return Grade(5 if right else 1, right, extracted or None, "the passage does not say")
    exact, score = answer_scores(extracted, gold_text, problem)
    if exact:
        return Grade(5, True, extracted, "exact match")
    if not [token for token in tokens if token not in _STOP_WORDS]:
        return Grade(1, False, extracted or None, "says nothing")
    if gold in (["yes"], ["no"]):
        said = tokens[:1] == gold and not {"yes", "no"} <= set(tokens)
        return Grade(5 if said else 1, said, extracted, f"{' '.join(tokens[:3])} against {gold[0]}")
    if _lists_options(extracted) and not _lists_options(gold_text) and SPAN_SEPARATOR not in gold_text:
        return Grade(2 if score >= 0.1 else 1, False, extracted, "names several options")
    if problem.context and _pastes(tokens, normalized(problem.context).split()) and len(tokens) > len(gold) + 3:
        return Grade(2 if score >= 0.1 else 1, False, extracted, "repeats the context")
    tier = f1_tier(score)
    if tier < 4 and _contains(tokens, gold, set(normalized(problem.question).split())):
        tier = 4
    return Grade(tier, False, extracted, f"F1 {score:.2f}", disputable=True)


def answer_scores(extracted: str, gold: str, problem: Problem) -> tuple[bool, float]:
    """Return exact match and F1 in [0, 1] by the metric of the problem's benchmark.

    Args:
        extracted (`str`): the answer.
        gold (`str`): one gold answer; empty when the passage does not say.
        problem (`Problem`): whose source names the benchmark.
    """
    if not gold:
        silent = " ".join(normalized(extracted).split()) in _UNANSWERABLE
        return silent, float(silent)
    spans = [span.strip() for span in gold.split(SPAN_SEPARATOR)]
    if metric_of_source(problem.source) == "drop":
        if len(spans) > 1:
            return drop_scores(_spans_of(extracted), spans)
        return drop_scores([extracted], spans)
    return squad_scores(" ".join(_spans_of(extracted)) if len(spans) > 1 else extracted, " ".join(spans))


def best_scores(extracted: str, problem: Problem) -> tuple[bool, float]:
    """Return exact match and F1 in [0, 1], each the best over the problem's gold answers."""
    scores = [answer_scores(extracted, gold, problem) for gold in problem.golds]
    return any(exact for exact, _ in scores), max(f1 for _, f1 in scores)


def _spans_of(text: str) -> list[str]:
    """The spans of an answer to a question that has several."""
    parts = re.split(r"\s*(?:\||;|\n|,(?!\d)|\band\b|&)\s*", text)
    return [part for part in parts if part.strip()] or [text]


def extract_answer(text: str) -> str:
    r"""Return what is marked as the answer, else the whole text.

    A mark is the last `<answer>` tag, the last `\boxed{}`, then what follows the last "answer is" or "answer:", or a
    heading "Final answer"; inside a tag likewise.
    """
    text = text[-MAX_ANSWER_CHARS:].strip()
    if tags := _TAG.findall(text):
        text = str(tags[-1]).strip()
    if boxed := _BOXED.findall(text):
        return str(boxed[-1]).strip()
    said = [(first or second).strip() for first, second in _SENTENCE.findall(text)] or _HEADING.findall(text)
    return str(said[-1]).strip("* ") if said and said[-1] else text


def f1_tier(score: float) -> Tier:
    """Return the tier of an F1 below an exact match."""
    return 4 if score >= 0.5 else 3 if score >= 0.3 else 2 if score >= 0.1 else 1


def _contains(tokens: list[str], gold: list[str], question: set[str]) -> bool:
    """Whether a reasonably short answer has the gold tokens in one piece and offers little else."""
    if len(tokens) > len(gold) + MAX_CONTAINING_EXTRA or all(token in _STOP_WORDS for token in gold):
        return False
    if not any(tokens[start : start + len(gold)] == gold for start in range(len(tokens) - len(gold) + 1)):
        return False
    news = Counter(tokens) - Counter(gold)
    return sum(token not in _STOP_WORDS and token not in question for token in news) <= MAX_CONTAINING_NEWS + len(gold)


def _pastes(tokens: list[str], context: list[str]) -> bool:
    """Whether an answer repeats more than half of the context."""
    return sum((Counter(tokens) & Counter(context)).values()) > len(context) / 2


def _lists_options(text: str) -> bool:
    """Whether an answer hedges: `Oslo or Lima`, `Oslo/Lima`, `Oslo, Lima and Rome`, `Oslo, Lima, Rome, Bern`."""
    commas, ands = text.count(","), len(re.findall(r"\band\b|&", text))
    return bool(re.search(r"\bor\b|(?<!\d)/|;|\n", text)) or commas >= 3 or (ands >= 1 and commas + ands >= 2)
