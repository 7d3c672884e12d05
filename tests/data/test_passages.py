"""Passages come from files, folders and the problems themselves."""

import doctest
import json
from itertools import islice
from pathlib import Path

import pytest

from data import invented_worlds as worlds
from data.benchmarks import converter
from data.invented_worlds import chains_of, fact_told, invented_worlds
from data.passages import MAX_DOCUMENT_BYTES, STATED, Needed, Passage, cut, passages_of, read_corpus
from data.problem import SPAN_SEPARATOR, DataError, Problem
from tests.data.test_benchmarks import HOTPOTQA, HOTPOTQA_OWN


def corpus(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_of_the_usual_forms_are_read(tmp_path: Path) -> None:
    path = corpus(
        tmp_path / "c.jsonl",
        {"id": "0", "contents": '"Ferns"\nThey have spores.\nAlways.'},
        {"id": 7, "title": "Pines", "text": "Seeds."},
        {"contents": "One line."},
    )
    assert read_corpus(path) == [
        Passage("0", "Ferns", "They have spores.\nAlways."),
        Passage("7", "Pines", "Seeds."),
        Passage("3", "", "One line."),
    ]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"id": "1"}], r"line 1: a passage needs text or contents; this one has id"),
        ([{"text": "x"}, {"text": "  "}], "line 2"),
        ([{"id": 1, "text": "x"}, {"id": "1", "text": "y"}], "line 2: another passage has the id '1'"),
        ([], "no passages"),
        (["x"], "line 1: must be an object"),
    ],
)
def test_a_corpus_that_cannot_be_used_says_where_and_why(rows: list[object], reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=reason):
        read_corpus(corpus(tmp_path / "c.jsonl", *rows))


def test_a_folder_of_texts_is_a_corpus(tmp_path: Path) -> None:
    (tmp_path / "plants").mkdir()
    (tmp_path / "plants/ferns.md").write_text(
        "# Ferns\n\n" + "\n\n".join(f"Fact {n} of ferns. " * 30 for n in range(4))
    )
    (tmp_path / "short.txt").write_text("Short.")
    (tmp_path / ".hidden.md").write_text("secret")
    (tmp_path / "picture.png").write_bytes(b"\x00")
    (tmp_path / "link.md").symlink_to("/etc/passwd")
    passages = read_corpus(tmp_path)
    assert [p.id for p in passages] == [*(f"plants/ferns.md#{n}" for n in range(1, 5)), "short.txt"]
    assert {p.title for p in passages} == {"Ferns", "short"}
    whole = Passage("x", "", "a\n\nb\n\nc")
    assert cut(whole) == [whole] and [p.text for p in cut(whole, chars=4)] == ["a\n\nb", "c"]


def test_a_folder_without_texts_or_with_a_huge_or_binary_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file that ends in"):
        read_corpus(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match=r"a\.txt: is UTF-16; save it as UTF-8"):
        read_corpus(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"x" * (MAX_DOCUMENT_BYTES + 1))
    with pytest.raises(DataError, match=r"a\.txt: longer than 8 MB"):
        read_corpus(tmp_path)
    with pytest.raises(DataError, match="a corpus is a folder"):
        read_corpus(tmp_path / "none.csv")
    with pytest.raises(DataError, match="no such file"):
        read_corpus(tmp_path / "none.jsonl")


@pytest.mark.parametrize("row", [HOTPOTQA, HOTPOTQA_OWN])
def test_hotpotqas_paragraphs_are_passages_and_its_support_is_known(row: dict[str, object]) -> None:
    problem = Problem.from_row(converter("hotpotqa", "train")(row))
    passages = passages_of(problem)
    assert [p.title for p in passages] == ["Ostrel", "Pelk", "Mirrow"]
    assert passages[0].text == "Ostrel is a town. The Mirrow passes it."
    needed = Needed.by(problem)
    assert [needed.key(p) for p in passages] == ["Ostrel", "-2", "Mirrow"] and needed.names == {"Ostrel", "Mirrow"}
    assert Problem.from_row(problem.to_row()) == problem


def test_what_is_not_known_to_be_needed_is_what_states_the_answer() -> None:
    row = {
        "question": "q",
        "answer": "Estria",
        "source": "invented_facts",
        "context": "Quorby lies in Estria. It rains.",
    }
    needed = Needed.by(Problem.from_row(row))
    assert [needed.key(p) for p in passages_of(Problem.from_row(row))] == [STATED, "-2"] and needed.names == {STATED}
    short = Problem.from_row({**row, "answer": "no", "context": "She is known here. It has no sea."})
    assert [Needed.by(short).key(p) for p in passages_of(short)] == ["-1", STATED]  # as a word
    with pytest.raises(DataError, match="brings no passages"):
        passages_of(Problem.from_row({**row, "context": None}))
    for bad in ("x", [1], [{"id": "1"}]):
        with pytest.raises(DataError, match=r"extra\.passages"):
            passages_of(Problem.from_row({**row, "extra": {"passages": bad}}))


def told(passage: Passage) -> tuple[str, str, str]:
    found = fact_told(passage.text)
    assert found is not None and found[0] == passage.title
    return found


def test_questions_over_a_world_name_every_fact_that_they_need() -> None:
    counts = set()
    assert doctest.testmod(worlds).failed == 0
    for problem in islice(invented_worlds(1), 200):
        passages = {p.id: p for p in passages_of(problem)}
        needed = [passages[name] for name in Needed.by(problem).names]
        counts.add(len(needed))
        for part in problem.answer.split(SPAN_SEPARATOR):
            assert any(part in passage.text for passage in needed)
        facts = {(subject, kind): value for subject, kind, value in map(told, passages.values())}
        ends = []
        for chain in chains_of(problem.question):
            place = chain.subject
            for kind in chain.kinds:
                workers = {value: subject for (subject, each), value in facts.items() if each == "job"}
                place = workers[place] if kind == "worker" else facts[place, kind]
            ends.append(place)
        assert SPAN_SEPARATOR.join(ends) == problem.answer
        others = [p for p in passages.values() if p not in needed]
        assert len(others) >= 30
        assert problem.context is None and not any(p.text in problem.view.text for p in needed)
    assert counts == {1, 2, 3}
