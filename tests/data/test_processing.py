"""From raw files to problems: every format, bad rows, duplicates, contamination, trimming, splits, cards, memory."""

import gzip
import json
import random
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_ops.errors import UsageError
from data import registry
from data.benchmarks import benchmark, converter
from data.download import from_folder
from data.fingerprints import Fingerprints
from data.problem import DataError, Problem
from data.processing import RawSplit, Rules, SplitReport, process_split
from data.raw_files import iter_raw_rows
from data.registry import load_problems
from data.trimming import TextBudget
from scripts import process_datasets

Row = Mapping[str, Any]
VOCABULARY = [f"{a}{b}{c}" for a in ("ba", "ki", "mo", "tu") for b in ("ra", "ne", "lo", "si") for c in ("n", "k", "m")]


def prose(seed: object, length: int) -> str:
    return " ".join(random.Random(str(seed)).choices(VOCABULARY, k=length))


def gsm8k(seed: object, length: int = 20, answer: int = 7) -> Row:
    return {"question": f"{prose(seed, length)}?", "answer": f"Work.\n#### {answer}"}


def hotpotqa(seed: int, paragraphs: int = 10, sentences: int = 3) -> Row:
    titles = [f"Title {seed} {index}" for index in range(paragraphs)]
    return {
        "id": f"{seed:024x}",
        "question": f"{prose(seed, 10)}?",
        "answer": prose(f"answer {seed}", 2),
        "supporting_facts": {"title": [titles[1], titles[-1]], "sent_id": [0, 0]},
        "context": {
            "title": titles,
            "sentences": [[f" {prose((seed, title, i), 12)}." for i in range(sentences)] for title in titles],
        },
    }


# Writing raw files


def lines(rows: Iterable[Row]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def write_parquet(path: Path, rows: Sequence[Row]) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)


FORMATS: dict[str, Callable[[Path, Sequence[Row]], object]] = {
    ".parquet": write_parquet,
    ".jsonl": lambda path, rows: path.write_bytes(lines(rows)),
    ".jsonl.gz": lambda path, rows: path.write_bytes(gzip.compress(lines(rows))),
    ".json": lambda path, rows: path.write_text(json.dumps(rows, indent=1)),
    ".json.gz": lambda path, rows: path.write_bytes(gzip.compress(b"\n " + json.dumps(rows).encode())),
}


def fetched(tmp_path: Path, name: str, **splits: Sequence[Row]) -> Path:
    """Put made-up rows where scripts/download_datasets.py would; returns that folder."""
    source = tmp_path / "source"
    (source / name).mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        (source / name / f"{split}.jsonl").write_bytes(lines(rows))
    from_folder(benchmark(name), source, tmp_path / "raw")
    return tmp_path / "raw"


def command(tmp_path: Path, *arguments: object) -> Path:
    """Run scripts/process_datasets.py here; returns its output folder."""
    folders = ["--input_dir", tmp_path / "raw", "--output_dir", tmp_path / "out"]
    with mock.patch.object(sys, "argv", ["process_datasets.py", *map(str, [*arguments, *folders])]):
        process_datasets.main()
    return tmp_path / "out"


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def report(out: Path, name: str) -> dict[str, dict[str, Any]]:
    made: dict[str, dict[str, Any]] = json.loads((out / name / "report.json").read_text())
    return made


