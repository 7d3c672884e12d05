"""The examples of recipes/README.md work: they are taken from the page and executed."""

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from aflow_ops import domains as prompts
from aflow_ops.operators import OPERATORS
from aflow_ops.policy_prompt import policy_messages
from aflow_ops.sandbox import Sandbox
from data import catalogue
from data import domains as rows
from data.mixing import parse_mix
from data.problem import Problem
from recipes.run.command import run_command
from recipes.settings.parse import parse_arguments
from recipes.training.trainer import WorkflowGRPOTrainer
from rewards import domains as rewards
from rewards.reward_funcs import load_rewards, reward_name
from tests.recipes.test_training_signals import tiny_config
from tests.recipes.tiny_run import given_completions
from tests.stub_endpoint import StubEndpoint

PAGE = Path(__file__).parents[2] / "recipes" / "README.md"
REREAD = """async def workflow(problem):
    again = await reread(problem=problem)
    return (await custom(input=again["question"]))["response"]"""
BLOCK = re.compile(r"^```(\w+)\n# (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks() -> dict[str, str]:
    """Code blocks that begin with a file's name, by that name."""
    return {name: f"# {name}\n{text}" for _, name, text in BLOCK.findall(PAGE.read_text(encoding="utf-8"))}


@pytest.fixture(autouse=True)
def no_operator_is_left() -> Iterator[None]:
    before = dict(OPERATORS)
    yield
    OPERATORS.clear()
    OPERATORS.update(before)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, outside the repository, with the page's files in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    for name, text in blocks().items():
        (tmp_path / Path(name).name).write_text(text)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = found
    spec.loader.exec_module(found)
    return found


def test_a_recipe_outside_the_repository_trains_with_its_own_reward_flag_and_operator(
    folder: Path, stub: StubEndpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = module(folder / "my_recipe.py")

    class GivenTrainer(WorkflowGRPOTrainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._generate_single_turn = given_completions(self, [REREAD, "short", "a little longer", "x" * 30])

    monkeypatch.setattr(recipe, "WorkflowGRPOTrainer", GivenTrainer)
    flags = ["--config", str(tiny_config(folder)), "--max_steps", "1", "--brevity_chars", "20"]
    flags += ["--sources", "arithmetic", "--domain_mix", "math=1", "--reward_weights", "1", "0.5"]
    flags += ["--executor", "openai", "--executor_base_url", stub.url]
    monkeypatch.setattr(sys, "argv", ["my_recipe.py", *flags])
    assert run_command(recipe.main) == 0, capsys.readouterr().err
    run = folder / "run"
    for name in ("adapter_model.safetensors", "summary.json", "metrics.csv", "heldout.jsonl", "reward_curve.png"):
        assert (run / name).is_file(), name
    trained = [json.loads(line) for line in (run / "rollouts.jsonl").read_text().splitlines()]
    brevity = {row["completion"]: row["rewards"]["brevity"] for row in trained}
    assert brevity == pytest.approx({REREAD: 0.0, "short": 0.75, "a little longer": 0.25, "x" * 30: 0.0})
    called = [row["trace"] for row in trained if row["completion"] == REREAD]
    assert called and all(trace["outcome"] == "ok" for trace in called)
    assert {call["operator"] for trace in called for call in trace["calls"]} == {"Reread", "Custom"}
    assert "reread" in trained[0]["prompt"][0]["content"]
    best = max(trained, key=lambda row: row["advantage"])
    assert best["rewards"]["workflow"] + 0.5 * best["rewards"]["brevity"] == max(
        row["rewards"]["workflow"] + 0.5 * row["rewards"]["brevity"] for row in trained
    )
    assert "rewards/brevity/mean" in (run / "metrics.csv").read_text().splitlines()[0]
    kept = (run / "config.yaml").read_text()
    assert kept.startswith("# accelerate launch my_recipe.py --config config.yaml\n")
    assert yaml.safe_load(kept)["brevity_chars"] == 20


def test_the_recipes_flag_is_in_its_help(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["my_recipe.py", "--help"])
    with pytest.raises(SystemExit) as done:
        module(folder / "my_recipe.py").main()
    assert done.value.code == 0
    said = capsys.readouterr().out
    assert "GRPO on math, with a bonus for short workflows" in said
    assert "--brevity_chars" in said and "earns no brevity" in said


def test_the_reward_is_found_by_flags_and_by_yaml(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    cpu = ["--use_cpu", "true", "--bf16", "false"]
    flags = re.search(r"--reward_funcs .*--reward_weights .*", PAGE.read_text(encoding="utf-8"))
    assert flags is not None
    by_flags = parse_arguments("grpo_math.yaml", None, [*cpu, *flags[0].split()], planning=True)
    by_yaml = parse_arguments(folder / "rewards.yaml", None, cpu, planning=True)
    for args in (by_flags, by_yaml):
        loaded = load_rewards(args.recipe.reward_funcs, args.training.reward_weights)
        assert [reward_name(reward) for reward in loaded] == ["workflow", "brevity"]
        assert args.training.reward_weights == [1.0, 0.1]
    brevity: Any = loaded[1]
    assert brevity(completions=["", "x" * 1000, [{"role": "assistant", "content": "x" * 3000}]]) == [1.0, 0.5, 0.0]


async def test_the_domain_is_known_on_every_floor(
    folder: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for table in (rows.DOMAINS, prompts.DOMAIN_PROMPTS, rewards.DOMAIN_REWARDS):
        for name in list(table):
            monkeypatch.setitem(table, name, table[name])  # type: ignore[attr-defined]
        monkeypatch.setitem(table, "spelling", None)  # type: ignore[arg-type]
        monkeypatch.delitem(table, "spelling")  # type: ignore[arg-type]
    module(folder / "my_domain.py")
    problem = Problem.from_row({"question": "recieve", "answer": "receive", "source": "misspelled"})
    assert problem.domain == "spelling"
    assert parse_mix("spelling=1") == {"spelling": 1.0}
    assert "a word that may be misspelled" in policy_messages(problem.view, style="full")[0]["content"]
    grade = rewards.domain_rewards("spelling").grade
    assert (await grade(" Receive ", problem, sandbox)).reward == 1.0
    assert (await grade("recieve", problem, sandbox)).reward == 0.0


def test_the_benchmarks_rows_become_problems(folder: Path) -> None:
    (entry,) = yaml.safe_load((folder / "hub.yaml").read_text()).items()
    benchmark = catalogue._benchmark(*entry)
    assert (benchmark.name, benchmark.module, benchmark.domain) == ("riddles", "riddles", "qa")
    riddles = module(folder / "riddles.py")
    example = re.search(r"Example row: (\{.*\})", riddles.__doc__ or "")
    assert example is not None
    row = riddles.problem_row(json.loads(example[1]))
    problem = Problem.from_row({**row, "source": "riddles", "domain": benchmark.domain})
    assert (problem.question, problem.answer) == ("What has keys but opens no lock?", "a piano")
