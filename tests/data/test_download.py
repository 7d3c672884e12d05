"""Raw files, from a folder under any of their names and from a server that speaks the Hub's protocol."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from data.benchmarks import benchmark, benchmarks
from data.download import from_folder, from_hub, present, raw_splits
from data.problem import DataError
from tests.commands import Done, fails, run
from tests.fake_hub import NOWHERE, FakeHub, use_hub
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]


def manifest(folder: Path, name: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((folder / name / "manifest.json").read_text())
    return made


def paths_of(name: str) -> list[str]:
    return [path for paths in benchmark(name).splits.values() for path in paths]


# From a folder


def source_with(tmp_path: Path, *paths: str) -> Path:
    """A folder with these files; what is in each is its path."""
    source = tmp_path / "source"
    for path in paths:
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(path)
    return source


def taken(tmp_path: Path, name: str, *paths: str) -> dict[str, list[str]]:
    """Which of the source's files became which split."""
    from_folder(benchmark(name), source_with(tmp_path, *paths), tmp_path / "raw")
    return {
        split: [file.read_text() for file in files]
        for split, files in raw_splits(benchmark(name), tmp_path / "raw").items()
    }


@pytest.mark.parametrize("name", benchmarks())
@pytest.mark.parametrize("under", ["name", "repository"])
def test_the_hubs_own_paths_are_found_below_the_benchmarks_folder(name: str, under: str, tmp_path: Path) -> None:
    folder = name if under == "name" else benchmark(name).repo
    found = taken(tmp_path, name, *(f"{folder}/{path}" for path in paths_of(name)))
    assert found == {split: [f"{folder}/{path}" for path in paths] for split, paths in benchmark(name).splits.items()}


@pytest.mark.parametrize("name", sorted(set(benchmarks()) - {"drop", "aime24"}))
def test_the_hubs_own_paths_are_found_in_the_folder_itself(name: str, tmp_path: Path) -> None:
    every = [path for other in benchmarks() for path in paths_of(other)]
    found = taken(tmp_path, name, *every)
    assert [path for paths in found.values() for path in paths] == paths_of(name)


@pytest.mark.parametrize("name", ["drop", "aime24"])
def test_a_path_that_two_benchmarks_have_belongs_to_neither(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"none of its files; looked for {name}/data/train"):
        taken(tmp_path, name, *paths_of("drop"))


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".jsonl.gz", ".json", ".json.gz"])
def test_a_split_is_found_by_its_name_in_every_format(suffix: str, tmp_path: Path) -> None:
    found = taken(tmp_path, "gsm8k", f"gsm8k/train{suffix}", f"gsm8k_main_test{suffix}")
    assert found == {"train": [f"gsm8k/train{suffix}"], "test": [f"gsm8k_main_test{suffix}"]}
    assert (tmp_path / "raw" / "gsm8k" / f"train-0{suffix}").is_file()


