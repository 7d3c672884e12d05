"""The replay study: commands whose flags there are, run once each; rows from what they leave; a page that says so."""

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.registry import load_problems
from scripts import study_replay
from scripts.studying.replay_page import write_replay_page
from scripts.studying.replay_rows import ReplayRow, read_replay_rows, write_replay_rows
from scripts.studying.replay_settings import (
    HELDOUT,
    MARGIN,
    MASKED_ONLINE,
    MASKED_STEPS,
    ONLINE,
    SETTINGS,
    STEPS,
    TRAIN,
    UPDATES,
    Seed,
    Tokens,
    fingerprint,
)
from scripts.studying.replay_tokens import cut_search, reached_within, tokens_of, tokens_to


def row(setting: str, seed: int, after: float, **changes: Any) -> ReplayRow:
    made = ReplayRow(
        setting, seed, fingerprint(setting), "abc", 0.3, after, {"math": after}, {"math": 0.8}, 1000, 250, 0.25, None,
        None, 60.0,
    )  # fmt: skip
    return replace(made, **changes)


def value(words: Sequence[str], flag: str) -> str:
    return words[list(words).index(flag) + 1]


def write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def leave_search(folder: Path, rounds: int) -> None:
    """Nodes of two problems, a hundred tokens each; the first workflows are of round 0."""
    nodes = [{"round": number, "tokens": {"executor": 100}} for _ in range(2) for number in range(rounds + 1)]
    write(folder / "nodes.jsonl", [{"id": id, **node} for id, node in enumerate(nodes)])
    write(folder / "trajectories.jsonl", [{"node": id} for id in range(len(nodes))])


