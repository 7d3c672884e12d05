import inspect
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from trl import GRPOConfig, ModelConfig, SFTConfig, TrlParser

from aflow_ops.errors import UsageError
from aflow_ops.executor import ExecutorConfig
from data.domains import DOMAINS, DomainRow
from data.mixing import parse_mix
from data.registry import load_problems
from recipes import grpo_aime, grpo_code, grpo_math, grpo_mixed, grpo_qa, grpo_search
from recipes.dpo_search import DPOSearchArguments
from recipes.grpo_replay import GRPOReplayArguments
from recipes.settings.arguments import RecipeArguments, WorkflowDPOConfig, WorkflowGRPOConfig
from recipes.settings.checks import check_domains, check_output, check_packages, warn_of_spread_model
from recipes.settings.effective import SHOWN, effective_values
from recipes.settings.gpus import detect_gpu, gpu_class
from recipes.settings.layers import CONFIGS
from recipes.settings.parse import parse_arguments
from recipes.settings.places import from_here_or_project
from recipes.settings.search_loop import SearchLoopArguments
from recipes.sft_warmstart import WarmStartArguments
from recipes.sft_warmstart import main as warm_start_main
from recipes.training.problems import mixed_problems
from recipes.training.trl_internals import train_in_float32
from rewards.domains import DOMAIN_REWARDS, DomainRewards
from rewards.graders.math import grade_math
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
OTHERS = ("gpus", "dpo_search", "grpo_replay")
# tests/recipes/test_agent_recipes.py
AGENTS = ("math_tool", "deepcoder", "search_qa", "swe", "deepresearch")
OURS = [path for path in CONFIGS.glob("*.yaml") if not path.stem.startswith(AGENTS)]
GRPO = sorted(path for path in OURS if "warmstart" not in path.name and path.stem not in OTHERS)
LOOP = sorted(CONFIGS.glob("grpo_search*.yaml"))
WARM_STARTS = sorted(path for path in OURS if path.name.endswith("warmstart.yaml"))
LAUNCH = sorted((ROOT / "accelerate_configs").glob("*.yaml"))
Run = Callable[..., str]
RECIPES: dict[str, Any] = {
    recipe.__name__.rpartition(".")[2]: recipe for recipe in (grpo_aime, grpo_code, grpo_math, grpo_mixed, grpo_qa)
}
# (K, B, gradient accumulation) of the specification
SPECIFICATION = {
    "t4": (2, 2, 8),
    "v100": (2, 3, 6),
    "a100_40gb": (4, 4, 4),
    "a100_80gb": (4, 8, 2),
    "h100_80gb": (8, 8, 2),
    "h200_141gb": (8, 8, 2),
}


@pytest.mark.parametrize("path", GRPO, ids=lambda path: path.stem)
def test_every_key_of_a_recipes_yaml_is_a_flag(path: Path) -> None:
    recipe = SearchLoopArguments if path in LOOP else RecipeArguments
    parser = TrlParser((recipe, WorkflowGRPOConfig, ModelConfig, ExecutorConfig))
    assert parser.set_defaults_with_config(**yaml.safe_load(path.read_text())) == []


@pytest.mark.parametrize("path", WARM_STARTS, ids=lambda path: path.stem)
def test_every_key_of_a_warm_starts_yaml_is_a_flag(path: Path) -> None:
    parser = TrlParser((WarmStartArguments, SFTConfig, ModelConfig))
    assert parser.set_defaults_with_config(**yaml.safe_load(path.read_text())) == []


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("dpo_search", (DPOSearchArguments, WorkflowDPOConfig, ModelConfig, ExecutorConfig)),
        ("grpo_replay", (GRPOReplayArguments, WorkflowGRPOConfig, ModelConfig)),
    ],
)
def test_every_key_of_a_yaml_for_trajectories_is_a_flag(name: str, classes: tuple[Any, ...]) -> None:
    values = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert TrlParser(classes).set_defaults_with_config(**values) == []


