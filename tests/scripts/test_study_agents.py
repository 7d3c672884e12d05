"""The agents' study: a run that is missing is made, its row kept, and the page tells what the rows say."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.problem import DataError
from scripts import study_agents
from scripts.studying.agent_page import write_agent_page
from scripts.studying.agent_rows import (
    SETTINGS,
    TEAMS,
    AgentRow,
    fingerprint,
    read_agent_rows,
    row_of,
    write_agent_rows,
)


def row(team: str, seed: int, after: float, setting: str = "joint", **changes: Any) -> AgentRow:
    made = AgentRow(
        team, setting, seed, fingerprint(team, setting), "abc", 100, 0.3, after, (0.1, 0.5), (0.5, 0.6), 0.4,
        {"training": 90.0, "warm_start": 30.0},
    )  # fmt: skip
    return replace(made, **changes)


def leave_run(folder: Path, metrics: dict[str, float]) -> None:
    """What a run of a team leaves, as far as the study reads it."""
    heldout = {"n": 6, "before": 0.3, "after": 0.6, "gain_ci95": [0.1, 0.5], "baselines": {"single_agent": 0.4}}
    summary = {"heldout": heldout, "agents": {"before": metrics, "after": metrics}, "seconds": {"training": 9.5}}
    (folder / "summary.json").write_text(json.dumps(summary))


def test_a_study_goes_on_where_it_was_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands: list[list[str]] = []
    real = subprocess.run

    def run(command: list[str], **options: Any) -> Any:
        if not str(command[1]).startswith(str(study_agents.ROOT / "recipes")):
            return real(command, **options)
        commands.append(command)
        leave_run(Path(command[command.index("--output_dir") + 1]), {"verifier/balanced_accuracy": 0.7})
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(study_agents.subprocess, "run", run)
    for flags in (["--seeds", "0"], ["--seeds", "0", "1", "--settings", "joint", "separate", "--jobs", "2"]):
        places = ["--output", str(tmp_path / "runs"), "--page", str(tmp_path / "page"), "--teams", "math_tool"]
        monkeypatch.setattr(sys, "argv", ["study_agents.py", *places, *flags])
        study_agents.main()
    made = [(command[command.index("--seed") + 1], "per_agent" in command) for command in commands]
    assert made[0] == ("0", False) and sorted(made[1:]) == [("0", True), ("1", False), ("1", True)]
    rows = read_agent_rows(tmp_path / "page" / "agents.jsonl")
    assert len(rows) == 4 and rows[0].verdicts == (0.7, 0.7) and rows[0].alone == 0.4
    assert (tmp_path / "page" / "agents.md").is_file()


def test_the_page_tells_what_held_and_compares_settings_on_their_seeds(tmp_path: Path) -> None:
    rows = [
        row("math_tool", 0, 0.7),
        row("math_tool", 1, 0.36, gain_ci95=(-0.1, 0.2), verdicts=(0.6, 0.55)),
        row("math_tool", 0, 0.8, "separate"),
        row("deepcoder", 2, 0.6, verdicts=None),
    ]
    write_agent_page(tmp_path / "agents.md", rows)
    page = (tmp_path / "agents.md").read_text()
    assert "| 0 | 100 | 0.30 | **0.70** | +0.40 [+0.10, +0.50] | 0.50 → 0.60 | 0.40 | 120 | `abc` |" in page
    assert "gain's interval above 0: 1 of 2; mean gain +0.23" in page and "single agent: 1 of 2" in page
    assert "verdicts better than before and than 0.5: 1 of 2" in page
    assert "| joint | 0.70 [+0.10, +0.50], 0.60 | 0.70 |" in page
    assert "| separate (`--adapters per_agent`) | 0.80 [+0.10, +0.50], 0.60 | 0.80 |" in page
    assert "## deepcoder" in page and "## swe" not in page


def test_rows_come_back_as_they_were_and_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    leave_run(tmp_path, {"answer_correct": 0.5})
    made = [row_of(tmp_path, "search_qa", "joint", 3, "f", "c"), row("swe", 0, 0.5)]
    write_agent_rows(tmp_path / "rows.jsonl", made)
    assert read_agent_rows(tmp_path / "rows.jsonl") == made and made[0].verdicts is None
    (tmp_path / "rows.jsonl").write_text('{"seed": 1}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl, line 1"):
        read_agent_rows(tmp_path / "rows.jsonl")


def test_every_team_and_setting_has_its_own_fingerprint_and_the_rows_are_of_todays() -> None:
    assert len({fingerprint(team, setting) for team in TEAMS for setting in SETTINGS}) == len(TEAMS) * len(SETTINGS)
    rows = read_agent_rows(study_agents.PAGE / "agents.jsonl")
    assert all(row.fingerprint == fingerprint(row.team, row.setting) for row in rows), "python scripts/study_agents.py"
