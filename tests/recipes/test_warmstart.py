from pathlib import Path

import pytest

from aflow_ops.errors import UsageError
from recipes.sft_warmstart import check_replaceable


def test_a_folder_with_anything_but_a_model_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    check_replaceable(tmp_path / "runs")
    check_replaceable(tmp_path / "absent")
    (tmp_path / "runs" / "precious.txt").write_text("here")
    with pytest.raises(UsageError, match="runs exists and holds no model"):
        check_replaceable(tmp_path / "runs")
    (tmp_path / "runs" / "config.json").write_text("{}")
    check_replaceable(tmp_path / "runs")
