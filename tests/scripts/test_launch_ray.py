"""A recipe on a Ray cluster is the run that `accelerate launch` makes; a lost worker costs no more than a resume."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from aflow_ops.errors import UsageError
from scripts.launch_ray import environment, parse_arguments
from scripts.launching.worker import Job, Place, run_recipe
from tests.commands import KEY, fails, run
from tests.patience import PATIENCE
from tests.recipes.test_trainer import LAUNCHERS, ROOT, answer_right
from tests.recipes.test_training_signals import tiny_config
from tests.recipes.tiny_run import K
from tests.stub_endpoint import StubEndpoint

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason='ray is not installed: pip install -e ".[ray]"')
LAUNCH = [sys.executable, str(ROOT / "scripts/launch_ray.py")]
CPUS = ["--ray_workers", "2", "--ray_gpus_per_worker", "0"]


def variables() -> dict[str, str]:
    own = {"OPENAI_API_KEY": KEY, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    own |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    return {**{name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}, **own}


def test_the_recipes_flags_are_passed_on_and_the_launchers_are_not() -> None:
    recipe = str(ROOT / "recipes/grpo_mixed.py")
    own, flags = parse_arguments([recipe, "--ray_workers", "4", "--gpu", "t4", "--beta=0.1"])
    assert (own.ray_workers, flags) == (4, ["--gpu", "t4", "--beta=0.1"])


def test_keys_are_handed_on_and_what_belongs_to_one_machine_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("OPENAI_API_KEY", KEY), ("MY_KEY", "sk-mine"), ("OTHER", "x"), ("HF_HOME", "/hub")):
        monkeypatch.setenv(name, value)
    found = environment(["--executor_api_key_env", "MY_KEY"], [])
    assert (found["OPENAI_API_KEY"], found["MY_KEY"], found["HF_HOME"]) == (KEY, "sk-mine", "/hub")
    assert not {"OTHER", "PATH", "HOME", "CUDA_VISIBLE_DEVICES"} & found.keys()
    assert environment([], ["OTHER"])["OTHER"] == "x"
    assert KEY not in repr(Job(("recipe.py", "--hub_token", KEY), "/", found, "/"))
    with pytest.raises(UsageError, match="--ray_env NOWHERE"):
        environment([], ["NOWHERE"])


def test_a_worker_runs_the_recipe_as_a_launcher_would(tmp_path: Path) -> None:
    script = tmp_path / "recipe.py"
    names = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "OPENAI_API_KEY"]
    script.write_text(
        f"import json, os, sys\njson.dump([os.environ.get(n) for n in {names}], open(sys.argv[1], 'w'))\nsys.exit(3)"
    )
    out = tmp_path / "out.json"
    job = Job((str(script), str(out)), str(tmp_path), {"OPENAI_API_KEY": KEY}, str(ROOT))
    assert run_recipe(job, Place(5, 8, 1, 4, 1, "10.0.0.1", 1234)) == 3
    assert json.loads(out.read_text()) == ["5", "8", "1", "10.0.0.1", "1234", KEY]
    run_recipe(job, Place(0, 1, 0, 1, 0, "10.0.0.1", 1234))
    assert json.loads(out.read_text()) == [None, None, None, None, None, KEY]  # a single process has no group


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["nowhere.py"], ["nowhere.py is no file"]),
        (["recipes/grpo_mixed.py", "--ray_workers", "0"], ["--ray_workers must be at least 1"]),
        (["recipes/grpo_mixed.py", "--ray_max_failures", "1"], ["needs --ray_storage"]),
        (["recipes/grpo_mixed.py", "--ray_wrokers", "2"], ["unknown: --ray_wrokers"]),
    ],
)
def test_flags_that_cannot_be_meant_are_refused(flags: list[str], words: list[str]) -> None:
    fails(run("scripts/launch_ray.py", *flags), 2, *words)


@needs_ray
@pytest.mark.long
def test_two_workers_end_with_the_adapter_of_two_launched_processes(tmp_path: Path) -> None:
    script = str(ROOT / "tests/recipes/tiny_run.py")
    with StubEndpoint(answer_right) as stub:
        for name, launcher in (
            ("launched", [sys.executable, "-m", *LAUNCHERS["two processes"], script]),
            ("ray", [*LAUNCH, script, *CPUS]),
        ):
            command = [*launcher, stub.url, str(tmp_path / name), str(K)]
            done = subprocess.run(
                command, env=variables(), cwd=ROOT, capture_output=True, text=True, timeout=2 * PATIENCE, check=False
            )
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
            assert KEY not in done.stdout + done.stderr
        assert {key for key in stub.keys if key} == {f"Bearer {KEY}"}
    one, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("launched", "ray"))
    assert all(torch.allclose(value, other[name], atol=1e-5) for name, value in one.items())
    assert any(value.abs().sum() > 0 for name, value in one.items() if "lora_B" in name)


@needs_ray
@pytest.mark.long
def test_a_lost_worker_is_replaced_and_the_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    with StubEndpoint(answer_right, latency=0.2) as stub:
        flags = ["--config", str(tiny_config(tmp_path)), "--executor", "openai", "--max_steps", "8"]
        flags += ["--executor_base_url", stub.url]
        flags += ["--save_strategy", "steps", "--save_steps", "2", *CPUS, "--ray_storage", str(storage)]
        command = [*LAUNCH, str(ROOT / "tests/recipes/given_run.py"), *flags, "--ray_name", "kept"]
        log = (tmp_path / "log").open("w")
        process = subprocess.Popen(
            [*command, "--ray_max_failures", "1"], env=variables(), cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
        )
        first = storage / "kept" / "run" / "checkpoint-2" / "complete.json"
        deadline = time.monotonic() + 2 * PATIENCE
        while not first.is_file() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        children = psutil.Process(process.pid).children(recursive=True)
        recipes = [child for child in children if "given_run.py" in " ".join(child.cmdline()) and child != process]
        recipes = [child for child in recipes if "launch_ray.py" not in " ".join(child.cmdline())]
        assert recipes, (tmp_path / "log").read_text()[-3000:]
        recipes[-1].send_signal(signal.SIGKILL)
        assert process.wait(timeout=2 * PATIENCE) == 0, (tmp_path / "log").read_text()[-3000:]
    log.close()
    text = (tmp_path / "log").read_text()
    assert "going on" in text or "resum" in text.lower(), text[-3000:]
    assert (storage / "kept" / "run" / "adapter_model.safetensors").is_file()
    assert KEY not in text