@pytest.mark.parametrize("name", SPECIFICATION)
def test_gpu_classes_are_the_specification(name: str) -> None:
    k, b, accumulation = SPECIFICATION[name]
    values = gpu_class(name).values
    assert values["num_generations"] == k
    assert values["per_device_train_batch_size"] * values["gradient_accumulation_steps"] == k * b * accumulation
    assert values["lora_alpha"] == values["lora_r"] == (64 if name in ("t4", "v100") else 128)
    assert values.get("fp16", False) == values.get("load_in_4bit", False) == (name in ("t4", "v100"))
    launch = yaml.safe_load((ROOT / "accelerate_configs" / f"{name}.yaml").read_text())
    assert launch["mixed_precision"] == ("fp16" if values.get("fp16") else "bf16")


@pytest.mark.parametrize("name", ["grpo_mixed", "grpo_math", "grpo_code", "grpo_qa", "grpo_aime"])
def test_recipes_train_with_the_specified_values(name: str) -> None:
    values = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    expected = {
        "model_name_or_path": "Qwen/Qwen2.5-7B-Instruct", "executor_model": "gpt-4o-mini", "learning_rate": 2e-5,
        "max_steps": 500, "warmup_steps": 100, "epsilon": 0.2, "beta": 0.005, "max_grad_norm": 1.0,
        "weight_decay": 0.01, "top_p": 0.95, "top_k": 50, "temperature": 0.5, "temperature_final": 0.15,
        "temperature_steps": 150, "workflow_timeout": 180, "logging_steps": 5, "save_steps": 20,
        "lora_dropout": 0.05, "scale_rewards": "batch",
    }  # fmt: skip
    assert {key: values[key] for key in expected} == expected


def test_flags_win_over_the_yaml_and_the_yaml_over_the_gpu_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    cpu = ["--config", str(CONFIGS / "grpo_mixed.yaml"), "--use_cpu", "--bf16", "False", "--fp16", "False"]
    values = parse_arguments("grpo_mixed.yaml", "", [*cpu, "--gpu", "h100_80gb", "--learning_rate", "1e-3"])
    assert values.training.num_generations == 8
    assert values.model.lora_r == 128
    assert values.training.learning_rate == 1e-3
    assert values.training.max_steps == 500
    assert isinstance(values.training, GRPOConfig)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="a machine without a GPU")