def leave(command: Sequence[str]) -> None:
    """What a command leaves, as far as the study reads it."""
    script = Path(command[1]).name
    output = Path(value(command, "--output" if "--output" in command else "--output_dir"))
    assert script != "merge_adapter.py" or not output.exists()  # it refuses a folder that is there
    output.mkdir(parents=True, exist_ok=True)
    if script == "search.py":
        leave_search(output, rounds=int(value(command, "--search_rounds")))
        (output / "summary.json").write_text("{}")
    elif script == "evaluate.py":
        part = {"math": {"reward": 0.5}}
        (output / "summary.json").write_text(json.dumps({"reward": 0.5, "by_domain": part}))
        calls = {"calls": [{"operator": "Programmer"}]}
        (output / "rows.jsonl").write_text(json.dumps({"domain": "math", "trace": calls}) + "\n")
    elif script in ("grpo_mixed.py", "grpo_search.py"):
        heldout = {"by_domain": {"math": {"baselines": {"A": 0.4, "B": 0.5}}}}
        (output / "summary.json").write_text(json.dumps({"heldout": heldout}))
        trace = {"prompt_tokens": 90, "completion_tokens": 10}
        steps = int(value(command, "--max_steps")) if script == "grpo_mixed.py" else 4
        rows = [{"step": step, "reward": 0.6, "trace": trace} for step in range(steps)]
        write(output / "rollouts.jsonl", rows)
        for step in range(1, steps + 1):
            (output / f"checkpoint-{step}").mkdir()
            if script == "grpo_search.py":
                for episode in range(step):
                    leave_search(output / f"checkpoint-{step}" / "search" / f"episode-{episode}", rounds=5)
        with (output / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["step", "wa_grpo/zero_signal_before"])
            writer.writeheader()
            writer.writerow({"step": 1, "wa_grpo/zero_signal_before": 0.5})
    elif script in ("dpo_search.py", "grpo_replay.py"):
        (output / "summary.json").write_text("{}")
    else:
        (output / "model.safetensors").write_text("")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands are noted, and leave their files at once."""
    commands: list[list[str]] = []
    real = subprocess.run

    def run(command: list[str], **options: Any) -> Any:
        if command[0] != sys.executable:
            return real(command, **options)
        commands.append(command)
        leave(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(study_replay.subprocess, "run", run)
    return commands


def study(monkeypatch: pytest.MonkeyPatch, folder: Path, *flags: str) -> None:
    places = ["--output", str(folder / "runs"), "--page", str(folder / "page"), "--cache", str(folder / "cache")]
    monkeypatch.setattr(sys, "argv", ["study_replay.py", *places, *flags])
    study_replay.main()


def test_every_way_has_the_tokens_of_online_grpo_and_no_command_runs_twice(
    ran: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    study(monkeypatch, tmp_path, "--seeds", "0")
    rows = {each.setting: each for each in read_replay_rows(tmp_path / "page" / "replay.jsonl")}
    assert set(rows) == set(SETTINGS)
    online = rows[ONLINE]
    assert (online.tokens, online.search_tokens, online.fixed) == (100 * STEPS, 0, {"math": 0.5})
    assert online.tokens_to_fixed == 500 and online.zero_signal == 0.5
    assert rows["mixed"].search_tokens == 800 and rows["mixed"].tokens == online.tokens
    assert rows[MASKED_ONLINE].tokens == rows["masked_mixed"].tokens == 100 * UPDATES * MASKED_STEPS
    assert rows["sft"].tokens == rows["sft"].search_tokens == online.tokens  # all of it is the search's
    assert rows["sft_mixed_online"].tokens == online.tokens
    assert rows["loop"].tokens == rows["loop"].search_tokens == 1200  # whole episodes of 1200 each
    assert rows["masked_mixed"].masked_share == 1.0 and rows["mixed"].masked_share is None
    steps = {
        tuple(Path(value(c, "--output_dir")).parts[-2:]): int(value(c, "--max_steps"))
        for c in ran
        if "--max_steps" in c
    }
    assert steps["seed0", "online"] == STEPS and steps["seed0", "mixed"] == STEPS * MARGIN * 0.6
    assert steps["sft_mixed_online", "mixed"] + steps["seed0", "sft_mixed_online"] == steps["seed0", "mixed"]
    judged = {Path(value(c, "--output")).parts[-2]: c for c in ran if c[1].endswith("evaluate.py")}
    assert Path(value(judged["mixed"], "--adapter")).name == f"checkpoint-{STEPS * 0.6:.0f}"
    assert Path(value(judged["loop"], "--adapter")).name == "checkpoint-1" and "--adapter" not in judged["sft"]
    count = len(ran)
    study(monkeypatch, tmp_path, "--seeds", "0")
    assert len(ran) == count
    assert "Not finished" in (tmp_path / "page" / "replay.md").read_text()


def test_a_search_that_was_interrupted_goes_on(
    ran: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    study(monkeypatch, tmp_path, "--seeds", "0", "--settings", "sft")
    summary = tmp_path / "runs" / "seed0" / "search" / "summary.json"
    for stopped, again in (("interrupted", 1), ("budget", 0)):
        summary.write_text(json.dumps({"stopped": stopped}))
        count = len(ran)
        study(monkeypatch, tmp_path, "--seeds", "0", "--settings", "sft_mixed_online")
        (tmp_path / "page" / "replay.jsonl").unlink()
        assert sum(command[1].endswith("search.py") for command in ran[count:]) == again


def test_the_problems_of_a_seed_are_told_apart_as_they_were_meant(tmp_path: Path) -> None:
    seed = Seed(tmp_path, 3, tmp_path / "cache")
    study_replay.write_problems(seed)
    train, heldout = (load_problems(str(seed.problems), part, 1000, 0) for part in ("train", "heldout"))
    assert (len(train), len(heldout)) == (TRAIN, HELDOUT)
    assert {(each.source, each.id) for each in heldout} == {
        (item["source"], item["id"]) for item in map(json.loads, seed.heldout.read_text().splitlines())
    }


def test_nobody_gets_more_tokens_than_online_grpo(tmp_path: Path) -> None:
    assert Tokens(online=1000, search=400).steps() == STEPS * MARGIN * 0.6
    leave_search(tmp_path, rounds=4)
    for budget, rounds in ((1000, 5), (799, 3), (1, 1)):  # the first workflows stay
        cut_search(tmp_path, budget, tmp_path / "cut")
        assert tokens_of(tmp_path / "cut") == 200 * rounds
        kept = [json.loads(line)["node"] for line in (tmp_path / "cut" / "trajectories.jsonl").read_text().splitlines()]
        assert kept == [*range(rounds), *range(5, 5 + rounds)]
    trace = {"prompt_tokens": 5, "completion_tokens": 5}
    write(tmp_path / "run" / "rollouts.jsonl", [{"step": step, "reward": 0.5, "trace": trace} for step in range(12)])
    for step in (2, 4, 10):
        (tmp_path / "run" / f"checkpoint-{step}").mkdir()
    found = [reached_within(tmp_path / "run", budget) for budget in (99, 100, 39, 1)]
    assert [(path.name, tokens) for path, tokens in found] == [
        ("checkpoint-4", 40), ("checkpoint-10", 100), ("checkpoint-2", 20), ("checkpoint-2", 20),
    ]  # fmt: skip


def test_tokens_of_replayed_rows_are_nobody_s(tmp_path: Path) -> None:
    trace = {"prompt_tokens": 5, "completion_tokens": 5}
    rows = [{"step": 0, "reward": 0.5, "trace": trace}, {"step": 0, "reward": 1.0, "trace": None, "replay": {"n": 1}}]
    write(tmp_path / "rollouts.jsonl", rows)
    assert tokens_of(tmp_path) == 10
    assert tokens_to(tmp_path, 0.5, 0) is None  # of too few steps


def test_the_page_says_how_many_runs_there_are_and_compares_by_seed(tmp_path: Path) -> None:
    write_replay_page(tmp_path / "replay.md", [])
    assert "`online` 0" in (tmp_path / "replay.md").read_text()
    rows = [row(name, seed, after) for seed in range(5) for name, after in ((ONLINE, 0.5), ("mixed", 0.6))]
    write_replay_rows(tmp_path / "replay.jsonl", rows)
    assert read_replay_rows(tmp_path / "replay.jsonl") == sorted(rows, key=lambda each: (each.setting, each.seed))
    write_replay_page(tmp_path / "replay.md", [*rows, row("masked_mixed", 0, 0.7, masked_share=0.9)])
    page = (tmp_path / "replay.md").read_text()
    assert "+0.100 [+0.100, +0.100]" in page and "| 0 | 0.300 | 0.700 | 90% |" in page
    assert "`mixed` 5" not in page and "`loop` 0" in page and "Helped: `mixed`." in page


def test_the_published_page_is_that_of_its_rows(tmp_path: Path) -> None:
    page = study_replay.ROOT / "recipes" / "learning"
    rows = read_replay_rows(page / "replay.jsonl")
    write_replay_page(tmp_path / "replay.md", rows)
    assert (tmp_path / "replay.md").read_text() == (page / "replay.md").read_text()
    assert all(each.fingerprint == fingerprint(each.setting) for each in rows)
