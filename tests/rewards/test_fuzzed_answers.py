"""No near miss counts as right: generated answers, and every small change of an expression."""

import asyncio
import random
import sys
from collections.abc import Iterable
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.graders.math_compare import same
from rewards.graders.math_parse import parse_math
from rewards.graders.math_reading import readings_of, same_reading, same_words
from rewards.graders.math_text import find_answer
from rewards.graders.math_tokens import MathSyntaxError
from rewards.graders.qa_reading import says, says_unanswerable
from scripts.fuzz_graders import MOST_LOST, main, wrongly_graded
from scripts.fuzzing import Case, cases
from scripts.fuzzing.math_answers import spellings

GOLDS = st.sampled_from(
    [
        r"\sqrt{x+1}",
        r"e^{x}+1",
        r"\frac{ab}{c}",
        r"x^{2n}",
        r"\binom{12}{3}",
        "3x",
        r"2\Delta",
        r"\frac{2}{3}x+1",
        "-9x",
    ]
)
PIECES = st.sampled_from(["{", "}", "-", "1", "7", "^", "x", "D", ".", "^{2}", ""])


def equal(answer: str, gold: str) -> bool:
    readings = [(one, other) for one in readings_of(answer) for other in readings_of(gold)]
    return any(same_reading(*pair) for pair in readings) or same_words(answer, gold)


@given(GOLDS, PIECES, st.integers(0, 20), st.booleans())
@settings(max_examples=300, deadline=None)
def test_one_piece_more_or_less_is_another_expression(gold: str, piece: str, place: int, removed: bool) -> None:
    place %= len(gold)
    changed = gold[:place] + piece + gold[place + removed :]
    if not equal(changed, gold):
        return
    try:
        assert same(parse_math(changed.rstrip(".")), parse_math(gold))
    except MathSyntaxError:
        assert changed.rstrip(".").split() == gold.split()


@given(st.from_regex(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", fullmatch=True))
def test_a_plain_number_is_read_as_it_is_written_and_equals_itself(number: str) -> None:
    assert find_answer(f" {number}\n") == number
    assert equal(number, number)


def test_the_command_ends_with_1_when_a_wrong_answer_counts_as_right(monkeypatch: pytest.MonkeyPatch) -> None:
    async def misled(tried: Iterable[Case]) -> list[Case]:
        return [case for case in tried if not case.right][:1]

    monkeypatch.setattr("scripts.fuzz_graders.wrongly_graded", misled)
    monkeypatch.setattr(sys, "argv", ["fuzz_graders.py", "--cases", "20", "--domains", "math"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1


@given(st.integers(), st.integers())
def test_integers_compare_exactly(one: int, other: int) -> None:
    assert equal(str(one), str(other)) == (one == other)
    assert equal(str(10**60 + one), str(10**60 + other)) == (one == other)


@given(st.integers(-(10**40), 10**40))
@settings(max_examples=40, deadline=None)
def test_every_spelling_of_an_integer_is_it_and_no_other(value: int) -> None:
    for spelling in spellings("integer", (value,)):
        assert equal(spelling, str(value)), spelling
        assert not equal(spelling, str(value + 1)), spelling


@given(st.integers(1, 96), st.booleans())
@settings(max_examples=40, deadline=None)
def test_every_spelling_of_a_fraction_is_it_and_no_other(top: int, negative: bool) -> None:
    top = -top if negative else top
    for spelling in spellings("fraction", (top, 97)):
        assert equal(spelling, f"{top}/97"), spelling
        assert not equal(spelling, f"{top}/101"), spelling
        assert not equal(spelling, f"{-top}/97"), spelling


@pytest.mark.parametrize("answer", ["1.6e-19", "0.0000001", "1e-300"])
def test_nothing_but_zero_is_zero(answer: str) -> None:
    assert not equal(answer, "0")


@pytest.mark.parametrize("text", ["No idea", "No doubt both were", "Yes; false", "No. 1", "yes and no", "No one knows"])
def test_a_first_word_is_no_verdict(text: str) -> None:
    assert says(text) is None


@pytest.mark.parametrize(("text", "silent"), [("The passage does not say.", True), ("The", False), ("?", False)])
def test_silence_is_said(text: str, silent: bool) -> None:
    assert says_unanswerable(text) == silent


def test_the_fuzzer_finds_nothing() -> None:
    check(("math", "qa"), 1_500)


def test_the_fuzzer_finds_nothing_in_code() -> None:
    check(("code",), 40)


@pytest.mark.long
def test_the_fuzzer_finds_nothing_in_many() -> None:
    check(("math", "qa", "code"), 20_000)


@pytest.mark.long
def test_the_fuzzer_finds_nothing_in_much_code() -> None:
    check(("code",), 1_000)


def check(domains: tuple[str, ...], number: int) -> None:
    tried = list(islice(cases(random.Random(1), domains), number))
    wrong = asyncio.run(wrongly_graded(tried))
    assert not [case for case in wrong if not case.right]
    assert len(wrong) <= MOST_LOST * number, wrong[:10]
