import sys
from pathlib import Path

import pytest

from aflow_ops.errors import UsageError
from recipes.sft_warmstart import check_replaceable, main


def test_a_folder_with_anything_but_a_model_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    check_replaceable(tmp_path / "runs")
    check_replaceable(tmp_path / "absent")
    (tmp_path / "runs" / "precious.txt").write_text("here")
    with pytest.raises(UsageError, match="runs exists and holds no model"):
        check_replaceable(tmp_path / "runs")
    (tmp_path / "runs" / "config.json").write_text("{}")
    check_replaceable(tmp_path / "runs")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--resume_from_checkpoint", "auto"), "resume_from_checkpoint"),
        (("--load_in_4bit", "--use_peft", "false"), "use_peft"),
        (("--report_to", "wandbb"), "wandbb"),
    ],
)
def test_a_flag_that_would_do_nothing_is_refused(
    flags: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["sft_warmstart.py", "--use_cpu", "--bf16", "false", "--dry_run", "--output_dir", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [*command, *flags])
    with pytest.raises(UsageError, match=words):
        main()
