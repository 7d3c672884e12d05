"""Question answering: does the answer say what the gold answer says?

Example: gold `Ada Lovelace`, answer `It was Lovelace.` has token F1 0.5 after normalisation.

Normalisation, exact match and token F1 are those of SQuAD 1.1's evaluation script
(https://rajpurkar.github.io/SQuAD-explorer/): lower case, without punctuation, articles and extra space.
"""

import re
import string
from collections import Counter

from data.problem import Problem
from rewards.tiers import Grade, Tier

MAX_ANSWER_CHARS = 4_000
# A containing answer may have this many tokens more than the gold one: a sentence, not a passage.
MAX_CONTAINING_EXTRA = 24

_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_PREFIX = re.compile(r"^(?:the\s+)?(?:final\s+)?answer(?:\s+is)?\s*[:\-]?\s+", re.IGNORECASE)
_STOP_WORDS = frozenset(
    {"a", "an", "the", "of", "in", "on", "at", "to", "is", "was", "it", "he", "she", "they", "and", "or", "for", "by"}
    | {"as", "be", "this", "that", "with", "from"}
)
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def grade_qa(answer: str, problem: Problem) -> Grade:
    """Grade a short answer against the gold one.

    Args:
        answer (`str`): the workflow's answer.
        problem (`Problem`): its `answer` is the gold one, its `context` what an answer must not simply repeat.
    """
    extracted = extract_answer(answer)
    tokens, gold = normalized(extracted).split(), normalized(problem.answer).split()
    if not [token for token in tokens if token not in _STOP_WORDS] and tokens != gold:
        return Grade(1, False, extracted or None, "says nothing")
    if tokens == gold:
        return Grade(5, True, extracted, "exact match")
    if _is_yes_no(gold):
        said = tokens[:1] == gold and not {"yes", "no"} <= set(tokens)
        return Grade(5 if said else 1, said, extracted, f"{' '.join(tokens[:3])} against {gold[0]}")
    score = token_f1(tokens, gold)
    if _lists_options(extracted) and not _lists_options(problem.answer):
        return Grade(2 if score >= 0.1 else 1, False, extracted, "names several options")
    if problem.context and _pastes(tokens, normalized(problem.context).split()) and len(tokens) > len(gold) + 3:
        return Grade(2 if score >= 0.1 else 1, False, extracted, "repeats the context")
    tier = f1_tier(score)
    if tier < 4 and contains(tokens, gold):
        tier = 4
    return Grade(tier, False, extracted, f"F1 {score:.2f}")


def extract_answer(text: str) -> str:
    """Return the text of the last `<answer>` tag, or the whole text without a leading "the answer is"."""
    text = text[:MAX_ANSWER_CHARS].strip()
    if tags := _TAG.findall(text):
        return str(tags[-1]).strip()
    return _PREFIX.sub("", text).strip()


def normalized(text: str) -> str:
    """SQuAD's normalisation: lower case, no punctuation, no articles, single spaces."""
    text = text.lower().translate(_PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def token_f1(prediction: list[str], gold: list[str]) -> float:
    """Harmonic mean of token precision and recall, in [0, 1]; SQuAD's definition."""
    if not prediction or not gold:
        return float(prediction == gold)
    overlap = sum((Counter(prediction) & Counter(gold)).values())
    if overlap == 0:
        return 0.0
    precision, recall = overlap / len(prediction), overlap / len(gold)
    return 2 * precision * recall / (precision + recall)


def f1_tier(score: float) -> Tier:
    """Return the tier of a token F1 below an exact match."""
    return 4 if score >= 0.5 else 3 if score >= 0.3 else 2 if score >= 0.1 else 1


def contains(tokens: list[str], gold: list[str]) -> bool:
    """Whether a reasonably short answer has the gold tokens in one piece."""
    if not gold or len(tokens) > len(gold) + MAX_CONTAINING_EXTRA or all(token in _STOP_WORDS for token in gold):
        return False
    return any(tokens[start : start + len(gold)] == gold for start in range(len(tokens) - len(gold) + 1))


def _pastes(tokens: list[str], context: list[str]) -> bool:
    """Whether an answer repeats more than half of the context."""
    return sum((Counter(tokens) & Counter(context)).values()) > len(context) / 2


def _is_yes_no(gold: list[str]) -> bool:
    return gold in (["yes"], ["no"])


def _lists_options(text: str) -> bool:
    """Whether an answer hedges: `Oslo or Lima or Rome`, `Oslo, Lima, Rome, Bern`."""
    return len(re.findall(r"\bor\b|/|;|\n", text)) >= 1 or text.count(",") >= 3