@pytest.mark.parametrize("flags", [("--gpu", "a100_40gb"), ("--gpu", "t4"), ("--gpu", "t4", "--fp16", "False")])
def test_half_precision_without_a_gpu_is_said_with_what_runs_here(
    flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    with pytest.raises(UsageError, match=r"none was found.*quickstart\.yaml"):
        parse_arguments("grpo_mixed.yaml", "", [*flags])


def test_the_quickstarts_paths_lead_to_the_project_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = [".cache/policies/quickstart", "recipes/configs/quickstart_warmstart.yaml"]

    def paths(config: Path, *flags: str) -> list[str | None]:
        args = parse_arguments(config, None, list(flags), planning=True)
        return [args.model.model_name_or_path, args.recipe.warm_start_config]

    monkeypatch.chdir(ROOT)
    assert paths(CONFIGS / "quickstart.yaml") == named
    monkeypatch.chdir(tmp_path)
    assert paths(CONFIGS / "quickstart.yaml") == [str(ROOT / name) for name in named]
    assert paths(CONFIGS / "quickstart.yaml", "--model_name_or_path", "mine")[0] == "mine"
    assert paths(CONFIGS / "grpo_math.yaml")[0] == "Qwen/Qwen2.5-7B-Instruct"
    shutil.copyfile(CONFIGS / "quickstart.yaml", tmp_path / "copy.yaml")
    assert paths(tmp_path / "copy.yaml") == named  # one's own config speaks of one's own folder
    assert from_here_or_project(named[1]) == ROOT / named[1]
    Path("recipes/configs").mkdir(parents=True)
    Path(named[1]).touch()
    assert from_here_or_project(named[1]) == Path(named[1])


def test_a_run_always_says_its_prompt_and_its_problems() -> None:
    args = parse_arguments("grpo_mixed.yaml", None, ["--sources", *RecipeArguments().sources], planning=True)
    settings = args.config("recipes/grpo_mixed.py").chosen
    assert settings["sources"] == args.recipe.sources == RecipeArguments().sources
    assert settings["prompt_style"] == RecipeArguments().prompt_style


@pytest.mark.parametrize(("text", "offender"), [("poetry=1", "poetry"), ("math=much", "much"), ("math", "''")])
def test_a_bad_mix_names_the_offender(text: str, offender: str) -> None:
    with pytest.raises(ValueError, match=offender):
        parse_mix(text)


def test_a_judge_is_for_the_domains_whose_rows_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert RecipeArguments().judge_domains == ["math", "qa"]
    monkeypatch.setitem(DOMAINS, "spelling", DomainRow("spelling"))
    monkeypatch.setitem(DOMAIN_REWARDS, "spelling", DomainRewards(grade_math, judged=True))  # type: ignore[arg-type]
    assert RecipeArguments().judge_domains == ["math", "qa", "spelling"]


def test_a_recipe_for_other_domains_says_which_one_takes_the_mix() -> None:
    with pytest.raises(UsageError, match=r"for swe use recipes/grpo_mixed\.py, which takes every domain"):
        check_domains({"swe": 1.0}, ("math",), "swe=1")


def test_the_mix_is_exact_over_the_sources() -> None:
    problems = mixed_problems(
        ["arithmetic", "gsm_symbolic", "invented_facts", "small_functions"], parse_mix("math=0.4,qa=0.3,code=0.3"), 40,
        "train", 0,
    )  # fmt: skip
    counts = {domain: sum(p.domain == domain for p in problems) for domain in ("math", "qa", "code")}
    assert counts == {"math": 16, "qa": 12, "code": 12}
    assert {p.source for p in problems if p.domain == "math"} == {"arithmetic", "gsm_symbolic"}


def test_a_mix_takes_what_a_generator_begins_with_and_not_what_is_left_of_it() -> None:
    mixed = mixed_problems(["arithmetic", "small_functions"], parse_mix("math=0.8,code=0.2"), 60, "heldout", 0)
    functions = {problem.id for problem in mixed if problem.domain == "code"}
    assert functions == {problem.id for problem in load_problems("small_functions", "heldout", 12, 0)}


def test_a_domain_without_a_source_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="code"):
        mixed_problems(["arithmetic"], parse_mix("math=0.5,code=0.5"), 10, "train", 0)


@pytest.fixture
def dry_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a recipe with --dry_run in this process; returns what it printed."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # or each model is asked for again and again
    monkeypatch.chdir(ROOT)

    def run(path: Path, *flags: str) -> str:
        argv = ["--config", str(path), "--dry_run", "--output_dir", str(tmp_path / "run"), *flags]
        monkeypatch.setattr(sys, "argv", ["recipe", *argv])
        if path in WARM_STARTS:
            warm_start_main()
        else:
            (grpo_search if path in LOOP else RECIPES.get(path.stem, grpo_mixed)).main()
        assert not (tmp_path / "run").exists()
        printed = capsys.readouterr()
        return printed.out + printed.err

    return run


@pytest.mark.parametrize("path", GRPO, ids=lambda path: path.stem)
def test_every_recipes_yaml_starts_in_a_dry_run_on_a_machine_without_a_gpu(path: Path, dry_run: Run) -> None:
    text = dry_run(path)
    assert "nothing was started" in text and " 0 training" not in text
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ")}
    without = SearchLoopArguments.without_use if path in LOOP else RecipeArguments.without_use
    assert set(SHOWN) - without <= set(lines) and not without & set(lines)
    assert len(text.splitlines()) < 40  # one screen
    embedded = ("quickstart", "harder", "smollm2", "grpo_search_quickstart")
    expected = "GPU class: none" if path.stem in embedded else "GPU class: a100_40gb (the default"
    assert expected in text


