"""What agents are paid: for what came of their words, within bounds, and never for nothing."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_ops.agents.tools.repository_tests import TestReport
from data import passages
from data.passages import Passage
from data.repository_tasks import RepositoryTask
from rewards.agents import citations, retrieval
from rewards.agents.citations import support
from rewards.agents.repository import mended
from rewards.agents.retrieval import coverage, kept_passages, query_credit

IDS = st.sampled_from([f"p{n}" for n in range(8)])
LISTS = st.lists(IDS, max_size=10)
SEARCHES = st.lists(LISTS, max_size=6)
NEEDED = st.frozensets(IDS, min_size=1, max_size=4)


@pytest.mark.parametrize("module", [retrieval, citations, passages])
def test_the_examples_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


@given(SEARCHES, NEEDED)
def test_queries_are_paid_for_what_they_found_and_not_for_their_number(
    searches: list[list[str]], needed: frozenset[str]
) -> None:
    earned = query_credit(searches, needed)
    found = {name for each in searches for name in each}
    assert 0 <= earned <= 1
    assert earned == pytest.approx(1) or not (needed <= found and len(searches) == 1)
    assert (earned == 0) == (not needed & found)
    for useless in ([], ["p99"], searches[0] if searches else []):
        assert query_credit([*searches, useless], needed) <= earned + 1e-9
    everything = query_credit([sorted(needed)], needed)
    assert everything == pytest.approx(1) and everything >= earned - 1e-9


@given(SEARCHES, NEEDED, NEEDED)
def test_a_query_that_finds_what_was_missing_pays(
    searches: list[list[str]], needed: frozenset[str], more: frozenset[str]
) -> None:
    found = {name for each in searches for name in each}
    if missing := (needed & more) - found:
        assert query_credit([*searches, sorted(missing)], needed) > query_credit(searches, needed)


@given(LISTS, LISTS, NEEDED)
def test_shares_are_shares(found: list[str], kept: list[str], needed: frozenset[str]) -> None:
    assert coverage(found, needed) == len(needed & set(found)) / len(needed)
    score = kept_passages(found, kept, needed)
    there = needed & set(found)
    assert (score is None) == (not there)
    if score is not None:
        assert 0 <= score <= 1
        assert (score == 1) == (sorted(kept) == sorted(there))
        assert kept_passages(found, sorted(there), needed) == 1
        assert kept_passages(found, [*kept, "p99"], needed) <= score  # type: ignore[operator]


SEEN = {name: Passage(name, "", text) for name, text in {"p1": "Mila lives in Quorby.", "p2": "It rains."}.items()}


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("Quorby [p1]", 1.0),
        ("Quorby", 0.0),  # nothing cited
        ("Quorby [p9]", 0.0),  # nobody read it, or it is not there
        ("Quorby [p2]", 0.0),
        ("Quorby [p1] [p2]", 2 / 3),
        ("Quorby [p1, p2]", 2 / 3),
        ("Quorby [p1][p1][p1]", 1.0),
        ("Quorby " + "".join(f"[p{n}]" for n in range(1, 99)), 2 * (1 / 20) / (1 + 1 / 20)),  # everything
    ],
)
def test_citations_are_paid_for_what_bears_the_answer_out(answer: str, score: float) -> None:
    assert support(answer, ["Quorby"], SEEN, ["p1"]).score == pytest.approx(score)


def test_a_cited_passage_that_does_not_say_it_is_worth_half() -> None:
    found = support("Estria [p1]", ["Estria"], SEEN, ["p1", "p7"])
    assert (found.known, found.needed, found.stated) == (1.0, 0.5, False)
    assert found.score == pytest.approx(1 / 3)


@given(st.text(max_size=400), NEEDED)
def test_no_answer_earns_out_of_range(text: str, needed: frozenset[str]) -> None:
    assert 0 <= support(text, ["Quorby"], SEEN, needed).score <= 1


@pytest.mark.parametrize("text", ["[" * 10**6, "[a" * 10**6, "[a]" * 10**6, "]" * 10**6])
def test_a_huge_answer_is_read_in_its_beginning(text: str) -> None:
    assert support(text, ["Quorby"], SEEN, ["p1"]).score == 0.0


@given(st.lists(st.booleans(), min_size=1, max_size=6), st.lists(st.booleans(), max_size=6))
def test_a_repository_is_mended_by_what_passes_and_spoilt_by_what_breaks(mend: list[bool], keep: list[bool]) -> None:
    first, second = ([f"{kind}{n}" for n in range(len(each))] for kind, each in (("f", mend), ("p", keep)))
    task = RepositoryTask("", {"a.py": ""}, {}, tuple(first), tuple(second))
    report = TestReport(dict(zip([*first, *second], [*mend, *keep], strict=True)))
    score = mended(report, task)
    assert 0 <= score <= 1
    assert (score == 1) == report.solves(task) == all([*mend, *keep])
    assert score == 0 or any(mend)
    assert mended(TestReport(), task) == 0


def test_a_part_of_tests_of_which_nobody_knows_how_they_were_is_no_merit() -> None:
    task = RepositoryTask("x", fail_to_pass=("a", "b"), all_or_nothing=True)
    assert mended(TestReport({"a": True, "b": False}), task) == 0.0
    assert mended(TestReport({"a": True, "b": True}), task) == 1.0
