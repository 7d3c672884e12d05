"""One case of the proof: `python -m scripts.proving.step WHAT ...` prints one JSON object last."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig

from data.registry import load_problems
from recipes.policy.tiny import train_tokenizer
from scripts.benching.pipeline import Setup, StepTimes, plain_step_times, step_times
from scripts.benching.serving import endpoint
from scripts.planning.shape import read_config
from scripts.proving.cases import SMALL_MODEL

# Seconds of the endpoint for a whole workflow of four calls.
LATENCY, CALLS = 2.0, 4
WORKFLOW = (
    "async def workflow(problem):\n    text = problem\n"
    f"    for _ in range({CALLS}):\n"
    "        text = (await custom(input=text + '{}'))['response']\n    return text"
)


def length(completions: Sequence[Any], **_: Any) -> list[float]:
    """Reward that tells completions of random weights apart, so that there is something to learn."""
    return [len(str(completion)) % 17 / 17 for completion in completions]


def make_model(name: str, folder: Path) -> dict[str, Any]:
    """Write a model of random weights, in the architecture of a published one, with a tokenizer of ours."""
    tokenizer = train_tokenizer([problem.view.text for problem in load_problems("arithmetic", "train", 50, 0)], 512)
    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=512, **small) if name == SMALL_MODEL else read_config(name)[0]
    for token in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config, token, getattr(tokenizer, token))
    cuda = torch.cuda.is_available()
    with torch.device("cuda" if cuda else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if cuda else torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"parameters": model.num_parameters(), "ok": True}


def step(told: dict[str, Any]) -> dict[str, Any]:
    """Time a step of a trainer, with the endpoint's 2 s a workflow."""
    setup = Setup(told["model"], told["batch"], told["generations"], told["length"], settings_of(told))
    if told["trainer"] == "plain":
        times = plain_step_times(WORKFLOW, setup)
    else:
        with endpoint(LATENCY / CALLS) as url:
            times = step_times(url, WORKFLOW, rollouts_ahead=int(told["trainer"]), setup=setup)
    return {**_seconds(times), "tokens_per_second": round(told["batch"] * told["length"] / times.whole, 1), "ok": True}


def settings_of(told: dict[str, Any]) -> dict[str, Any]:
    """Return the trainer's values for a sampler and this machine."""
    if not torch.cuda.is_available():
        return {"use_cpu": True, "bf16": False, "activation_checkpointing": False}
    micro = min(8, told["batch"])
    values = {"bf16": True, "per_device_train_batch_size": micro, "gradient_accumulation_steps": told["batch"] // micro}
    if told["sampler"] == "vllm":
        values |= {"use_vllm": True, "vllm_mode": "colocate", "vllm_gpu_memory_utilization": 0.3}
    return values


def _seconds(times: StepTimes) -> dict[str, float]:
    peak = torch.cuda.max_memory_reserved() / 2**30 if torch.cuda.is_available() else 0.0
    return {"step_seconds": round(times.whole, 3), "waited_seconds": round(times.waited, 3), "peak_gib": round(peak, 2)}


def run(model: str, folder: Path, *flags: str, steps: int = 2) -> dict[str, Any]:
    """Train a recipe for a few steps, against an endpoint that is never asked: random weights write no workflow."""
    cpu = [] if torch.cuda.is_available() else ["--use_cpu", "true", "--bf16", "false"]
    command = [
        sys.executable, "recipes/grpo_math.py", "--model_name_or_path", model, "--output_dir", str(folder),
        "--sources", "arithmetic", "--num_train_problems", "8", "--num_heldout_problems", "2", "--baselines", "false",
        "--prompt_style", "brief", "--num_generations", "4", "--per_device_train_batch_size", "4",
        "--gradient_accumulation_steps", "1", "--max_completion_length", "24", "--max_steps", str(steps),
        "--lr_scheduler_type", "constant", "--warmup_steps", "0", "--report_to", "none", "--executor_cache_dir", "none",
        "--reward_funcs", "workflow", "scripts.proving.step:length", "--use_vllm", "false", *cpu, *flags,
    ]  # fmt: skip
    start = time.monotonic()
    with endpoint(0) as url:
        environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "OPENAI_API_KEY": "sk-proof"}
        subprocess.run([*command, "--executor_base_url", url], check=True, stdout=sys.stderr, env=environment)
    return {"seconds": round(time.monotonic() - start, 1), "ok": (folder / "adapter_model.safetensors").is_file()}


def resume(model: str, whole: Path, resumed: Path) -> dict[str, Any]:
    """Hold a run of four steps against the same that goes on from its second step, with rollouts ahead."""
    flags = ("--save_strategy", "steps", "--save_steps", "2", "--rollouts_ahead", "1")
    run(model, whole, *flags, steps=4)
    shutil.copytree(whole, resumed)
    shutil.rmtree(resumed / "checkpoint-4")
    run(model, resumed, *flags, "--resume_from_checkpoint", "auto", steps=4)
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in (whole, resumed))
    moved = max(float(value.abs().max()) for name, value in one.items() if "lora_B" in name)
    difference = max(float((value - other[name]).abs().max()) for name, value in one.items())
    return {"largest_difference": difference, "moved": moved, "ok": moved > 0 and difference <= 1e-5 * moved}


def stage(folder: Path) -> dict[str, Any]:
    """Write what would be pushed to the Hub."""
    command = [sys.executable, "scripts/push_to_hub.py", str(folder), "--hub_model_id", "proof/proof", "--dry_run"]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    subprocess.run(command, check=True, stdout=sys.stderr, env=environment)
    files = sorted(path.name for path in (folder / "hub").iterdir())
    return {"files": len(files), "ok": "adapter_model.safetensors" in files and "README.md" in files}


def main() -> None:
    """Run the case that the command line names."""
    what, *words = sys.argv[1:]
    os.environ.setdefault("OPENAI_API_KEY", "sk-proof")
    match what:
        case "model":
            values = make_model(words[0], Path(words[1]))
        case "step":
            values = step(json.loads(words[0]))
        case "run":
            values = run(words[0], Path(words[1]), *words[2:])
        case "resume":
            values = resume(words[0], Path(words[1]), Path(words[2]))
        case _:
            values = stage(Path(words[0]))
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()