def test_the_loop_runs_as_long_as_it_is_specified_to() -> None:
    values = yaml.safe_load((CONFIGS / "grpo_search.yaml").read_text())
    expected = {
        "loop_epochs": 3, "episodes": 3, "problems_per_episode": 5, "search_iterations": 10, "search_sample": 3,
        "search_rounds": 5, "grpo_epochs": 3, "learning_rate": 5e-4, "sources": ["aime24"],
    }  # fmt: skip
    assert {key: values[key] for key in expected} == expected
    defaults = {**grpo_search.DEFAULTS, **vars(SearchLoopArguments())}
    assert {key: defaults[key] for key in expected if key in defaults and key != "sources"}.items() <= expected.items()
    assert {key: values.get(key, "full") for key in grpo_search.DEFAULTS} == grpo_search.DEFAULTS


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_says_of_itself_is_what_its_yaml_says(name: str) -> None:
    config = {"prompt_style": "full", **yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())}
    defaults = RECIPES[name].DEFAULTS
    assert {key: config[key] for key in defaults} == defaults
    used = {domain for domain, share in parse_mix(defaults["domain_mix"]).items() if share}
    assert used == set(RECIPES[name].DOMAINS) - ({"swe"} if name == "grpo_mixed" else set())  # recipes/swe.py is for it


def test_what_recipes_do_alike_they_say_alike() -> None:
    """Only what stands above `main()`, and the name of the YAML, differ from recipe to recipe."""
    mains = {inspect.getsource(recipe.main).replace(f'"{name}.yaml"', "YAML") for name, recipe in RECIPES.items()}
    assert len(mains) == 1


