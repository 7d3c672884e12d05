"""A run's folder as a recipe leaves it, made in a moment: a tiny policy, an adapter that changes it, its results."""

import json
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from aflow_ops.executor.types import ExecutorUsage
from recipes.policy.tiny import build_tiny_policy, untie_embeddings
from recipes.run.config import write_config
from recipes.run.results import HeldOut, write_results
from recipes.run.role_adapters import own_adapters, write_role_adapters
from tests.conftest import KEY
from tests.recipes.tiny_run import ASK, tiny_tokenizer

GOLD = "the-gold-answer-9173"


def save_base(folder: Path, max_length: int = 2048, *, untied: bool = False) -> Path:
    tokenizer = tiny_tokenizer()
    base = build_tiny_policy(tokenizer, hidden_size=64, num_layers=1, max_length=max_length, seed=0)
    if untied:
        untie_embeddings(base)
    base.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def heldout_rows(reward: float) -> list[dict[str, object]]:
    sources = {"math": "arithmetic", "qa": "squad"}
    return [
        {"id": str(i), "source": sources[domain], "domain": domain, "workflow": ASK, "reward": reward, "answer": GOLD}
        for domain in sources
        for i in range(3)
    ]


def save_run(folder: Path, base: Path, modules_to_save: list[str] | None = None) -> Path:
    """Write `folder/run`, with everything in it that must not be published, too."""
    run = folder / "run"
    lora = LoraConfig(
        r=4, target_modules=["q_proj", "v_proj"], modules_to_save=modules_to_save, task_type="CAUSAL_LM"
    )  # fmt: skip
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora)
    model.peft_config["default"].base_model_name_or_path = str(base)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            parameter.data.normal_(std=0.3)
    model.save_pretrained(run)
    tiny_tokenizer().save_pretrained(run)
    config = {
        "sources": ["arithmetic", "squad", str(folder / "private" / "mine.jsonl")], "prompt_style": "brief",
        "output_dir": str(run), "model_name_or_path": str(base), "executor_model": "some-model",
        "executor_base_url": "http://user:secret@10.1.2.3:8000/v1", "max_steps": 2, "max_completion_length": 12,
        "executor_cache_dir": str(folder / "cache"), "eval_temperature": 0.7,
    }  # fmt: skip
    write_config(run, "recipes/grpo_mixed.py", config)
    result = HeldOut(heldout_rows(0.2), heldout_rows(0.7), {"Custom": heldout_rows(0.4), "Revise": heldout_rows(0.5)})
    write_results(run, result, {"training": 60.0}, ExecutorUsage(), [{"step": 1, "reward": 0.5}], "brief")
    for name in ("rollouts.jsonl", "executor.log", "training_args.bin", "metrics.csv"):
        (run / name).write_text(json.dumps({"answer": GOLD, "key": KEY}))
    (run / "checkpoint-2").mkdir()
    (run / "checkpoint-2" / "optimizer.pt").write_bytes(b"moments")
    return run


def give_roles(run: Path, **roles: str | None) -> None:
    """Make a run that of a team with `--adapters per_agent`: every role's weights are others."""
    weights = load_file(run / "adapter_model.safetensors")
    for number, name in enumerate(own_adapters(roles), start=2):
        (run / name).mkdir()
        shutil.copyfile(run / "adapter_config.json", run / name / "adapter_config.json")
        save_file({key: value * number for key, value in weights.items()}, run / name / "adapter_model.safetensors")
    write_role_adapters(run, roles)
