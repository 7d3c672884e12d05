"""The quickstart cut to a few steps, and what it came to, byte for byte but for times.

Run it before and after a change that must change nothing that is computed; the second run gets the first one's replies
of the executor, and says what is not the same:

    python tests/recipes/short_quickstart.py FOLDER     # keeps FOLDER/cache, and each run in FOLDER/1, FOLDER/2, ...
    python tests/recipes/short_quickstart.py FOLDER ../before   # the code of another working tree, of an earlier commit
"""

import csv
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
LIMIT = 1200.0  # seconds; only what hangs uses them up
# Of a rollout and its calls: how long it took, and whether a reply was in the cache yet.
NOT_COMPARED = frozenset({"seconds", "lost_seconds", "cached"})
# Of `metrics.csv`, by a part of the name: the same.
NOT_COMPARED_COLUMNS = ("seconds", "time", "cache", "per_second", "cost_usd", "executor/efficiency")


def launch(folder: Path, *flags: str, run: str = "run", tree: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the quickstart with a warm start of 48 examples; its policy and its cache are in `folder` too.

    Args:
        folder (`Path`): of everything that it leaves.
        flags (`str`): further ones, and others for those here.
        run (`str`): name of the run's own folder.
        tree (`Path`): whose code and configs.
    """
    configs = tree / "recipes" / "configs"
    warm_start = yaml.safe_load((configs / "quickstart_warmstart.yaml").read_text())
    warm_start |= {"num_examples": 48, "num_train_epochs": 1}
    (folder / "warm.yaml").write_text(yaml.safe_dump(warm_start))
    command = [
        sys.executable, str(tree / "recipes" / "grpo_mixed.py"), "--config", str(configs / "quickstart.yaml"),
        "--warm_start_config", str(folder / "warm.yaml"), "--model_name_or_path", str(folder / "policy"),
        "--output_dir", str(folder / run), "--executor_cache_dir", str(folder / "cache"),
        "--num_train_problems", "6", "--num_heldout_problems", "3", "--num_generations", "4",
        "--per_device_train_batch_size", "8", *flags,
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "WANDB_"))}
    environment["PYTHONPATH"] = str(tree)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False)


def compared(run: Path) -> dict[str, Any]:
    """Return what two runs on the same replies have in common: adapter, rollouts, held-out rows, metrics."""
    rows = {
        name: [_without_times(json.loads(line)) for line in (run / name).read_text(encoding="utf-8").splitlines()]
        for name in ("rollouts.jsonl", "heldout.jsonl")
    }
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        metrics = [
            {name: value for name, value in row.items() if not any(part in name for part in NOT_COMPARED_COLUMNS)}
            for row in csv.DictReader(file)
        ]
    return {
        "adapter_model.safetensors": (run / "adapter_model.safetensors").read_bytes(),
        **rows,
        "metrics.csv": metrics,
    }


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_times(item) for name, item in value.items() if name not in NOT_COMPARED}
    return [_without_times(item) for item in value] if isinstance(value, list) else value


def five_steps(folder: Path, name: str, tree: Path = ROOT) -> dict[str, Any]:
    """Train a policy of this run's own for five steps, on the replies that `folder` has.

    Raises:
        RuntimeError: the run failed; with the end of what it said.
    """
    (folder / name).mkdir(parents=True)
    done = launch(
        folder, "--max_steps", "5", "--num_train_problems", "12", "--num_heldout_problems", "6", "--no_baselines",
        "--per_device_train_batch_size", "24", "--model_name_or_path", str(folder / name / "policy"),
        run=f"{name}/run", tree=tree,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return compared(folder / name / "run")


def main() -> int:
    """Make the next run in the folder and hold it against the first one."""
    folder = Path(sys.argv[1]).resolve()
    tree = Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else ROOT
    names = sorted((path.name for path in folder.glob("[0-9]*") if (path / "run").is_dir()), key=int)
    found = five_steps(folder, str(len(names) + 1), tree)
    before = compared(folder / names[0] / "run") if names else found
    for name, value in found.items():
        digest = hashlib.sha256(value if isinstance(value, bytes) else json.dumps(value).encode()).hexdigest()
        print(f"{name:<28} {digest[:16]}  {'the same' if value == before[name] else 'ANOTHER'}")
    return int(found != before)


if __name__ == "__main__":
    sys.exit(main())
