"""The Colab notebook is what its script writes, and runs from top to bottom on the embedded default."""

from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

from scripts.make_notebook import NOTEBOOK, notebook
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]


def test_the_notebook_is_what_the_script_writes() -> None:
    assert NOTEBOOK.read_text(encoding="utf-8") == notebook(), "run: python scripts/make_notebook.py"


@pytest.mark.long
def test_the_notebook_runs_without_a_key_and_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warm_start = yaml.safe_load((ROOT / "recipes/configs/quickstart_warmstart.yaml").read_text())
    warm_start |= {"num_examples": 48, "num_train_epochs": 1}
    (tmp_path / "warm.yaml").write_text(yaml.safe_dump(warm_start))
    flags = (
        f"--warm_start_config {tmp_path}/warm.yaml --model_name_or_path {tmp_path}/policy --max_steps 1 --no_baselines "
        f"--num_train_problems 6 --num_heldout_problems 3 --num_generations 4 --per_device_train_batch_size 8 "
        f"--executor_cache_dir {tmp_path}/cache"
    )
    monkeypatch.setenv("AFLOW_RECIPES_FLAGS", flags)
    monkeypatch.setenv("AFLOW_RECIPES_OUTPUTS", str(tmp_path))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    ran = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(ran, timeout=PATIENCE, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    printed = "".join(
        output.get("text", "") for cell in ran.cells if cell.cell_type == "code" for output in cell.outputs
    )
    assert "GPU: no | key: no" in printed
    assert "held-out reward" in printed
    assert (tmp_path / "colab_quickstart" / "report.html").is_file()