@pytest.mark.parametrize(
    ("name", "path", "split"),
    [
        ("hotpotqa", "hotpotqa_distractor_validation.jsonl", "test"),
        ("hotpotqa", "hotpotqa/validation.json", "test"),
        ("squad", "squad_test.parquet", "test"),
        ("mbpp", "mbpp_full_validation.jsonl", "validation"),
        ("mbpp_sanitized", "mbpp_sanitized_test.jsonl", "test"),
        ("mbpp_sanitized", "mbpp_sanitized/train.jsonl", "train"),
        ("math", "math_train.jsonl", "train"),
        ("math500", "math500_test.jsonl", "test"),
    ],
)
def test_the_hubs_and_our_own_name_of_a_split_are_both_found(name: str, path: str, split: str, tmp_path: Path) -> None:
    assert taken(tmp_path, name, path) == {split: [path]}


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("mbpp", ["mbpp_sanitized_test.jsonl", "mbpp_sanitized/test.jsonl", "sanitized/test-00000-of-00001.parquet"]),
        ("mbpp_sanitized", ["mbpp_test.jsonl", "mbpp_full_test.jsonl", "mbpp/test.jsonl"]),
        ("math", ["math500_train.jsonl", "math500/train.jsonl", "competition_math_train.jsonl"]),
        ("math500", ["math_test.jsonl", "math/test.jsonl", "math_500_test.jsonl"]),
        ("squad", ["squad_test.csv", "squad.jsonl", "my_squad_test.jsonl"]),
    ],
)
def test_another_benchmarks_files_are_not_taken(name: str, others: Sequence[str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of its files"):
        taken(tmp_path, name, *others)


def test_the_file_of_the_very_name_is_preferred(tmp_path: Path) -> None:
    found = taken(tmp_path, "hotpotqa", "hotpotqa_test.jsonl", "hotpotqa_validation.jsonl", "hotpotqa/train.json")
    assert found == {"train": ["hotpotqa/train.json"], "test": ["hotpotqa_test.jsonl"]}


def test_a_sharded_split_is_taken_whole_or_not_at_all(tmp_path: Path) -> None:
    first, second, validation = paths_of("hotpotqa")
    found = taken(tmp_path, "hotpotqa", f"hotpotqa/{second}", f"hotpotqa/{validation}")
    assert found == {"test": [f"hotpotqa/{validation}"]}
    assert len(taken(tmp_path, "hotpotqa", f"hotpotqa/{first}")["train"]) == 2


def test_the_manifest_says_what_lies_there_and_where_it_is_from(tmp_path: Path) -> None:
    source = source_with(tmp_path, "gsm8k/train.jsonl")
    from_folder(benchmark("gsm8k"), source, tmp_path / "raw")
    (entry,) = manifest(tmp_path / "raw", "gsm8k")["files"]
    assert entry == {
        "split": "train",
        "name": "train-0.jsonl",
        "origin": str(source / "gsm8k" / "train.jsonl"),
        "bytes": 17,
        "sha256": hashlib.sha256(b"gsm8k/train.jsonl").hexdigest(),
    }
    assert manifest(tmp_path / "raw", "gsm8k")["revision"] == benchmark("gsm8k").revision
    assert sorted(path.name for path in (tmp_path / "raw" / "gsm8k").iterdir()) == ["manifest.json", "train-0.jsonl"]


@pytest.mark.parametrize("damage", ["revision", "short", "gone", "no manifest", "manifest of another kind"])
def test_what_is_not_whole_or_of_another_revision_is_not_present(damage: str, tmp_path: Path) -> None:
    known = benchmark("gsm8k")
    from_folder(known, source_with(tmp_path, "gsm8k/train.jsonl"), tmp_path / "raw")
    assert present(known, tmp_path / "raw") is not None
    folder = tmp_path / "raw" / "gsm8k"
    match damage:
        case "revision":
            made = manifest(tmp_path / "raw", "gsm8k")
            (folder / "manifest.json").write_text(json.dumps({**made, "revision": "0" * 40}))
        case "short":
            (folder / "train-0.jsonl").write_text("gsm8k")
        case "gone":
            (folder / "train-0.jsonl").unlink()
        case "no manifest":
            (folder / "manifest.json").unlink()
        case _:
            (folder / "manifest.json").write_text('["files"]')
    assert present(known, tmp_path / "raw") is None
    with pytest.raises(DataError, match=r"python scripts/download_datasets.py gsm8k"):
        raw_splits(known, tmp_path / "raw")


def test_a_folder_that_is_not_there_or_has_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: no such folder"):
        from_folder(benchmark("gsm8k"), tmp_path / "absent", tmp_path)
    with pytest.raises(DataError, match=r"gsm8k/main/train.*gsm8k/train\.\*.*gsm8k_train\.\*"):
        taken(tmp_path, "gsm8k", "other.txt")


def test_a_disk_that_fills_while_copying_is_told_and_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(origin: Path, target: Path) -> None:
        target.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(DataError, match=r"cannot be copied: .*No space left"):
        taken(tmp_path, "gsm8k", "gsm8k/train.jsonl")
    assert list((tmp_path / "raw" / "gsm8k").iterdir()) == []


# From the Hub

TRAIN, TEST = paths_of("gsm8k")
CONTENTS = {TRAIN: bytes(range(256)) * 400, TEST: b"test rows" * 999}
LINES = b'{"problem": "1+1", "answer": "2", "unique_id": "test/1"}\n'


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as server:
        server.add(benchmark("gsm8k"), CONTENTS)
        server.add(benchmark("math500"), {"test.jsonl": LINES}, lfs=False)
        yield server


def download(tmp_path: Path, endpoint: str, *names: object) -> Done:
    """`scripts/download_datasets.py` as a user runs it who was never there before."""
    with pytest.MonkeyPatch.context() as patch:
        use_hub(patch, endpoint, tmp_path / "hf_home")
        return run("scripts/download_datasets.py", *names, "--output_dir", tmp_path / "raw")


def test_a_download_is_what_the_hub_has_and_a_second_call_asks_for_nothing(hub: FakeHub, tmp_path: Path) -> None:
    done = download(tmp_path, hub.url, "gsm8k", "math500")
    assert done.returncode == 0, done.stderr
    assert "gsm8k: train, test; 0.1 MB" in done.stdout
    raw = tmp_path / "raw"
    assert (raw / "gsm8k" / "train-0.parquet").read_bytes() == CONTENTS[TRAIN]
    assert (raw / "gsm8k" / "test-0.parquet").read_bytes() == CONTENTS[TEST]
    assert (raw / "math500" / "test-0.jsonl").read_bytes() == LINES
    assert [(file["origin"], file["sha256"]) for file in manifest(raw, "gsm8k")["files"]] == [
        (path, hashlib.sha256(content).hexdigest()) for path, content in CONTENTS.items()
    ]
    assert not (raw / ".downloads" / "gsm8k").exists()
    assert hub.fetched() == [TRAIN, TEST, "test.jsonl"]
    before = len(hub.requests)
    assert download(tmp_path, hub.url, "gsm8k", "math500").stdout == done.stdout
    assert len(hub.requests) == before


def test_another_revision_and_a_short_file_are_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    download(tmp_path, hub.url, "gsm8k", "math500")
    raw = tmp_path / "raw"
    (raw / "gsm8k" / "test-0.parquet").write_bytes(CONTENTS[TEST][:-1])
    (raw / "math500" / "manifest.json").write_text(json.dumps({**manifest(raw, "math500"), "revision": "0" * 40}))
    (raw / "math500" / "test-0.jsonl").write_bytes(b"of that revision")
    hub.requests.clear()
    done = download(tmp_path, hub.url, "gsm8k", "math500")
    assert done.returncode == 0, done.stderr
    assert hub.fetched() == [TEST, "test.jsonl"]
    assert (raw / "gsm8k" / "test-0.parquet").read_bytes() == CONTENTS[TEST]
    assert (raw / "math500" / "test-0.jsonl").read_bytes() == LINES


def test_force_finds_a_file_that_was_changed_at_the_same_length(hub: FakeHub, tmp_path: Path) -> None:
    download(tmp_path, hub.url, "gsm8k")
    changed = tmp_path / "raw" / "gsm8k" / "test-0.parquet"
    changed.write_bytes(CONTENTS[TEST][::-1])
    hub.requests.clear()
    assert download(tmp_path, hub.url, "gsm8k").returncode == 0
    assert hub.fetched() == []
    assert download(tmp_path, hub.url, "gsm8k", "--force").returncode == 0
    assert hub.fetched() == [TEST]
    assert changed.read_bytes() == CONTENTS[TEST]


def test_splits_that_a_folder_did_not_have_come_from_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    from_folder(benchmark("gsm8k"), source_with(tmp_path, "gsm8k/test.jsonl"), tmp_path / "raw")
    done = download(tmp_path, hub.url, "gsm8k")
    assert "gsm8k: train, test" in done.stdout, done.stderr
    assert set(raw_splits(benchmark("gsm8k"), tmp_path / "raw")) == {"train", "test"}


@pytest.mark.parametrize(("name", "path"), [("gsm8k", TEST), ("math500", "test.jsonl")])
def test_a_damaged_file_is_refused_and_what_came_right_is_kept(
    name: str, path: str, hub: FakeHub, tmp_path: Path
) -> None:
    hub.file(path).sent = hub.file(path).content[::-1]
    done = download(tmp_path, hub.url, "gsm8k", "math500")
    fails(done, 1, f"{name}: {path} arrived damaged", f"error: not fetched: {name};")
    other = {"gsm8k": "math500", "math500": "gsm8k"}[name]
    assert f"{other}: " in done.stdout
    assert present(benchmark(name), tmp_path / "raw") is None
    hub.file(path).sent = None
    hub.requests.clear()
    assert download(tmp_path, hub.url, "gsm8k", "math500").returncode == 0
    assert hub.fetched() == [path]


def test_a_file_that_the_revision_does_not_have_is_named(hub: FakeHub, tmp_path: Path) -> None:
    del hub.files[next(address for address in hub.files if address.endswith(TEST))]
    hub.file("test.jsonl").absent = True
    done = download(tmp_path, hub.url, "gsm8k", "math500", "squad")
    fails(done, 1, f"openai/gsm8k has no {TEST} at revision {benchmark('gsm8k').revision}")
    fails(done, 1, "math500: ", "EntryNotFound", "squad: ", "not fetched: gsm8k, math500, squad;")
    assert hub.fetched() == []


def test_a_server_that_is_down_is_one_line_with_the_ways_around(tmp_path: Path) -> None:
    done = download(tmp_path, NOWHERE, "math500")
    fails(
        done, 1, "http://127.0.0.1:9/datasets/HuggingFaceH4/MATH-500 cannot be fetched", "HF_ENDPOINT", "--source_dir"
    )
    assert len(done.stderr.strip().splitlines()) == 2


@pytest.mark.parametrize(("page", "status"), [(b"<html>Please log in</html>", 200), (None, 503), (None, 401)])
def test_an_endpoint_that_is_no_hub_is_told(page: bytes | None, status: int, tmp_path: Path) -> None:
    with FakeHub() as portal:
        portal.page, portal.refuse = page, lambda method, path: status
        fails(
            download(tmp_path, portal.url, "math500"), 1, f"{portal.url}/datasets/", "cannot be fetched", "--source_dir"
        )


def test_a_connection_that_breaks_goes_on_where_it_broke(hub: FakeHub, tmp_path: Path) -> None:
    chunk = huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE  # what is written to disk at a time
    hub.file(TRAIN).content = content = bytes(range(256)) * (chunk // 100)
    hub.file(TRAIN).cut = 1
    done = download(tmp_path, hub.url, "gsm8k")
    assert done.returncode == 0, done.stderr
    assert hub.fetched() == [TRAIN, f"{TRAIN} from {chunk}", TEST]
    assert (tmp_path / "raw" / "gsm8k" / "train-0.parquet").read_bytes() == content


def test_a_download_that_was_stopped_goes_on_with_the_file_at_which_it_stopped(hub: FakeHub, tmp_path: Path) -> None:
    hub.file(TEST).held = held = threading.Event()
    kept = {name: value for name, value in os.environ.items() if name[:3] != "HF_" and "proxy" not in name.lower()}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts/download_datasets.py"), "gsm8k", "--output_dir", str(tmp_path / "raw")],
        env={**kept, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf_home"), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + PATIENCE
    while TEST not in hub.fetched() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 143, errors
    assert "Traceback" not in errors
    assert present(benchmark("gsm8k"), tmp_path / "raw") is None
    held.set()
    hub.requests.clear()
    assert download(tmp_path, hub.url, "gsm8k").returncode == 0
    assert hub.fetched() == [TEST]
    assert not (tmp_path / "raw" / ".downloads" / "gsm8k").exists()


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, hub.url, tmp_path / "hf_home")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**30, 2**30 - 2**20, 2**20))
    with pytest.raises(DataError, match=r"gsm8k needs 0 MB and 512 MB to spare.*1 MB free.*--output_dir"):
        from_hub(benchmark("gsm8k"), tmp_path / "raw")
    assert hub.fetched() == []
