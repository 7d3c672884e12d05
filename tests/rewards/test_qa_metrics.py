"""The metrics against their published definitions, written here a second time and plainly."""

import itertools
import re
import string
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.problem import Problem
from rewards.graders.qa import grade_qa
from rewards.graders.qa_metrics import drop_scores, normalized, squad_scores, token_f1

WORDS = st.sampled_from(["the", "a", "oslo", "Rome", "12", "3.5", "1,000", "U.S.", "twenty-five", "yes", "-", "of"])
PHRASES = st.lists(WORDS, max_size=5).map(" ".join)
SPANS = st.lists(PHRASES.filter(str.strip), min_size=1, max_size=4)


def plain_squad(prediction: str, gold: str) -> tuple[bool, float]:
    def normalize(text: str) -> list[str]:
        kept = "".join(c for c in text.lower() if c not in set(string.punctuation))
        return re.sub(r"\b(a|an|the)\b", " ", kept).split()

    left, right = normalize(prediction), normalize(gold)
    exact = " ".join(left) == " ".join(right)
    closed = {"yes", "no", "noanswer"}
    if not exact and ({" ".join(left), " ".join(right)} & closed):
        return False, 0.0
    same = sum((Counter(left) & Counter(right)).values())
    if not left or not right:
        return exact, float(left == right)
    return exact, 2 * same / (len(left) + len(right))


@given(PHRASES, PHRASES)
def test_squad_is_its_definition(prediction: str, gold: str) -> None:
    exact, score = squad_scores(prediction, gold)
    expected = plain_squad(prediction, gold)
    assert (exact, score) == (expected[0], pytest.approx(expected[1]))


def plain_drop(prediction: list[str], gold: list[str]) -> tuple[bool, float]:
    def is_number(text: str) -> bool:
        try:
            float(text)
        except ValueError:
            return False
        return True

    def normalize(text: str) -> str:
        parts = []
        for token in re.split(" |-", text):
            token = token.lower()
            if not is_number(token):
                token = "".join(c for c in token if c not in set(string.punctuation))
            if is_number(token):
                token = str(float(token))
            parts.append(" ".join(re.sub(r"\b(a|an|the)\b", " ", token).split()))
        return " ".join(part for part in parts if part.strip()).strip()

    def f1(a: set[str], b: set[str]) -> float:
        numbers = {word for word in b if is_number(word)}
        if numbers and not numbers & {word for word in a if is_number(word)}:
            return 0.0
        precision = len(a & b) / len(a) if a else 1.0
        recall = len(a & b) / len(b) if b else 1.0
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    left, right = [normalize(text) for text in prediction], [normalize(text) for text in gold]
    few, many = sorted(([set(t.split()) for t in left], [set(t.split()) for t in right]), key=len)
    swapped = len(left) > len(right)
    best = max(
        sum(f1(b, a) if swapped else f1(a, b) for a, b in zip(few, chosen, strict=True))
        for chosen in itertools.permutations(many, len(few))
    )
    return set(left) == set(right) and len(left) == len(right), round(best / max(len(left), len(right)), 2)


@given(SPANS, SPANS)
@settings(max_examples=200, deadline=None)  # the first call imports scipy
def test_drop_is_its_definition(prediction: list[str], gold: list[str]) -> None:
    exact, score = drop_scores(prediction, gold)
    expected = plain_drop(prediction, gold)
    assert exact == expected[0]
    assert score == pytest.approx(expected[1], abs=0.0101)  # rounding at a half


@given(SPANS, st.randoms(use_true_random=False))
def test_drops_spans_have_no_order(spans: list[str], random: object) -> None:
    shuffled = list(spans)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert drop_scores(shuffled, spans)[0]
    assert drop_scores(shuffled, spans)[1] == 1.0


def test_an_answer_of_very_many_spans_is_scored() -> None:
    """An executor that repeats itself gives such answers."""
    gold = [f"name{i}" for i in range(20)]
    noise = ["x"] * 980
    assert drop_scores([*noise, *reversed(gold)], gold) == (False, 0.02)
    problem = Problem.from_row({"question": "Who?", "answer": " | ".join(gold), "source": "drop"})
    assert grade_qa("a, " * 1300, problem).tier == 1


@pytest.mark.parametrize(
    ("prediction", "gold", "exact", "score"),
    [
        (["5"], ["5.0"], True, 1.0),
        (["1,000 yards"], ["1000"], False, 0.67),
        (["4 yards"], ["5 yards"], False, 0.0),  # without the gold number nothing counts
        (["Smith"], ["Smith", "Jones"], False, 0.5),
        (["twenty-five"], ["twenty five"], True, 1.0),
    ],
)
def test_drops_own_rules(prediction: list[str], gold: list[str], exact: bool, score: float) -> None:
    assert drop_scores(prediction, gold) == (exact, score)


@given(st.text(max_size=60), st.text(max_size=60))
def test_f1_is_symmetric_and_bounded(left: str, right: str) -> None:
    a, b = normalized(left).split(), normalized(right).split()
    assert token_f1(a, b) == token_f1(b, a)
    assert 0 <= token_f1(a, b) <= 1