def test_a_recipes_own_defaults_lie_below_the_yaml_and_flags(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("use_cpu: true\nbf16: false\nnum_heldout_problems: 5\n")
    defaults = {"sources": ["arithmetic"], "num_heldout_problems": 3, "num_train_problems": 7}
    flags = ["--num_train_problems", "9"]
    args = parse_arguments(config, None, flags, defaults=defaults, planning=True)
    recipe = args.recipe
    assert (recipe.sources, recipe.num_heldout_problems, recipe.num_train_problems) == (["arithmetic"], 5, 9)


@pytest.mark.parametrize("path", WARM_STARTS, ids=lambda path: path.stem)
def test_every_warm_starts_yaml_starts_in_a_dry_run(path: Path, dry_run: Run) -> None:
    assert "nothing was started" in dry_run(path, "--num_examples", "20")


def test_a_dry_run_finds_a_missing_file(dry_run: Run) -> None:
    with pytest.raises(UsageError, match=r"missing\.jsonl"):
        dry_run(CONFIGS / "grpo_math.yaml", "--sources", "missing.jsonl")
    with pytest.raises(UsageError, match=r"warm_start_config: missing\.yaml"):
        dry_run(CONFIGS / "quickstart.yaml", "--warm_start_config", "missing.yaml")


def test_a_dry_run_finds_a_backup_url_that_can_never_work(dry_run: Run) -> None:
    with pytest.raises(UsageError, match=r"--backup_url s4://bucket/run: unknown protocol 's4'"):
        dry_run(CONFIGS / "quickstart.yaml", "--backup_url", "s4://bucket/run")


def test_every_value_is_printed_with_its_origin(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("lora_r: 16\nlearning_rate: 1.0e-4\nmax_steps: 7\njudge: true\n")
    flags = ["--config", str(config), "--gpu", "h100_80gb", "--max_steps=9", "--no-wa-grpo", "--judge", "False"]
    rows = {row[0]: row[1:] for row in effective_values(parse_arguments("grpo_mixed.yaml", "", flags, planning=True))}
    assert rows["max_steps"] == ("9", "flag")
    assert rows["judge"] == ("no", "flag")
    assert rows["wa_grpo"] == ("no", "flag")
    assert rows["lora_r"] == ("16", "mine.yaml")
    assert rows["learning_rate"] == ("0.0001", "mine.yaml")
    assert rows["lora_alpha"] == ("128", "GPU class h100_80gb")
    assert rows["num_generations"] == ("8", "GPU class h100_80gb")
    assert rows["temperature_steps"] == ("150", "default")
    assert "vllm_mode" not in rows


def test_a_precision_that_is_asked_for_replaces_the_classs() -> None:
    args = parse_arguments("grpo_mixed.yaml", "", ["--gpu", "t4", "--bf16", "true"], planning=True)
    assert (args.training.bf16, args.training.fp16) == (True, False)
    args = parse_arguments("grpo_mixed.yaml", "", ["--gpu", "t4", "--bf16", "False"], planning=True)
    assert (args.training.bf16, args.training.fp16) == (False, True)
    args = parse_arguments("grpo_mixed.yaml", "", ["--gpu", "a100_40gb", "--fp16", "true"], planning=True)
    assert (args.training.bf16, args.training.fp16) == (False, True)


def have_gpu(monkeypatch: pytest.MonkeyPatch, name: str, gib: float, major: int) -> None:
    device = SimpleNamespace(name=name, total_memory=int(gib * 2**30), major=major)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: device)


@pytest.mark.parametrize(
    ("name", "gib", "major", "expected"),
    [
        ("Tesla T4", 14.56, 7, "t4"),
        ("Tesla V100-SXM2-16GB", 15.77, 7, "v100"),
        ("NVIDIA L4", 22.0, 8, "l4_24gb"),
        ("NVIDIA A10G", 22.1, 8, "l4_24gb"),
        ("NVIDIA GeForce RTX 4090", 23.6, 8, "l4_24gb"),
        ("NVIDIA A100-SXM4-40GB", 39.39, 8, "a100_40gb"),
        ("NVIDIA A100-SXM4-80GB", 79.15, 8, "a100_80gb"),
        ("NVIDIA A100 80GB PCIe", 79.25, 8, "a100_80gb"),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", 39.25, 8, "a100_40gb"),
        ("NVIDIA H100 80GB HBM3", 79.10, 9, "h100_80gb"),
        ("NVIDIA H100 PCIe", 79.11, 9, "h100_80gb"),
        ("NVIDIA H200", 139.72, 9, "h200_141gb"),
    ],
)
def test_a_gpu_is_recognised(name: str, gib: float, major: int, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    have_gpu(monkeypatch, name, gib, major)
    found = detect_gpu()
    assert found is not None
    assert found.gpu.name == expected
    assert found.reason.startswith(f"detected: {name}")


@pytest.mark.parametrize(
    ("name", "gib", "major", "expected", "says"),
    [
        ("NVIDIA GeForce RTX 5090", 31.4, 12, "l4_24gb", "in no class"),
        ("NVIDIA RTX A4000", 15.7, 8, "v100", "in no class"),
        ("NVIDIA RTX 6000 Ada Generation", 47.4, 8, "a100_40gb", "in no class"),
        ("Quadro RTX 8000", 47.5, 7, "v100", "in no class"),  # memory for bf16 classes, but no bf16
        ("NVIDIA B200", 178.4, 10, "h200_141gb", "in no class"),
        ("NVIDIA GeForce GTX 970", 3.9, 5, "t4", "smaller than any class"),
    ],
)
def test_a_gpu_of_no_class_gets_the_largest_that_it_can_run_and_says_so(
    name: str, gib: float, major: int, expected: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_gpu(monkeypatch, name, gib, major)
    found = detect_gpu()
    assert found is not None
    assert found.gpu.name == expected
    assert name in found.reason
    assert says in found.reason


def test_a_class_that_is_named_wins_over_the_gpu_that_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    have_gpu(monkeypatch, "NVIDIA H100 80GB HBM3", 79.1, 9)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    config = tmp_path / "mine.yaml"
    config.write_text("gpu: t4\nuse_cpu: true\n")
    layers = [
        parse_arguments(default, "", ["--use_cpu", *flags], planning=True).layers.gpu
        for default, flags in (
            ("grpo_mixed.yaml", []),
            ("grpo_mixed.yaml", ["--gpu", "a100_80gb"]),
            ("grpo_mixed.yaml", ["--config", str(config)]),
            ("grpo_mixed.yaml", ["--config", str(config), "--gpu=v100"]),
            ("quickstart.yaml", []),
        )
    ]
    assert [gpu and gpu.gpu.name for gpu in layers] == ["h100_80gb", "a100_80gb", "t4", "v100", None]


@pytest.mark.parametrize(
    ("flag", "package", "extra"),
    [
        ("load_in_4bit", "bitsandbytes", "quantized"),
        ("use_vllm", "vllm", "vllm"),
        ("use_liger_kernel", "liger_kernel", "liger"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    flag: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recipes.settings.checks.find_spec", lambda name: None)
    args = parse_arguments("grpo_mixed.yaml", "", [f"--{flag}"], planning=True)
    with pytest.raises(UsageError, match=rf"{flag} \(flag\).*{package}.*\[{extra}\]"):
        check_packages(args.model, args.training, args.layers.origin)
    monkeypatch.setattr("recipes.settings.checks.find_spec", lambda name: SimpleNamespace())
    check_packages(args.model, args.training, args.layers.origin)


def test_a_model_that_is_spread_over_gpus_is_told_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for use_cpu, told in ((True, ""), (False, "one process sees 2 GPUs")):
        warn_of_spread_model(cast(WorkflowGRPOConfig, SimpleNamespace(use_cpu=use_cpu)))
        said = capsys.readouterr().err
        assert (told in said) if told else not said


def test_in_fp16_what_trains_is_float32_and_what_is_frozen_stays() -> None:
    model = torch.nn.ModuleList([torch.nn.Linear(2, 2).to(torch.bfloat16), torch.nn.Linear(2, 2).half()])
    model[1].requires_grad_(False)
    train_in_float32(model)
    assert model[0].weight.dtype == torch.float32
    assert model[1].weight.dtype == torch.float16


@pytest.mark.parametrize("path", LAUNCH, ids=lambda path: path.stem)
def test_every_launch_file_is_accelerates_and_consistent(path: Path) -> None:
    config = load_config_from_file(str(path))
    assert config.num_processes % config.num_machines == 0
    assert (config.num_processes == 1) == (config.distributed_type.value == "NO")
    assert config.use_cpu == path.stem.startswith("cpu")
    precision = "no" if config.use_cpu else "fp16" if path.stem in ("t4", "v100") else "bf16"
    assert config.mixed_precision == precision
    if config.distributed_type.value == "DEEPSPEED":
        plugin = config.deepspeed_config
        assert plugin["zero_stage"] == (3 if "zero3" in path.stem else 2)
        assert plugin["gradient_accumulation_steps"] == plugin["gradient_clipping"] == "auto"  # the recipe's
        offloaded = plugin.get("offload_param_device", "none"), plugin.get("offload_optimizer_device", "none")
        assert offloaded == (("cpu", "cpu") if "offload" in path.stem else ("none", "none"))
    assert path.stem not in SPECIFICATION or config.num_processes == 1


def test_every_class_has_its_launch_file_and_the_readme_names_every_file() -> None:
    names = {path.stem for path in LAUNCH}
    assert (
        set(SPECIFICATION) | {"cpu", "multi_gpu_zero2", "multi_gpu_zero3", "multi_node_zero3", "vllm_server"} <= names
    )
    page = (ROOT / "accelerate_configs" / "README.md").read_text()
    assert all(f"`{path.name}`" in page for path in (ROOT / "accelerate_configs").iterdir() if path.suffix != ".md")


def slurm(tmp_path: Path, *arguments: str, key: str | None = "sk-test") -> subprocess.CompletedProcess[str]:
    """Runs the SLURM script with a cluster of two machines played by shell scripts."""
    commands = {
        "scontrol": 'printf "node-a\\nnode-b\\n"',
        "srun": 'shift; for node in 0 1; do SLURM_NODEID=$node "$@"; done',
        "accelerate": 'printf "%s " "$@"; echo',
    }
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, body in commands.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    (folder / "activate").write_text("")
    job = {"SLURM_JOB_ID": "41234", "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "4", "SLURM_JOB_NODELIST": "node-[a-b]"}
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "VENV": str(tmp_path),
        "SLURM_SUBMIT_DIR": str(ROOT),
        **job,
    }
    if key:
        environment["OPENAI_API_KEY"] = key
    script = ROOT / "accelerate_configs" / "multi_node_zero3.slurm"
    return subprocess.run(
        ["bash", str(script), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_the_slurm_script_starts_one_launcher_a_machine_with_the_jobs_sizes(tmp_path: Path) -> None:
    done = slurm(tmp_path, "recipes/grpo_mixed.py", "--domain_mix", "math=1 code=0")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    for rank, line in enumerate((first, second)):
        assert "--config_file accelerate_configs/multi_node_zero3.yaml" in line
        assert f"--num_machines 2 --num_processes 8 --machine_rank {rank} --main_process_ip node-a" in line
        assert "--main_process_port 21234 recipes/grpo_mixed.py --domain_mix math=1 code=0" in line


def test_the_slurm_script_says_what_is_missing(tmp_path: Path) -> None:
    assert "name a recipe" in slurm(tmp_path).stderr
    (tmp_path / "two").mkdir()
    done = slurm(tmp_path / "two", "recipes/grpo_mixed.py", key=None)
    assert done.returncode != 0
    assert "OPENAI_API_KEY" in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_steps: 1.5", "max_steps: 1.5 must be a whole number"),
        ("max_steps:", "max_steps: None must be a whole number"),
        ("seed: [1]", "seed: .* must be a whole number"),
        ("executor_budget_usd: [5]", "executor_budget_usd: .* must be a number"),
        ("executor_budget_usd: .nan", "executor_budget_usd"),
        ("learning_rate: .nan", "learning_rate=nan must be a finite number"),
        ("domain_mix: {math: 1}", "domain_mix: .* must be text"),
        ("prompt_style: [brief]", "prompt_style: .* must be text"),
        ("workflow_timeout: 0", "workflow_timeout=0 must be above 0"),
        ("1: 2", "must be a mapping"),
        ("output_dir: caf\xe9", "is not UTF-8 .*; save it as UTF-8"),
    ],
)
def test_a_value_of_the_wrong_type_in_a_yaml_is_named(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=words):
        parse_arguments("grpo_mixed.yaml", "", ["--config", str(path), "--bf16", "false"], planning=True)


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("", "--output_dir is empty"),
        ("{file}", "is a file, or lies in one"),
        ("{file}/run", "is a file, or lies in one"),
    ],
)
def test_an_output_folder_that_can_be_none_is_refused_before_anything_is_loaded(
    folder: str, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("{}")
    check_output(str(tmp_path / "new" / "run"))
    check_output(None)
    with pytest.raises(UsageError, match=words):
        check_output(folder.format(file=file))


def test_a_list_of_one_may_be_written_without_brackets(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_bytes(b"\xef\xbb\xbfsources: mine.jsonl\r\nmax_steps: 5.0\r\n")
    args = parse_arguments("grpo_mixed.yaml", "", ["--config", str(path), "--bf16", "false"], planning=True)
    assert (args.recipe.sources, args.training.max_steps) == (["mine.jsonl"], 5)
