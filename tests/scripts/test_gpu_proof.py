"""The proof for GPUs: its cases, what they are held against, and the whole of it in miniature."""

import json
import sys
from pathlib import Path

import pytest

from scripts.gpu_proof import missing, outcome, shown
from scripts.proving.cases import Case, cases, read_peaks
from tests.commands import run_process
from tests.patience import PATIENCE


def test_a_large_card_is_shown_every_class_and_a_small_machine_the_same_in_miniature(tmp_path: Path) -> None:
    large, small = ([case.name for case in cases(tmp_path, gib)] for gib in (79.2, None))
    for name in ("Qwen2.5-7B-Instruct: peaks of h100_80gb", "Qwen2.5-1.5B-Instruct: a step, vllm, --rollouts_ahead 1"):
        assert name in large
    assert not any("h200" in name for name in large)
    assert "miniature: a step, transformers, plain TRL" in small and "resume: the same adapter" in small
    assert len(set(large)) == len(large)


def test_peaks_are_held_within_a_tenth() -> None:
    phases = {name: {"total": size} for name, size in (("prefill", 9.0), ("decode", 10.0), ("update", 20.0))}
    for update, ok in ((19.0, True), (25.0, False)):
        values = {"plans": [{"phases": phases}], "measured": {"device": "card", "generate": 10.0, "update": update}}
        found = read_peaks(values)
        assert found["ok"] is ok and found["predicted_gib"] == {"generate": 10.0, "update": 20.0}
        assert found["worst"].startswith("update")


def test_what_a_machine_lacks_is_said_and_what_fails_is_told() -> None:
    case = Case("x", (), ("cuda", "a_package_that_is_nowhere"))
    assert missing(case, cuda=False) == "cuda"
    assert missing(case, cuda=True) == "a_package_that_is_nowhere"
    assert shown({"name": "x", "needs": "cuda"}) == "not here: needs cuda"
    failed = outcome(Case("x", (sys.executable, "-c", "raise SystemExit('no such card')")))
    assert (failed["ok"], failed["error"]) == (False, "no such card")
    worked = outcome(Case("x", (sys.executable, "-c", "print('noise'); print('{\"ok\": true, \"steps\": 3}')")))
    assert worked["ok"] and shown({"name": "x", **worked}) == "steps 3"


@pytest.mark.long
@pytest.mark.timeout(4 * PATIENCE)
def test_the_whole_proof_runs_in_miniature(tmp_path: Path) -> None:
    # A dozen processes, one after the other.
    done = run_process(
        "scripts/gpu_proof.py", "--miniature", "--output", tmp_path / "proof.json", patience=3 * PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    proof = json.loads((tmp_path / "proof.json").read_text())
    assert {case["needs"] for case in proof["cases"] if "needs" in case} == {"cuda"}
    assert sum(case.get("ok", False) for case in proof["cases"]) >= 6
