"""The question-answering benchmarks' own metrics: exact match and token F1, as SQuAD, HotpotQA and DROP define them.

SQuAD 1.1 (https://rajpurkar.github.io/SQuAD-explorer/) lower-cases, drops punctuation and articles, and compares
tokens. HotpotQA (https://arxiv.org/abs/1809.09600) adds that yes, no and "noanswer" share no token with anything else.
DROP (https://arxiv.org/abs/1903.00161) reads numbers as numbers, splits hyphens, gives no credit to a span that lacks
the gold span's numbers, and pairs the spans of an answer with several so that the mean F1 is largest.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_CLOSED = frozenset({"yes", "no", "noanswer"})


def normalized(text: str) -> str:
    """SQuAD's normalisation: lower case, no punctuation, no articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def token_f1(prediction: Sequence[str], gold: Sequence[str]) -> float:
    """Harmonic mean of token precision and recall, in [0, 1]; without any token on one side, whether both have none."""
    if not prediction or not gold:
        return float(list(prediction) == list(gold))
    overlap = sum((Counter(prediction) & Counter(gold)).values())
    if overlap == 0:
        return 0.0
    precision, recall = overlap / len(prediction), overlap / len(gold)
    return 2 * precision * recall / (precision + recall)


def squad_scores(prediction: str, gold: str) -> tuple[bool, float]:
    """Return exact match and token F1 of SQuAD, with HotpotQA's rule for yes and no."""
    left, right = normalized(prediction), normalized(gold)
    if left == right:
        return True, 1.0
    if left in _CLOSED or right in _CLOSED:
        return False, 0.0
    return False, token_f1(left.split(), right.split())


def drop_scores(prediction: Sequence[str], gold: Sequence[str]) -> tuple[bool, float]:
    """Return exact match and F1 of DROP for the spans of an answer.

    Args:
        prediction (`Sequence[str]`): its spans.
        gold (`Sequence[str]`): the gold answer's spans.

    Returns:
        `tuple` of exact match (the same spans, in any order) and F1 in [0, 1], rounded to two decimals.
    """
    left, right = [_drop_text(span) for span in prediction], [_drop_text(span) for span in gold]
    exact = set(left) == set(right) and len(left) == len(right)
    bags = [set(text.split()) for text in left], [set(text.split()) for text in right]
    scores = [[_drop_f1(a, b) for b in bags[1]] for a in bags[0]]
    total = _best_pairing(scores)
    return exact, round(total / max(len(left), len(right), 1), 2)


def _drop_text(text: str) -> str:
    """DROP's normalisation: SQuAD's on each token, where tokens end at hyphens too and numbers are one notation."""
    tokens = []
    for token in re.split(r"[ \-]", text.lower()):
        number = _number(token)
        token = str(number) if number is not None else _ARTICLES.sub(" ", token.translate(_PUNCTUATION))
        number = _number(token)
        tokens.append(str(number) if number is not None else token)
    return " ".join(" ".join(tokens).split())


def _number(token: str) -> float | None:
    try:
        return float(token)
    except ValueError:
        return None


def _drop_f1(prediction: set[str], gold: set[str]) -> float:
    numbers = {token for token in gold if _number(token) is not None}
    if numbers and not numbers & prediction:
        return 0.0
    shared = len(prediction & gold)
    precision = shared / len(prediction) if prediction else 1.0
    recall = shared / len(gold) if gold else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _best_pairing(scores: Sequence[Sequence[float]]) -> float:
    """Largest sum of scores of a one-to-one pairing of rows with columns."""
    if not scores or not scores[0]:
        return 0.0
    from scipy.optimize import linear_sum_assignment  # slow to import, and only DROP needs it

    matrix = np.asarray(scores, dtype=float)
    return float(matrix[linear_sum_assignment(matrix, maximize=True)].sum())
