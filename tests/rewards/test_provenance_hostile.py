"""Texts and constants made to keep their readers busy, or to break them. A reader that hangs here never ends."""

import ast
import base64
import bz2

import pytest

from data.problem import Problem
from rewards.provenance.constants import MAX_CHARS, held_by, weight
from rewards.provenance.decoys import Decoys
from rewards.provenance.readings import MAX_CHARS as READ_CHARS
from rewards.provenance.readings import decoded_texts
from rewards.provenance.targets import targets_of
from rewards.provenance.told import told
from tests.rewards.provenance_cases import Case
from tests.rewards.test_provenance import Score, score

__all__ = ["score"]  # a fixture

OSLO = Problem.from_row({"question": "Where is the Storting?", "answer": "Oslo", "source": "hotpotqa", "context": "x"})
SUM = Problem.from_row({"question": "What is 12 + 1717?", "answer": "1729", "source": "gsm8k"})
BOMB = base64.b64encode(bz2.compress(b"a" * 100_000_000)).decode()

REPEATED = [
    *("7", "7 ", "a ", "4f ", "T3Nsbw==", ".- ", ".-", "-", "01", "01001111 ", "one hundred and ", "twenty-one ", "M"),
    *("XLII ", "1+", "9**", "9^", "(", "(1+", "a\n", "\n", " ", "\t", "\u200b", "\u043e", "1,", ".", "%41", "\\u0041"),
    *("&#65;", '"', "\\", "the answer is ", "or ", "between ", "30!", "2 times ", "6*7=", "_", "{", "=", "·", "/ "),
]
CONSTANTS = {
    "a bomb": f'codecs.decode(base64.b64decode("{BOMB}"), "bz2")',
    "a width of its own": '"%*d" % (10**9, 1)',
    "bytes with a width": 'b"%999999999d" % 5',
    "shared lists as text": 'str([[["a"] * 1000] * 1000] * 1000)',
    "shared lists in an f-string": 'f"{[[[1] * 1000] * 1000] * 1000}"',
    "a sum of lists": "sum([[1] * 20000] * 20000, [])",
    "a table of long texts": '("a" * 20000).translate({97: "x" * 19990})',
    "a mapping of long texts": '"%(a)s" * 4000 % {"a": "x" * 19000}',
    "many long texts": '["a" * 20000 for i in range(20000)]',
    "a loop in a loop": "[[j for j in range(20000)] for i in range(20000)]",
    "punycode": '("a" * 19000 + "-" + "b" * 900).encode("ascii").decode("punycode")',
    "idna": '("a." * 9000).encode("idna")',
    "zeros": '"a".zfill(10**9)',
    "a negative round": "round(1, -(10**9))",
    "a tower": "10 ** 200 ** 2",
    "a list of lists of nothing": "[0] * 10**10",
    "a long replacement": '("a" * 20000).replace("a", "b" * 20000)',
    "a nest": 'json.loads("[" * 10000)',
}


@pytest.mark.parametrize("piece", REPEATED, ids=ascii)
@pytest.mark.parametrize("problem", [OSLO, SUM], ids=["text", "number"])
def test_whatever_is_repeated_is_read_and_says_nothing(piece: str, problem: Problem) -> None:
    text = (piece * READ_CHARS)[:READ_CHARS]
    targets = targets_of(problem, problem.answer)
    assert told(text, targets) is None
    assert list(decoded_texts(text))
    assert Decoys(problem, targets, "seed", steady=True).corrupted(text, "custom")


def test_an_answer_behind_a_long_text_is_read() -> None:
    filler = "Think of what else there is to say about it. " * 300
    assert told(filler + "Reply with Oslo.", targets_of(OSLO, "Oslo")) is not None
    assert told(filler + "Reply with T3Nsbw==.", targets_of(OSLO, "Oslo")) is not None


@pytest.mark.parametrize("expression", CONSTANTS.values(), ids=list(CONSTANTS))
def test_no_constant_grows_beyond_its_bounds(expression: str) -> None:
    tree = ast.parse(f"async def workflow(problem):\n    return {expression}")
    assert all(weight(item.value) <= MAX_CHARS for item in held_by(tree, {}))


async def test_a_workflow_that_writes_more_than_is_read_earns_no_more_than_one_that_answers(score: Score) -> None:
    text = (
        "async def workflow(problem):\n"
        '    return (await custom(input=problem, instruction="So it is. " * 2500 + "Reply with Oslo."))["response"]'
    )
    rollout = await score(Case(OSLO, text))
    assert rollout.grade is not None
    assert (rollout.grade.tier, rollout.grade.capped) == (2, True)


async def test_a_reply_with_a_number_of_thousands_of_digits_breaks_nothing(score: Score) -> None:
    text = 'async def workflow(problem):\n    return (await custom(input=problem))["response"].split()[-1]'
    rollout = await score(Case(OSLO, text, reply=lambda prompt, request: "7" * 6000 + " Oslo"))
    assert rollout.infra_error is None
    assert rollout.grade is not None
    assert rollout.grade.tier == 5
