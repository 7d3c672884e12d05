"""What libraries would refuse in the middle of a run is one line and exit code 2 before anything is loaded or paid."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from trl import ModelConfig

from aflow_ops.errors import UsageError
from recipes.settings.rehearsal import check_base_model, rehearse_adapter
from tests.commands import run
from tests.recipes.tiny_run import tiny_tokenizer

# It runs without a GPU.
QUICKSTART = ("recipes/grpo_mixed.py", "--config", "recipes/configs/quickstart.yaml")
REFUSED = [
    ("--scale_rewards False", "scale_rewards"),
    ("--temperature 0", "temperature=0"),
    ("--top_k -1 --top_p 0", "top_p=0"),
    ("--top_k -1", "top_k=-1"),
    ("--seed -1", "seed=-1"),
    ("--eval_strategy steps", "--heldout_every"),
    ("--lora_r 0", "lora_r=0"),
    ("--lora_dropout 1.5", "lora_dropout=1.5"),
    ("--loss_type nonsense", "loss_type=nonsense"),
    ("--save_strategy best", "save_strategy"),
    ("--learning_rate -1", "learning_rate=-1"),
    ("--max_steps 0 --num_train_epochs 0", "num_train_epochs=0 with max_steps=0"),
    ("--adam_beta1 2", "optim="),
    ("--lr_scheduler_type inverse_sqrt_of_nothing", "lr_scheduler_type"),
    ('--generation_kwargs {"tempo":1}', "tempo"),
]


@pytest.mark.parametrize(("flags", "named"), REFUSED, ids=[flags for flags, _ in REFUSED])
def test_a_value_that_cannot_work_is_named_before_anything_starts(flags: str, named: str, tmp_path: Path) -> None:
    output = tmp_path / "run"
    done = run(*QUICKSTART, "--output_dir", output, *flags.split())
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert named in line
    assert "Traceback" not in done.stderr
    assert not output.exists()


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed here")
def test_an_optimizer_without_its_package_names_the_extra(tmp_path: Path) -> None:
    done = run(*QUICKSTART, "--optim", "adamw_8bit", "--output_dir", tmp_path / "run")
    assert done.returncode == 2, done.stderr
    assert "optim=adamw_8bit" in done.stderr
    assert 'pip install --editable ".[quantized]"' in done.stderr


def test_an_adapter_that_does_not_fit_its_model_is_told_without_its_weights(tmp_path: Path) -> None:
    from recipes.policy.tiny import build_tiny_policy

    policy = build_tiny_policy(tiny_tokenizer(), hidden_size=64, num_layers=1, max_length=64, seed=0)
    policy.config.save_pretrained(tmp_path)

    def model(*modules: str) -> ModelConfig:
        return ModelConfig(model_name_or_path=str(tmp_path), use_peft=True, lora_target_modules=list(modules))

    rehearse_adapter(model("q_proj", "v_proj"))
    with pytest.raises(UsageError, match=re.escape(f"does not fit {tmp_path}")):
        rehearse_adapter(model("query_key_value", "dense"))
    assert torch.get_default_device() == torch.device("cpu")


def test_an_adapters_folder_is_no_policy_to_train(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"is an adapter.*scripts/merge_adapter\.py"):
        check_base_model(ModelConfig(model_name_or_path=str(tmp_path)))
    (tmp_path / "config.json").write_text("{}")  # a model with an adapter beside it
    check_base_model(ModelConfig(model_name_or_path=str(tmp_path)))


def test_a_key_that_stands_twice_in_a_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    config = tmp_path / "twice.yaml"
    config.write_text("lora_r: 8\nsources: [arithmetic]\nlora_r: 16\n")
    done = run("recipes/grpo_math.py", "--config", config, "--dry_run", "--output_dir", tmp_path / "run")
    assert done.returncode == 2, done.stderr
    assert "lora_r stands twice" in done.stderr
    assert "line 3" in done.stderr
