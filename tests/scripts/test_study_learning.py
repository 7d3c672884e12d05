"""The learning study: a run is made once, its row is kept, and the page says what the rows say."""

import csv
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data.problem import DataError
from scripts import study_learning
from scripts.studying import settings
from scripts.studying.page import median_row, write_page
from scripts.studying.rows import StudyRow, read_rows, row_of, write_rows
from scripts.studying.settings import SETTINGS, fingerprint, flags_of


def row(seed: int, after: float, **changes: Any) -> StudyRow:
    fields: dict[str, Any] = {
        "setting": "quickstart", "seed": seed, "fingerprint": fingerprint("quickstart"), "commit": "abc", "n": 60,
        "empty_cache": False, "before": 0.3, "after": after, "gain_ci95": (0.1, 0.5), "zero_signal": 0.25,
        "domains": {"math": {"before": 0.3, "after": after, "best_fixed": 0.7}}, "curve": [0.3, after],
        "seconds": {"warm_start": 10.0, "training": 90.0},
    }  # fmt: skip
    return StudyRow(**fields | changes)


def leave_run(folder: Path, after: float = 0.6) -> None:
    """What a run of the recipe leaves, as far as the study reads it."""
    numbers = {"n": 6, "before": 0.3, "after": after, "gain_ci95": [0.1, 0.5], "baselines": {"A": 0.4, "B": 0.5}}
    router = {"workflows": {"all": "B"}, "n": 6, "reward": 0.5, "difference": 0.1, "difference_ci95": [0.0, 0.2]}
    heldout = {**numbers, "by_domain": {"math": numbers}, "routers": {"single": router}}
    summary = {"heldout": heldout, "seconds": {"training": 9.5}}
    (folder / "summary.json").write_text(json.dumps(summary))
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "reward", "wa_grpo/zero_signal_before", "executor/tokens"])
        writer.writeheader()
        for step in (1, 2):
            writer.writerow(dict(zip(writer.fieldnames, (step, 0.1 * step, 0.5, 100 * step), strict=True)))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Runs of the recipe are noted, and leave their files at once."""
    commands: list[list[str]] = []
    real = subprocess.run

    def run(command: list[str], **options: Any) -> Any:
        if "grpo_mixed.py" not in str(command[1]):
            return real(command, **options)
        commands.append(command)
        leave_run(Path(command[command.index("--output_dir") + 1]))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(study_learning.subprocess, "run", run)
    return commands


def study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *flags: str) -> None:
    places = ["--output", str(tmp_path / "runs"), "--page", str(tmp_path / "page"), "--cache", str(tmp_path / "cache")]
    monkeypatch.setattr(sys, "argv", ["study_learning.py", *places, *flags])
    study_learning.main()


def test_a_study_goes_on_where_it_was_stopped(
    runs: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    study(monkeypatch, tmp_path, "--seeds", "0")
    study(monkeypatch, tmp_path, "--seeds", "0", "1", "--empty_cache")
    assert [command[command.index("--seed") + 1] for command in runs] == ["0", "1"]
    rows = read_rows(tmp_path / "page" / "rows.jsonl")
    assert [(item.seed, item.empty_cache) for item in rows] == [(0, False), (1, True)]
    assert rows[0].routers == {"single": {"reward": 0.5, "difference": 0.1, "ci95": [0.0, 0.2]}}
    assert rows[0].curve == [0.1, 0.2] and rows[0].tokens == 200 and rows[0].domains["math"]["best_fixed"] == 0.5
    assert (tmp_path / "page" / "curves.png").stat().st_size > 5_000


def test_a_step_in_which_no_workflow_ran_says_nothing_of_tokens(tmp_path: Path) -> None:
    leave_run(tmp_path)
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    (tmp_path / "metrics.csv").write_text("\n".join([*lines[:-1], lines[-1].rpartition(",")[0] + ","]))
    assert row_of(tmp_path, "quickstart", 0, "f", "c", empty_cache=False).tokens is None


def test_a_setting_is_another_one_with_another_corpus_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    corpus, warm_start = tmp_path / "corpus.yaml", tmp_path / "warmstart.yaml"
    corpus.write_text("workflows: []")
    warm_start.write_text(f"corpus: [{corpus}]")
    monkeypatch.setattr(settings, "configs_of", lambda setting: (settings.QUICKSTART[0], warm_start))
    before = fingerprint("smollm2")
    assert fingerprint("smollm2") == before
    corpus.write_text("workflows: [] # one more")
    assert fingerprint("smollm2") != before


def test_rows_of_other_settings_than_today_s_are_made_anew(
    runs: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = [dataclasses.replace(row(seed, 0.9), fingerprint="of another corpus") for seed in (0, 1)]
    write_rows(tmp_path / "page" / "rows.jsonl", old)
    study(monkeypatch, tmp_path, "--seeds", "0")
    assert [(item.seed, item.after) for item in read_rows(tmp_path / "page" / "rows.jsonl")] == [(0, 0.6)]


def test_the_page_counts_what_failed_and_names_the_median_run(tmp_path: Path) -> None:
    rows = [row(0, 0.8), row(1, 0.64), row(2, 0.2, gain_ci95=(-0.2, 0.1))]
    assert median_row(rows).seed == 1
    write_page(tmp_path, [*rows, row(0, 0.5, setting="grpo_k4"), row(7, 0.5, setting="grpo_k2")])
    page = (tmp_path / "README.md").read_text()
    assert "median after training 0.640 (median run: seed 1)" in page
    assert "interval above 0: 2 of 3 (not seed 2)" in page
    assert "below where it began: 2 of 3 (not seed 2)" in page
    assert "best fixed workflow: 2 of 3 (not seed 2)" in page
    assert "| grpo_k4 | 1 | 25% | 0.300 | 0.500 | 0.500 | 1 of 1 | -0.300 |" in page
    assert "| grpo_k2 | 1 | 25% | 0.300 | 0.500 | 0.500 | 1 of 1 |  |" in page
    assert "WA-GRPO against plain GRPO" not in page


def test_tie_breaks_are_compared_with_plain_grpo_on_shared_seeds(tmp_path: Path) -> None:
    ours = [row(seed, after, setting="wa_grpo_k8", tokens=300.0) for seed, after in ((0, 0.7), (1, 0.75), (2, 0.1))]
    plain = [row(seed, after, setting="grpo_k8", tokens=400.0) for seed, after in ((0, 0.6), (1, 0.65), (5, 0.9))]
    old = [row(0, 0.7, setting="wa_grpo_k2"), row(0, 0.7, setting="grpo_k2", tokens=400.0)]
    write_page(tmp_path, [row(0, 0.8), *ours, *plain, *old])
    page = (tmp_path / "README.md").read_text()
    assert "| 8 | 2 | 25% | 25% | 0.625 | 0.725 | +0.100 [+0.100, +0.100] | 400 | 300 | -25% [-25%, -25%] |\n" in page
    assert "| 2 | 1 | 25% | 25% | 0.700 | 0.700 | +0.000 |  |  |  |\n" in page and "| 4 |" not in page
    assert "| quickstart | 1 | 25% | 0.300 | 0.800 | 0.800 | 1 of 1 | +0.100 |" in page, "beside the others' runs"


def test_the_harder_lesson_has_its_own_files_and_table(tmp_path: Path) -> None:
    fixed = {"single": 0.4, "by_domain": 0.5, "by_source": 0.7}
    routers = {name: {"reward": reward, "difference": 0.1, "ci95": [0.02, 0.2]} for name, reward in fixed.items()}
    rows = [row(seed, 0.6, setting="harder", routers=routers) for seed in (0, 1)]
    write_page(tmp_path / "alone", rows)
    write_page(tmp_path, [*rows, row(0, 0.8)])
    page = (tmp_path / "README.md").read_text()
    assert "| 1 | 0.300 | **0.600** | 0.400 | 0.500 | 0.700 | +0.100 [+0.020, +0.200] | 100 | `abc` |" in page
    assert "| median | 0.300 | **0.600** | 0.400 | 0.500 | 0.700 | +0.100 |" in page
    assert "own interval above 0: 2 of 2" in page and "Settings compared" not in page
    flags = flags_of("harder", 0, tmp_path, tmp_path / "cache")
    assert flags[flags.index("--config") + 1].endswith("harder.yaml")


def test_the_pretrained_policy_has_its_own_files_and_plot(tmp_path: Path) -> None:
    router = {"reward": 0.5, "difference": 0.1, "ci95": [0.02, 0.2]}
    write_page(tmp_path, [row(0, 0.6, setting="smollm2", routers={"single": router}), row(0, 0.8), row(1, 0.7)])
    page = (tmp_path / "README.md").read_text()
    assert "One run: +0.100 [+0.020, +0.200] against the best fixed workflow; each was" in page
    assert "## A pretrained policy" in page and "![Training reward of every seed](curves_smollm2.png)" in page
    assert (tmp_path / "curves_smollm2.png").is_file() and "Settings compared" not in page
    flags = flags_of("smollm2", 0, tmp_path, tmp_path / "cache")
    assert flags[flags.index("--config") + 1].endswith("smollm2.yaml")


def test_every_setting_has_its_own_fingerprint_and_the_seed_of_its_run(tmp_path: Path) -> None:
    assert len({fingerprint(setting) for setting in SETTINGS}) == len(SETTINGS)
    flags = flags_of("grpo_k4", 7, tmp_path, tmp_path / "cache")
    assert flags[flags.index("--seed") + 1] == "7" and flags[flags.index("--num_generations") + 1] == "4"


def test_a_line_that_is_no_row_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"seed": 1}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl, line 1"):
        read_rows(tmp_path / "rows.jsonl")


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    leave_run(tmp_path)
    made = row_of(tmp_path, "quickstart", 3, "f", "c", empty_cache=True)
    write_rows(tmp_path / "rows.jsonl", [made])
    assert read_rows(tmp_path / "rows.jsonl") == [made]


def test_the_readme_tells_what_the_rows_say_of_the_quickstart_as_it_is() -> None:
    rows = [row for row in read_rows(study_learning.PAGE / "rows.jsonl") if row.setting == "quickstart"]
    assert {row.fingerprint for row in rows} == {fingerprint("quickstart")}, "make bench-learning, or take it out"
    middle = median_row(rows)
    text = " ".join((study_learning.ROOT / "README.md").read_text(encoding="utf-8").split())
    lowest, highest = min(row.after for row in rows), max(row.after for row in rows)
    assert f"On {len(rows)} seeds, " in text and f"it ended between {lowest:.2f} and {highest:.2f}" in text
    assert f"The median run, seed {middle.seed}, went from {middle.before:.2f} to {middle.after:.2f}" in text
    assert f"({sum(row.gains for row in rows)} of {len(rows)})" in text


def test_the_studies_own_rows_make_no_commit_dirty(tmp_path: Path) -> None:
    page = tmp_path / study_learning.PAGE.relative_to(study_learning.ROOT)
    page.mkdir(parents=True)
    for file in (page / "rows.jsonl", tmp_path / "code.py"):
        file.write_text("before")
    assert study_learning.commit_of(tmp_path) == "unknown"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True)
    (page / "rows.jsonl").write_text("after")
    commit = study_learning.commit_of(tmp_path)
    assert len(commit) == 10
    (tmp_path / "code.py").write_text("after")
    assert study_learning.commit_of(tmp_path) == f"{commit}-dirty"