def split_of(
    tmp_path: Path, rows: Sequence[Row], *, name: str = "train", source: str = "gsm8k", rules: Rules | None = None
) -> SplitReport:
    """Process rows as one split; returns its report."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines(rows))
    with Fingerprints() as prints:
        made = process_split(
            RawSplit(name, [path], converter(source, name)),
            tmp_path / "made",
            rules or Rules(TextBudget(3072)),
            prints,
        )
    return made[name]


# Formats


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_problems(suffix: str, tmp_path: Path) -> None:
    rows = [hotpotqa(seed) for seed in range(70)]  # more than one batch of parquet
    path = tmp_path / f"rows{suffix}"
    FORMATS[suffix](path, rows)
    read = [row for _, row in iter_raw_rows(path)]
    assert read == rows


def test_a_json_file_may_hold_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    rows = [gsm8k(1), gsm8k(2)]
    (tmp_path / "rows.json").write_bytes(b"\xef\xbb\xbf" + lines(rows))
    assert [row for _, row in iter_raw_rows(tmp_path / "rows.json")] == rows


def test_numbers_of_rows_are_line_numbers(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n\n[2]\n')
    (first, row), (second, error) = iter_raw_rows(tmp_path / "rows.jsonl")
    assert (first, row, second) == (1, {"a": 1}, 3)
    assert "must be an object, not list" in str(error)


def damaged_gzip() -> bytes:
    data = bytearray(gzip.compress(lines(gsm8k(seed) for seed in range(400))))
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("rows.jsonl.gz", gzip.compress(lines(gsm8k(seed) for seed in range(400)))[:-2000], "cannot be read"),
        ("rows.jsonl.gz", damaged_gzip(), "cannot be read"),
        ("rows.jsonl.gz", b"no gzip at all", "cannot be read"),
        ("rows.parquet", b"PAR1 this is not parquet PAR1", "not a readable parquet file"),
        ("rows.parquet", b"", "not a readable parquet file"),
        ("rows.json", b"[1, 2", "not valid JSON"),
        ("rows.jsonl", b"\xff\xfe\x00", "is UTF-16; save it as UTF-8"),
        ("rows.csv", b"a,b", "unknown format"),
    ],
)
def test_an_unreadable_file_is_named_with_the_reason(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: {reason}"):
        list(iter_raw_rows(path))


def test_an_unreadable_file_leaves_no_output(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(lines(gsm8k(seed) for seed in range(400)))[:-2000])
    with Fingerprints() as prints, pytest.raises(DataError):
        split = RawSplit("train", [path], converter("gsm8k", "train"))
        process_split(split, tmp_path / "made", Rules(TextBudget(3072)), prints)
    assert list((tmp_path / "made").iterdir()) == []


def test_an_empty_split_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row of train could be used: the files are empty"):
        split_of(tmp_path, [])


def test_a_split_of_which_nothing_is_left_says_what_became_of_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 too long"):
        split_of(tmp_path, [gsm8k(1, 200), gsm8k(2, 200)], rules=Rules(TextBudget(20)))
    with pytest.raises(DataError, match=r"1 bad; .*rows.jsonl, line 1: no column 'answer'"):
        split_of(tmp_path, [{"question": "?"}])


# Bad rows


def broken(tmp_path: Path) -> Path:
    path = tmp_path / "mine.jsonl"
    good = [{"question": prose(seed, 8), "answer": "1", "source": "gsm8k"} for seed in (1, 2)]
    path.write_bytes(lines(good[:1]) + b'{"question": \n' + lines(good[1:]))
    return path


def test_a_bad_line_is_reported_with_file_and_line_and_the_rest_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = command(tmp_path, broken(tmp_path))
    assert len(rows_of(out / "mine" / "train.jsonl")) == 2
    made = report(out, "mine")["train"]
    assert (made["read"], made["written"], made["bad"]) == (3, 2, 1)
    assert "mine.jsonl, line 2: not valid JSON" in capsys.readouterr().err
    assert "mine.jsonl, line 2: not valid JSON" in (out / "mine" / "README.md").read_text()


def test_strict_stops_at_a_bad_line_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mine\.jsonl, line 2: not valid JSON"):
        command(tmp_path, broken(tmp_path), "--strict")
    assert list(tmp_path.glob("out/mine/*")) == []


@pytest.mark.parametrize(
    "extra", [{"id": "x", "question": "half a \ud800 pair"}, {"keep": 5}, {"keep": "text"}, {"answer": {}}], ids=str
)
def test_a_row_that_cannot_be_written_is_a_bad_row(extra: Row, tmp_path: Path) -> None:
    row = {"question": "What?", "answer": "1", "source": "gsm8k"}
    path = tmp_path / "mine.jsonl"
    path.write_bytes(lines([row, {**row, **extra}]))
    assert report(command(tmp_path, path), "mine")["train"]["bad"] == 1


def test_bad_rows_name_their_dataset(tmp_path: Path) -> None:
    fetched(tmp_path, "gsm8k", train=[gsm8k(1), {"question": "?"}])
    (reason,) = report(command(tmp_path), "gsm8k")["train"]["bad_rows"]
    assert reason.startswith("gsm8k/train-0.jsonl, line 2: no column 'answer'")


def test_all_bad_rows_are_counted_and_fifty_are_named(tmp_path: Path) -> None:
    made = split_of(tmp_path, [gsm8k(1), *({"question": f"{i}"} for i in range(80))])
    assert (made.counts["bad"], len(made.bad_rows)) == (80, 50)


# Duplicates


def kept(tmp_path: Path, *rows: Row, source: str = "gsm8k") -> tuple[int, int, int]:
    """Written, exact and near duplicates."""
    made = split_of(tmp_path, rows, source=source)
    return made.written, made.counts["duplicate"], made.counts["near_duplicate"]


def test_the_same_text_in_another_case_and_punctuation_is_a_duplicate(tmp_path: Path) -> None:
    row = gsm8k(1)
    again = {**row, "question": row["question"].upper().replace(" ", ",  ")}
    assert kept(tmp_path, row, row, again, gsm8k(2)) == (2, 2, 0)


def test_one_word_more_in_a_long_question_is_a_near_duplicate(tmp_path: Path) -> None:
    row = gsm8k(1, 60)
    assert kept(tmp_path, row, {**row, "question": f"{row['question']} Say."}) == (1, 0, 1)


def test_near_duplicates_are_kept_when_asked(tmp_path: Path) -> None:
    row = {"question": f"{prose(1, 60)}?", "answer": "1", "source": "gsm8k"}
    path = tmp_path / "mine.jsonl"
    path.write_bytes(lines([row, {**row, "question": f"{row['question']} Say."}]))
    assert report(command(tmp_path, path), "mine")["train"]["near_duplicate"] == 1
    assert report(command(tmp_path, path, "--near_duplicates", 2), "mine")["train"]["near_duplicate"] == 0


@pytest.mark.parametrize("length", [10, 100])
def test_other_numbers_in_the_same_words_are_another_problem(length: int, tmp_path: Path) -> None:
    rows = [
        {"question": f"Ada has {n} coins. {prose(1, length)}. How many?", "answer": "#### 5"} for n in range(20, 60)
    ]
    assert kept(tmp_path, *rows) == (40, 0, 0)


def test_one_other_word_that_changes_the_answer_makes_another_problem(tmp_path: Path) -> None:
    rows = [
        {"question": f"{prose(1, 80)}. How many are {word}?", "answer": f"#### {answer}"}
        for word, answer in (("left", 3), ("gone", 4))
    ]
    assert kept(tmp_path, *rows) == (2, 0, 0)


@pytest.mark.parametrize(
    ("one", "other"), [("3 + 5", "3 - 5"), ("5!", "5"), ("$f(2)$", "$f'(2)$"), ("x < 2", "x > 2"), ("1.5", "1 5")]
)
def test_another_sign_in_a_formula_is_another_problem(one: str, other: str, tmp_path: Path) -> None:
    rows = [{"question": f"Find {formula}.", "answer": f"#### {n}"} for n, formula in enumerate((one, other))]
    assert kept(tmp_path, *rows) == (2, 0, 0)


def test_the_same_question_about_another_passage_is_another_problem(tmp_path: Path) -> None:
    rows = [
        {
            "id": str(seed),
            "context": f"It was {prose(seed, 30)}.",
            "question": f"{prose('question', 40)}?",
            "answers": {"text": ["was"]},
        }
        for seed in range(6)
    ]
    assert kept(tmp_path, *rows, source="squad") == (6, 0, 0)
    again = {**rows[0], "id": "7", "question": f"So {rows[0]['question']}"}
    assert kept(tmp_path, *rows, again, source="squad") == (6, 0, 1)


def test_rows_of_different_words_are_never_near_duplicates(tmp_path: Path) -> None:
    assert kept(tmp_path, *(gsm8k(seed, 30) for seed in range(300))) == (300, 0, 0)


# Contamination


def contaminated(shared: int) -> Row:
    """A training row that has so many words in a row from the test row of seed 0."""
    stretch = " ".join(prose(0, 30).split()[5 : 5 + shared])
    return {"question": f"Quick, {prose('mine', 20)} {stretch} indeed?", "answer": "#### 1"}


def test_thirteen_words_in_a_row_from_a_test_question_are_too_many(tmp_path: Path) -> None:
    fetched(tmp_path, "gsm8k", test=[gsm8k(0, 30)], train=[contaminated(13), contaminated(12), gsm8k(2)])
    out = command(tmp_path)
    assert report(out, "gsm8k")["train"]["contaminated"] == 1
    questions = [row["question"] for row in rows_of(out / "gsm8k" / "train.jsonl")]
    assert questions == [contaminated(12)["question"], gsm8k(2)["question"]]


def test_contaminated_rows_are_counted_and_kept_when_asked(tmp_path: Path) -> None:
    fetched(tmp_path, "gsm8k", test=[gsm8k(0, 30)], train=[contaminated(13)])
    made = report(command(tmp_path, "--keep_contaminated"), "gsm8k")["train"]
    assert (made["contaminated"], made["written"]) == (1, 1)


def test_test_sets_of_earlier_calls_and_of_other_datasets_count(tmp_path: Path) -> None:
    short = gsm8k("short", 6)
    fetched(tmp_path, "gsm8k", test=[gsm8k(0, 30), short])
    command(tmp_path, "gsm8k")
    mine = tmp_path / "mine.jsonl"
    own = {"answer": "7", "source": "gsm8k"}
    mine.write_bytes(
        lines({**own, "question": row["question"]} for row in (contaminated(13), short, gsm8k(0, 30), gsm8k(3)))
    )
    made = report(command(tmp_path, mine), "mine")["train"]
    assert (made["written"], made["contaminated"], made["duplicate"]) == (1, 2, 1)


def test_a_near_duplicate_of_a_test_question_of_an_earlier_call_is_left_out(tmp_path: Path) -> None:
    question = "Ada sold kites to nine of her many friends all week"  # fewer than 13 words
    fetched(tmp_path, "gsm8k", test=[{"question": question, "answer": "#### 7"}])
    command(tmp_path, "gsm8k")
    mine = tmp_path / "mine.jsonl"
    rows = [{"question": text, "answer": "7", "source": "gsm8k"} for text in (f"{question} long", prose(1, 5))]
    mine.write_bytes(lines(rows))
    assert report(command(tmp_path, mine, "--near_duplicates", 0.7), "mine")["train"]["near_duplicate"] == 1


def test_test_sets_stay_whole(tmp_path: Path) -> None:
    twice = [gsm8k(0, 30), gsm8k(0, 30), gsm8k(1, 60), {**gsm8k(1, 60), "question": f"{prose(1, 60)} now?"}]
    fetched(tmp_path, "gsm8k", test=twice, train=[gsm8k(5)])
    out = command(tmp_path)
    assert len(rows_of(out / "gsm8k" / "test.jsonl")) == 4
    assert report(out, "gsm8k")["test"]["duplicate"] == 1


def test_training_rows_are_compared_with_validation_rows_too(tmp_path: Path) -> None:
    def mbpp(seed: object, task: int) -> Row:
        tests = [f"assert f{task}(1) == {task}"]
        return {"task_id": task, "text": prose(seed, 30), "code": f"def f{task}(x): ...", "test_list": tests}

    fetched(tmp_path, "mbpp", train=[mbpp(0, 1), mbpp(1, 2)], validation=[mbpp(0, 3)], test=[mbpp(0, 4)])
    made = report(command(tmp_path), "mbpp")
    assert [made[split]["written"] for split in ("train", "validation", "test")] == [1, 1, 1]
    assert made["train"]["contaminated"] == 1


# Trimming


def test_trimming_drops_paragraphs_that_the_answer_does_not_rest_on(tmp_path: Path) -> None:
    row = hotpotqa(1)
    made = split_of(tmp_path, [row], source="hotpotqa", rules=Rules(TextBudget(400)))
    assert made.counts["trimmed"] == 1
    (written,) = rows_of(tmp_path / "made" / "train.jsonl")
    assert TextBudget(400).count(Problem.from_row(written).view.text) <= 400
    assert "Title 1 1:" in written["context"] and "Title 1 9:" in written["context"]
    assert "Title 1 8:" not in written["context"]


def test_a_row_whose_supporting_paragraphs_do_not_fit_is_left_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 too long"):
        split_of(tmp_path, [hotpotqa(1)], source="hotpotqa", rules=Rules(TextBudget(60)))


def passage(question: str, answer: Any, sentences: Sequence[str], source: str = "squad") -> Problem:
    row = {"question": question, "answer": answer, "source": source, "context": " ".join(sentences)}
    return Problem.from_row(row)


SENTENCES = [f"{prose(index, 10).capitalize()}." for index in range(12)]


def test_a_passage_is_cut_after_its_answer_and_never_before() -> None:
    budget = TextBudget(120)
    early = budget.fit(passage("Who?", "Zanzibar", ["It was Zanzibar.", *SENTENCES]))
    assert early is not None and early.context is not None
    assert early.context.startswith("It was Zanzibar.") and early.context.endswith(".")
    assert budget.fit(passage("Who?", "Zanzibar", [*SENTENCES, "It was Zanzibar."])) is None


def test_all_spans_of_an_answer_survive_trimming() -> None:
    budget = TextBudget(120)
    spans = "Zanzibar | Odessa"
    assert budget.fit(passage("Who?", spans, ["Zanzibar.", "Odessa.", *SENTENCES], "drop")) is not None
    assert budget.fit(passage("Who?", spans, ["Zanzibar.", *SENTENCES, "Odessa."], "drop")) is None


def test_a_count_that_no_sentence_states_may_rest_on_all_of_them() -> None:
    assert TextBudget(120).fit(passage("How many?", "12", SENTENCES, "drop")) is None


def test_a_question_that_the_passage_does_not_answer_loses_nothing() -> None:
    assert TextBudget(120).fit(passage("Who?", "", SENTENCES)) is not None


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=8),
    st.sets(st.integers(0, 7)),
    st.integers(1, 300),
    st.sampled_from([None, str.split]),
)
def test_what_trimming_returns_fits_and_has_all_that_must_be_kept(
    lengths: list[int], kept_positions: set[int], limit: int, split: Callable[[str], list[str]] | None
) -> None:
    paragraphs = [f"P{index}: {prose(index, length)}." for index, length in enumerate(lengths)]
    keep = [paragraphs[position] for position in sorted(kept_positions) if position < len(paragraphs)]
    row = {"question": "Who?", "answer": "P0", "source": "squad", "context": "\n\n".join(paragraphs)}
    problem = Problem.from_row(row)
    budget = TextBudget(limit, None if split is None else lambda text: len(split(text)))
    fitting = budget.fit(problem, keep)
    if fitting is None:
        assert budget.count(problem.view.text) > limit
        return
    assert budget.count(fitting.view.text) <= limit
    assert fitting.context is not None and all(part in fitting.context for part in (keep or ["P0"]))
    assert (fitting is problem) == (budget.count(problem.view.text) <= limit)


def test_no_paragraph_goes_that_would_have_fitted() -> None:
    problem = Problem.from_row(
        {"question": "Who?", "answer": "a", "source": "squad", "context": "\n\n".join("abcdefgh")}
    )
    fitting = TextBudget(12, len).fit(problem)
    assert fitting is None  # "Context:" and "Question:" alone are longer
    fitting = TextBudget(36, len).fit(problem)
    assert fitting is not None
    assert len(fitting.view.text) in (34, 35, 36)


# Splits


def aime(identity: int) -> Row:
    return {"id": identity, "problem": f"{prose(('aime', identity), 20)}?", "answer": f"{identity:03d}"}


def test_aime_is_cut_by_ascending_id_into_24_and_6(tmp_path: Path) -> None:
    shuffled = random.Random(3).sample(range(60, 90), 30)
    fetched(tmp_path, "aime24", train=[aime(identity) for identity in shuffled])
    out = command(tmp_path)
    ids = {split: {int(row["id"]) for row in rows_of(out / "aime24" / f"{split}.jsonl")} for split in ("train", "test")}
    assert ids == {"train": set(range(60, 84)), "test": set(range(84, 90))}


def test_ids_are_ordered_as_numbers_and_not_as_text(tmp_path: Path) -> None:
    fetched(tmp_path, "aime24", train=[aime(identity) for identity in range(95, 105)])
    out = command(tmp_path)
    assert {row["id"] for row in rows_of(out / "aime24" / "test.jsonl")} == {"103", "104"}


def test_training_rows_are_compared_with_test_rows_that_stand_after_them(tmp_path: Path) -> None:
    rows = [aime(identity) for identity in range(10)]
    rows[0] = {**aime(0), "problem": aime(9)["problem"]}
    fetched(tmp_path, "aime24", train=rows)
    made = report(command(tmp_path), "aime24")
    assert (made["train"]["written"], made["test"]["written"]) == (7, 2)
    assert made["train"]["contaminated"] == 1


def test_aflows_split_cuts_a_fifth_of_the_test_set_off(tmp_path: Path) -> None:
    rows = [gsm8k(seed) for seed in range(400)]
    fetched(tmp_path, "gsm8k", test=rows, train=[gsm8k("train"), rows[0], rows[1], rows[2], rows[3]])
    out = command(tmp_path, "--aflow_split")
    test, validation = (rows_of(out / "gsm8k" / f"{name}.jsonl") for name in ("test", "validation"))
    questions = {row["question"] for row in rows}
    assert {row["question"] for row in test} | {row["question"] for row in validation} == questions
    assert len(test) + len(validation) == 400
    assert 50 <= len(validation) <= 110
    assert [row["question"] for row in rows_of(out / "gsm8k" / "train.jsonl")] == [gsm8k("train")["question"]]


def test_which_rows_are_for_validation_does_not_depend_on_their_order(tmp_path: Path) -> None:
    rows = [gsm8k(seed) for seed in range(60)]
    chosen = []
    for order in (rows, rows[::-1]):
        fetched(tmp_path, "gsm8k", test=order)
        made = rows_of(command(tmp_path, "--aflow_split") / "gsm8k" / "validation.jsonl")
        chosen.append(sorted(row["question"] for row in made))
    assert chosen[0] == chosen[1]


def test_a_split_that_this_call_does_not_make_is_not_left_from_an_earlier_one(tmp_path: Path) -> None:
    fetched(tmp_path, "gsm8k", test=[gsm8k(seed) for seed in range(60)])
    out = command(tmp_path, "--aflow_split")
    (out / "gsm8k" / "notes.jsonl").write_text("the user's own")
    command(tmp_path)
    assert {path.name for path in (out / "gsm8k").iterdir()} == {
        "README.md", "notes.jsonl", "report.json", "test.jsonl",
    }  # fmt: skip
    assert len(rows_of(out / "gsm8k" / "test.jsonl")) == 60


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for where in (tmp_path / "one", tmp_path / "two"):
        fetched(where, "gsm8k", test=[gsm8k(s) for s in range(30)], train=[gsm8k(f"t{s}") for s in range(200)])
        fetched(where, "hotpotqa", train=[hotpotqa(s) for s in range(40)])
        out = command(where, "--aflow_split", "--mix", 60, "--mix_ratio", "math=0.5,qa=0.5")
        made.append({path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*.*"))})
    assert len(made[0]) == 9
    assert made[0] == made[1]


# Memory


def peak_bytes(tmp_path: Path, count: int) -> int:
    path = tmp_path / f"{count}.jsonl"
    with path.open("wb") as file:
        for seed in range(count):
            file.write(lines([{"question": f"Row {seed}: {prose(seed, 15)}?", "answer": f"#### {seed}"}]))
    split = RawSplit("train", [path], converter("gsm8k", "train"))
    rules = Rules(TextBudget(3072))
    with Fingerprints() as prints:
        tracemalloc.start()
        process_split(split, tmp_path / "made", rules, prints)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert len((tmp_path / "made" / "train.jsonl").read_text().splitlines()) == count
    return peak


@pytest.mark.long
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    small = peak_bytes(tmp_path, 1_000)
    large = peak_bytes(tmp_path, 8_000)
    assert large - small < 256 * 1024
    assert large < 2 * 2**20


def test_a_parquet_file_is_not_held_in_memory(tmp_path: Path) -> None:
    rows = [{"question": random.Random(seed).randbytes(1500).hex()} for seed in range(5_000)]
    write_parquet(tmp_path / "rows.parquet", rows)  # 15 MB in one row group
    before = pyarrow.total_allocated_bytes()
    held = [pyarrow.total_allocated_bytes() for _ in iter_raw_rows(tmp_path / "rows.parquet")]
    assert max(held) - before < 10 * 2**20


# Cards


def test_the_card_says_where_the_rows_are_from_and_what_became_of_them(tmp_path: Path) -> None:
    fence = {"question": f"```python\nprint(1)\n``` {prose(9, 300)}", "answer": "#### 4"}
    fetched(tmp_path, "gsm8k", train=[fence, gsm8k(1), gsm8k(1), {"question": "?"}], test=[gsm8k(2)])
    out = command(tmp_path)
    card = (out / "gsm8k" / "README.md").read_text()
    known = benchmark("gsm8k")
    assert f"https://huggingface.co/datasets/{known.repo}" in card
    for words in (known.revision, "Licence: MIT", "| train | 4 | 2 |", "| test | 1 | 1 |", "line 4", "3072 tokens"):
        assert words in card
    examples = card.split("````json\n")[1:]
    assert [json.loads(example.split("\n````")[0])["answer"] for example in examples] == ["7"]  # of the test split
    made = report(out, "gsm8k")["train"]
    counted = {"bad": 1, "duplicate": 1, "near_duplicate": 0, "contaminated": 0, "too_long": 0, "trimmed": 0}
    assert {name: made[name] for name in counted} == counted
    assert made["read"] == made["written"] + sum(counted.values())
    assert made["tokens"]["p50"] < made["tokens"]["max"] == made["tokens"]["p95"]


def test_lengths_are_those_of_the_share() -> None:
    made = SplitReport(written=100)
    made.tokens.update(range(1, 101))
    assert [made.length(share) for share in (0.5, 0.95, 1.0)] == [50, 95, 100]
    assert SplitReport().length(0.5) == 0


# Files of one's own, and mixed sets


def test_rows_of_ones_own_are_processed_and_can_be_trained_on_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"question": prose(seed, 9), "answer": str(seed), "source": "gsm8k"} for seed in range(40)]
    path = tmp_path / "my_rows.v2.json.gz"
    FORMATS[".json.gz"](path, rows)
    out = command(tmp_path, path)
    assert [row["answer"] for row in rows_of(out / "my_rows" / "train.jsonl")] == [str(seed) for seed in range(40)]
    assert "From a file of your own." in (out / "my_rows" / "README.md").read_text()
    monkeypatch.setattr(registry, "PROCESSED_FOLDER", out)
    train, heldout = (load_problems("my_rows", split, 99, 0) for split in ("train", "heldout"))
    assert len(train) + len(heldout) == 40
    assert train and heldout


@pytest.mark.parametrize("name", ["gsm8k.jsonl", "mixed.jsonl", "other/mine.jsonl"])
def test_a_file_that_would_be_written_over_another_dataset_is_refused(name: str, tmp_path: Path) -> None:
    row = {"question": "What?", "answer": "1", "source": "gsm8k"}
    for path in (tmp_path / "mine.jsonl", tmp_path / name):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(lines([row]))
    with pytest.raises(DataError, match="rename it"):
        command(tmp_path, tmp_path / "mine.jsonl", tmp_path / name)


def test_a_dataset_named_twice_is_processed_once(tmp_path: Path) -> None:
    fetched(tmp_path, "gsm8k", train=[gsm8k(1)])
    assert report(command(tmp_path, "gsm8k", "gsm8k"), "gsm8k")["train"]["written"] == 1


def test_the_mixed_set_has_the_exact_shares_and_draws_evenly_from_the_datasets(tmp_path: Path) -> None:
    fetched(tmp_path, "gsm8k", train=[gsm8k(seed) for seed in range(100)])
    fetched(tmp_path, "hotpotqa", train=[hotpotqa(seed, 4) for seed in range(50)])
    path = tmp_path / "mine.jsonl"  # a file of two domains
    mine = {"answer": "x", "source": "mine"}
    path.write_bytes(
        lines(
            {**mine, "domain": domain, "question": prose((domain, seed), 9)}
            for seed in range(60)
            for domain in ("math", "qa")
        )
    )
    out = command(tmp_path, "gsm8k", "hotpotqa", path, "--mix", 100, "--mix_ratio", "math=0.6,qa=0.4")
    rows = rows_of(out / "mixed" / "train.jsonl")
    counts = dict.fromkeys((("gsm8k", "math"), ("mine", "math"), ("hotpotqa", "qa"), ("mine", "qa")), 0)
    for row in rows:
        counts[row["source"], row["domain"]] += 1
    assert counts == {("gsm8k", "math"): 30, ("mine", "math"): 30, ("hotpotqa", "qa"): 20, ("mine", "qa"): 20}
    assert len({row["question"] for row in rows}) == 100
    assert {row["question"] for row in rows if row["source"] == "gsm8k"} != {
        gsm8k(seed)["question"] for seed in range(30)
    }


def test_another_seed_draws_another_mixed_set(tmp_path: Path) -> None:
    fetched(tmp_path, "gsm8k", train=[gsm8k(seed) for seed in range(200)])
    flags = ["--mix", 50, "--mix_ratio", "math=1"]
    first, again, other = (
        (command(tmp_path, *flags, "--seed", seed) / "mixed" / "train.jsonl").read_bytes() for seed in (0, 0, 1)
    )
    assert first == again != other


def test_a_mixed_set_of_a_domain_that_is_not_there_is_refused(tmp_path: Path) -> None:
    fetched(tmp_path, "gsm8k", train=[gsm8k(1)])
    with pytest.raises(DataError, match="asks for qa problems"):
        command(tmp_path, "--mix", 10)


@pytest.mark.parametrize(
    "flags",
    [
        ["--mix", -1],
        ["--mix_ratio", "poetry=1"],
        ["--mix_ratio", "math=0"],
        ["--mix_ratio", "math=inf"],
        ["--mix_ratio", "math=-1,qa=2"],
        ["--max_prompt_tokens", 0],
        ["--near_duplicates", 0],
        ["--near_duplicates", "nan"],
    ],
    ids=str,
)
def test_impossible_flags_are_refused_before_anything_is_read(flags: list[object], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=str(flags[0])):
        command(tmp_path, *flags)


# The registry


def test_a_processed_benchmarks_training_set_is_a_source_in_two_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = [gsm8k(f"t{s}") for s in range(30)], [gsm8k(s) for s in range(10)]
    fetched(tmp_path, "gsm8k", train=train, test=test)
    monkeypatch.setattr(registry, "PROCESSED_FOLDER", command(tmp_path))
    loaded, heldout = (load_problems("gsm8k", part, 99, 0) for part in ("train", "heldout"))
    assert {problem.question for problem in [*loaded, *heldout]} == {row["question"] for row in train}
    assert len(loaded) + len(heldout) == len(train)
    assert loaded == load_problems("gsm8k", "train", 99, 0) != load_problems("gsm8k", "train", 99, 1)
    assert load_problems("gsm8k", "train", 5, 0) == loaded[:5]


def test_a_benchmark_of_one_split_is_cut_by_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"problem": prose(s, 9), "answer": "1", "solution": "", "unique_id": f"test/{s}"} for s in range(40)]
    fetched(tmp_path, "math500", test=rows)
    monkeypatch.setattr(registry, "PROCESSED_FOLDER", command(tmp_path))
    parts = [{p.id for p in load_problems("math500", split, 99, 0)} for split in ("train", "heldout")]
    assert not parts[0] & parts[1]
    assert len(parts[0] | parts[1]) == 40


def test_a_benchmark_that_is_not_processed_names_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PROCESSED_FOLDER", tmp_path)
    with pytest.raises(
        DataError, match=r"python scripts/download_datasets.py hotpotqa && .*process_datasets.py hotpotqa"
    ):
        load_problems("hotpotqa", "train", 1, 0)
