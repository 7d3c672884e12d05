import gzip
import json
import os
import random
import tracemalloc
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.files import claimed, path_of, write_atomically
from data.jsonl import read_problems, shuffled_problems
from data.problem import DataError, Problem
from data.registry import iter_problems

NAME = st.just("x")
GOOD = {"question": "What is 2 + 2?", "answer": "4", "source": "gsm8k"}


def write(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_three_keys_are_enough(tmp_path: Path) -> None:
    (problem,) = read_problems(write(tmp_path / "rows.jsonl", GOOD, ""))
    assert (problem.question, problem.answer, problem.domain) == ("What is 2 + 2?", "4", "math")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{not json", "not valid JSON"),
        ("[1, 2]", "must be an object"),
        ({"answer": "4", "source": "gsm8k"}, "question"),
        ({**GOOD, "question": "  "}, "question"),
        ({**GOOD, "answer": None}, "answer"),
        ({**GOOD, "answer": [["4"]]}, "answer"),
        ({**GOOD, "source": "a_new_benchmark"}, "domain"),
        ({**GOOD, "domain": "poetry"}, "poetry"),
        ({**GOOD, "tests": "assert ("}, "not Python"),
        ({**GOOD, "tests": [1]}, "tests"),
        ({**GOOD, "source": "mbpp"}, "needs tests"),
    ],
)
def test_a_malformed_row_is_named_by_its_line(tmp_path: Path, row: object, reason: str) -> None:
    path = write(tmp_path / "rows.jsonl", GOOD, "", row)
    with pytest.raises(DataError, match=f"rows.jsonl, line 3: .*{reason}"):
        read_problems(path)


def test_missing_empty_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_problems(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match="no rows"):
        read_problems(write(tmp_path / "empty.jsonl", ""))
    with pytest.raises(DataError, match=r"mine.jsonl is a folder; name a file"):
        (tmp_path / "mine.jsonl").mkdir()
        read_problems(tmp_path / "mine.jsonl")


TEXT = '{"question": "Wie groß?", "answer": "1", "source": "gsm8k"}'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (TEXT.encode("utf-16"), "is UTF-16; save it as UTF-8"),
        (TEXT.encode("cp1252"), "is not UTF-8 (byte 0xdf in "),
        (gzip.compress(TEXT.encode()), "is compressed; unpack it first"),
        (b"PK\x03\x04\xff\xff", "is compressed; unpack it first"),
    ],
    ids=["UTF-16", "Windows-1252", "gzip", "zip"],
)
def test_another_encoding_is_told_with_what_to_do(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_problems(tmp_path / "mine.jsonl")
    assert f"mine.jsonl: {said}" in str(caught.value)


def test_a_home_is_found_where_no_shell_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert path_of("~/mine.jsonl") == tmp_path / "mine.jsonl"
    assert path_of("~nobody_of_this_name/x") == Path("~nobody_of_this_name/x")
    rows = [{**GOOD, "question": f"What is {number} + 1?"} for number in range(30)]
    write(tmp_path / "mine.jsonl", *rows)
    assert next(iter_problems("~/mine.jsonl", "train", 0)).source == GOOD["source"]
    with pytest.raises(DataError, match="a path is empty"):
        next(iter_problems("", "train", 0))


def test_a_file_is_no_folder_to_write_into(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", GOOD)
    for folder in (file, file / "inside"):
        with pytest.raises(DataError, match="is a file, or lies in one; name a folder"), claimed(folder):
            pass
        with pytest.raises(DataError, match="is a file, or lies in one"), write_atomically(folder / "out.jsonl"):
            pass


@given(
    st.fixed_dictionaries(
        {
            "question": st.text(min_size=1).filter(str.strip),
            "answer": st.text() | st.integers(),
            "source": st.just("x"),
        },
        optional={"context": st.text(), "id": st.text(), "domain": st.sampled_from(["math", "code", "qa"])},
    ).map(lambda row: {"domain": "qa", **row})
)
def test_rows_go_through_json_unchanged(row: dict[str, object]) -> None:
    problem = Problem.from_row(row)
    assert Problem.from_row(json.loads(json.dumps(problem.to_row()))) == problem


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), write_atomically(path) as file:
        file.write("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["summary.json"]


def test_shuffled_rows_are_all_of_them_once_in_the_order_of_the_seed(tmp_path: Path) -> None:
    rows = [{**GOOD, "question": f"Is this ☃ number {number}?"} for number in range(30)]
    path = write(tmp_path / "rows.jsonl", *rows[:10], "", *rows[10:])
    first, again, other = ([*shuffled_problems(path, random.Random(seed))] for seed in (0, 0, 1))
    assert first == again != other
    assert sorted(first, key=repr) == sorted(read_problems(path), key=repr)


def test_shuffled_rows_are_not_held_in_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", *({**GOOD, "context": f"{number} " * 3_000} for number in range(300)))
    tracemalloc.start()
    (problem,) = islice(shuffled_problems(path, random.Random(0)), 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert problem.question == GOOD["question"]
    assert peak < path.stat().st_size / 10


def test_a_malformed_row_among_shuffled_ones_is_named_by_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", GOOD, "", "[1]")
    with pytest.raises(DataError, match=r"rows.jsonl, line 3: must be an object"):
        list(shuffled_problems(path, random.Random(0)))
    with pytest.raises(DataError, match="is a folder; name a file"):
        list(shuffled_problems(tmp_path, random.Random(0)))


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\r\n")
    assert len(read_problems(path)) == 1
    assert len(list(shuffled_problems(path, None))) == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [("[" * 100_000, "not valid JSON"), (json.dumps({**GOOD, "question": "half \ud83d"}), "surrogate")],
)
def test_a_line_that_cannot_be_read_or_written_again_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(line)
    with pytest.raises(DataError, match=f"line 1: .*{reason}"):
        read_problems(path)


def test_one_id_for_two_problems_is_refused_and_the_same_row_again_is_not(tmp_path: Path) -> None:
    same = {**GOOD, "id": "1"}
    assert len(read_problems(write(tmp_path / "same.jsonl", same, same))) == 2
    with pytest.raises(DataError, match="line 2: id '1' is that of line 1"):
        read_problems(write(tmp_path / "two.jsonl", same, {**same, "question": "Another one?"}))


def test_a_link_is_written_through_and_a_device_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with write_atomically(tmp_path / "link") as file:
        file.write("text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "text"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with write_atomically(tmp_path / "pipe") as file:
        file.write("text")
    assert os.read(reader, 9) == b"text"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


def test_a_folder_has_one_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.files.CLAIM_SECONDS", 0.2)
    with claimed(tmp_path / "out"), pytest.raises(DataError, match="another process"), claimed(tmp_path / "out"):
        pass
    with claimed(tmp_path / "out"):
        assert not any((tmp_path / "out").iterdir())
