"""The multi-agent recipes: their settings, their episodes with real tools, and short runs of the whole."""

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from trl import ModelConfig, SFTConfig, TrlParser

from aflow_ops.agents.episode import Conversation, Episode, Utterance, play_episode
from aflow_ops.agents.team import Team
from aflow_ops.errors import UsageError
from aflow_ops.executor import ExecutorConfig
from aflow_ops.executor.types import Message
from aflow_ops.sandbox import Sandbox
from data.plain_functions import solution_of
from data.problem import Problem
from data.registry import load_problems
from recipes import deepcoder, math_tool
from recipes.agents_warmstart import AgentWarmStartArguments, scripted_turns
from recipes.agents_warmstart import main as warm_start_main
from recipes.policy.deepcoder_script import DeepCoderScript
from recipes.policy.math_tool_script import MathToolScript, formulas_for
from recipes.settings.agents import warn_of_lone_episodes
from recipes.settings.arguments import WorkflowGRPOConfig
from recipes.settings.layers import CONFIGS
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
RECIPES: dict[str, tuple[Any, type]] = {
    "math_tool": (math_tool, math_tool.MathToolArguments),
    "deepcoder": (deepcoder, deepcoder.DeepCoderArguments),
}
WARM_STARTS = [file.stem for file in CONFIGS.glob("*_warmstart.yaml")]


def values_of(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()))


@pytest.mark.parametrize("name", RECIPES)
def test_every_key_of_their_yamls_is_a_flag(name: str) -> None:
    for config in (name, f"{name}_quickstart"):
        parser = TrlParser((RECIPES[name][1], WorkflowGRPOConfig, ModelConfig, ExecutorConfig))
        assert parser.set_defaults_with_config(**values_of(config)) == []
    parser = TrlParser((AgentWarmStartArguments, SFTConfig, ModelConfig))
    assert parser.set_defaults_with_config(**values_of(f"{name}_warmstart")) == []


@pytest.mark.parametrize("name", RECIPES)
def test_they_start_without_a_key_and_a_gpu(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)

    def dry_run(main: Any, config: str, *flags: str) -> str:
        places = ["--output_dir", str(tmp_path / "run")]
        if "warmstart" not in config:
            places += ["--model_name_or_path", str(tmp_path / "no_download")]
        argv = ["--config", str(CONFIGS / f"{config}.yaml"), "--dry_run", *places, *flags]
        monkeypatch.setattr(sys, "argv", ["recipe", *argv])
        main()
        done = capsys.readouterr()
        assert " 0 training" not in done.out and "reward_funcs" not in done.err
        return done.out

    main = RECIPES[name][0].main
    assert "nothing was started" in dry_run(main, name)
    assert "nothing was started" in dry_run(main, f"{name}_quickstart")
    assert "nothing was started" in dry_run(warm_start_main, f"{name}_warmstart", "--num_episodes", "5")
    for words, message in (
        ("--load_in_4bit --use_peft false", "need --use_peft"),
        ("--resume_from_checkpoint auto", "starts anew"),
        ("--report_to nobody", "unknown tracker"),
        ("--untie_embeddings --use_peft", "an adapter is saved then"),
    ):
        with pytest.raises(UsageError, match=message):
            dry_run(warm_start_main, f"{name}_warmstart", *words.split())
    for flags, message in (
        (["--train_agents", "nobody"], "no such role"),
        (["--loss_type", "dapo"], "long episodes would weigh more"),
        (["--adapters", "each"], "invalid choice|must be one of"),
        (["--alpha", "-1"], "alpha=-1"),
        (["--reward_funcs", "valid"], "reward_funcs.*no use for it"),
        (["--wa_alpha", "0.05"], "wa_alpha=0.05: this recipe has no use for it"),
        (["--replay", "search:nowhere"], "replay.*no use for it"),
        (["--rollouts_ahead", "1"], "rollouts_ahead=1"),
        (["--temperature_final", "0.5"], "temperature_final=0.5"),
    ):
        with pytest.raises((UsageError, SystemExit), match=message if flags[0] != "--adapters" else None):
            dry_run(main, f"{name}_quickstart", *flags)
    role = RECIPES[name][0].ROLES[0].name
    with pytest.raises(UsageError, match="OPENAI_API_KEY"):
        dry_run(main, name, "--agent_models", f"{role}=executor")
    assert not (tmp_path / "run").exists()


def test_an_agent_that_is_compared_with_nobody_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for counterfactual, episodes in ((0.5, 4), (1.0, 2), (0.0, 2), (0.25, 8)):
        warn_of_lone_episodes(counterfactual, episodes)
        assert not capsys.readouterr().err
    warn_of_lone_episodes(0.5, 2)
    assert "it learns nothing; use --counterfactual 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_says_of_itself_is_what_its_yaml_says(name: str) -> None:
    config, module = values_of(name), RECIPES[name][0]
    assert {key: config[key] for key in module.DEFAULTS} == module.DEFAULTS


class Said:
    """Says given texts for each role, in turn."""

    def __init__(self, **texts: Sequence[str]) -> None:
        self.texts = {role: list(each) for role, each in texts.items()}

    async def reply(self, conversation: Conversation) -> Utterance:
        return Utterance(self.texts[conversation.role.name].pop(0), 1)


async def play(team: Team, task: Problem, number: int = 0, **texts: Sequence[str]) -> Episode:
    return await play_episode(team, task, dict.fromkeys(team.names, Said(**texts)), number=number)


MATH = Problem("What is 6 * 7?", "42", "word_problems", "math", "0")


async def test_math_tool_stops_on_the_verifiers_word_and_never_on_the_gold_answer(sandbox: Sandbox) -> None:
    right, wrong = "```python\nprint(6 * 7)\n```", "```python\nprint(6 + 7)\n```"
    team = math_tool.math_team(sandbox, 3, 0.0)
    trusting = await play(team, MATH, analyzer=["add"], executor=[wrong], verifier=["VERDICT: right"])
    assert (trusting.outcome.answer, trusting.outcome.team) == ("13", 0.0)
    assert trusting.outcome.verdicts["verifier"] == [(True, False)]
    strict = await play(
        team, MATH, analyzer=["multiply"], executor=[right] * 3, verifier=["VERDICT: wrong", "?", "right and wrong"]
    )
    assert (strict.outcome.team, strict.outcome.metrics["executor_attempts"]) == (1.0, 3.0)
    assert strict.outcome.verdicts["verifier"] == [(False, True)] * 3
    mended = await play(
        team, MATH, analyzer=["?"], executor=[wrong, right], verifier=["VERDICT: wrong", "VERDICT: right"]
    )
    assert (mended.outcome.team, mended.outcome.metrics["recovery_rate"]) == (1.0, 1.0)
    assert mended.outcome.local == {"analyzer": None, "executor": 0.5}
    told = [message["content"] for talk in mended.conversations.values() for message in talk.messages]
    assert not any("42" in text for text in told if "It printed" not in text)


async def test_the_analyzer_is_paid_by_what_its_words_were_worth(sandbox: Sandbox) -> None:
    team = math_tool.math_team(sandbox, 1, 1.0)
    right, wrong = "```python\nx = 6 * 7\nx\n```", "```python\nx\n```"
    helped = await play(team, MATH, analyzer=["multiply"], executor=[right, wrong], verifier=["VERDICT: right"])
    assert helped.outcome.local["analyzer"] == 1.0
    useless = await play(team, MATH, analyzer=["multiply"], executor=[right, right], verifier=["VERDICT: right"])
    assert useless.outcome.local["analyzer"] == 0.0


async def test_the_session_knows_the_numbers_that_a_problem_names(sandbox: Sandbox) -> None:
    task = Problem("Add them: x = 4, y = 5.5.", "9.5", "word_problems", "math", "0")
    code = "```python\nprint(x + y)\n```"
    team = math_tool.math_team(sandbox, 1, 1.0)
    played = await play(team, task, analyzer=["add"], executor=[code, code], verifier=["VERDICT: right"])
    assert (played.outcome.answer, played.outcome.local["analyzer"]) == ("9.5", 0.0)


async def test_a_single_agent_tries_until_it_has_written_as_much_as_the_team(sandbox: Sandbox) -> None:
    codes = [f"```python\nprint({number})\n```" for number in (41, 42, 42)]
    team = math_tool.math_team(sandbox)
    assert team.alone is not None
    single = replace(team, run=partial(team.alone, tokens=3))
    episode = await play(single, MATH, executor=codes)
    assert (episode.outcome.answer, episode.outcome.correct) == ("42", True)
    (task,) = load_problems("small_functions", "train", 1, 0)
    coders = deepcoder.coding_team(sandbox)
    assert coders.alone is not None
    single = replace(coders, run=partial(coders.alone, tokens=9))
    episode = await play(single, task, generator=["no", f"```python\n{task.answer}\n```", "not asked"])
    assert (episode.outcome.team, episode.outcome.metrics["attempts"]) == (1.0, 2.0)


async def test_deepcoder_runs_shown_tests_only_and_is_paid_by_the_hidden_ones(sandbox: Sandbox) -> None:
    (task,) = load_problems("small_functions", "train", 1, 0)
    right = f"```python\n{task.answer}\n```"
    wrong = f"```python\ndef {task.entry_point}(*args):\n    return None\n```"
    team = deepcoder.coding_team(sandbox, 2, 1.0)
    at_once = await play(team, task, generator=[right])
    assert at_once.outcome.team == 1.0 and list(at_once.conversations) == ["generator"]
    mended = await play(team, task, generator=[wrong], test_runner=["mend it"], refiner=[right, wrong])
    assert (mended.outcome.team, mended.outcome.correct) == (1.0, True)
    assert mended.outcome.local == {"generator": 0.0, "test_runner": 1.0, "refiner": 1.0}
    told = "\n".join(message["content"] for talk in mended.conversations.values() for message in talk.messages)
    assert "candidate(" not in told and task.public_tests[0] in told
    given_up = await play(team, task, generator=["no code"], test_runner=["?"] * 2, refiner=["no"] * 4)
    assert (given_up.ending, given_up.outcome.team, given_up.outcome.metrics["total_iterations"]) == ("ok", 0.0, 3.0)


@pytest.mark.parametrize(
    ("public", "tests", "shown", "hidden"),
    [
        ("ab", "cd", "ab", "cd"),
        ("a", "abc", "a", "bc"),  # MBPP's public test is one of its tests
        ("", "abcd", "ab", "cd"),
        ("ab", "ab", "a", "b"),
        ("", "a", "", "a"),
    ],
)
def test_no_test_that_a_coder_is_shown_pays_it(public: str, tests: str, shown: str, hidden: str) -> None:
    assert deepcoder.parted(tuple(public), tuple(tests)) == (tuple(shown), tuple(hidden))


def test_a_test_that_is_shown_under_another_name_or_twice_pays_nobody() -> None:
    public = ("import math\n\nassert add(1, 2) == 3",)
    tests = ("import math\nassert candidate(1,2) == 3", "assert candidate(2, 2) == 4", "assert not (")
    assert deepcoder.parted(public, tests, "add") == (public, tests[1:])
    assert deepcoder.parted((), ("a", "a", "b", "b"), None) == (("a",), ("b",))


@pytest.mark.parametrize(
    ("source", "make_team", "script"),
    [
        ("word_problems", math_tool.math_team, MathToolScript()),
        ("plain_functions", deepcoder.coding_team, DeepCoderScript()),
    ],
)
def test_a_script_speaks_for_every_role_and_errs(source: str, make_team: Any, script: Any, sandbox: Sandbox) -> None:
    team = make_team(sandbox)
    problems = load_problems(source, "train", 12, 0)
    turns = asyncio.run(scripted_turns(team, script, problems, 0))
    assert turns == asyncio.run(scripted_turns(team, script, problems, 0))
    roles = [messages[0]["content"] for messages, _ in turns]
    assert set(roles) == {role.prompt for role in team.roles}
    assert len(turns) > 2 * len(problems)


def test_the_scripts_know_every_task() -> None:
    for problem in load_problems("plain_functions", "train", 100, 1):
        found = solution_of(problem.question)
        assert found is not None and problem.answer.endswith(f"return {found[0]}")
        assert len({found[0], *found[1]}) == 3, "a task is mistaken for two others"
    message: Message = {"role": "user", "content": "What is six by seven?"}
    with pytest.raises(ValueError, match="not a question of word_problems"):
        MathToolScript().reply("analyzer", [message, message], random.Random(0))


def test_the_scripted_verifier_errs_in_its_working_and_never_in_its_verdict() -> None:
    question = "Mila counts pens.\nx boxes hold y each, and z are left over.\nHow many?\nx = 4, y = 7, z = 5."
    heard: Message = {"role": "user", "content": f"{question}\n\nCode:\nprint(x * y + z)\n\nIt printed:\n33"}
    said = [MathToolScript().reply("verifier", [heard, heard], random.Random(seed)) for seed in range(60)]
    right, wrong = formulas_for(question)
    assert set(said) == {
        f"It takes {right}.\nVERDICT: right",
        *(f"It takes {formula}.\nVERDICT: wrong" for formula in wrong),
    }
    assert wrong == ["x * y * z", "x * y - z"]


def test_a_batch_of_a_teams_warm_start_has_turns_of_all_roles() -> None:
    """A turn's length tells its role: batches of one length teach one role after the other, and the last one stays."""
    teams = [config for config in map(values_of, WARM_STARTS) if "script" in config]
    assert len(teams) >= 5
    assert {config.get("train_sampling_strategy", "random") for config in teams} == {"random"}


@pytest.mark.long
@pytest.mark.parametrize("name", RECIPES)
def test_a_short_run_leaves_everything_and_its_team_plays_on(name: str, tmp_path: Path) -> None:
    warm_start = values_of(f"{name}_warmstart") | {"num_episodes": 40, "num_train_epochs": 1}
    (tmp_path / "warm.yaml").write_text(yaml.safe_dump(warm_start))
    command = [
        sys.executable, str(ROOT / "recipes" / f"{name}.py"), "--config", str(CONFIGS / f"{name}_quickstart.yaml"),
        "--warm_start_config", str(tmp_path / "warm.yaml"), "--model_name_or_path", str(tmp_path / "policy"),
        "--output_dir", str(tmp_path / "run"), "--num_train_problems", "6", "--num_heldout_problems", "3",
        "--num_generations", "4", "--per_device_train_batch_size", "8", "--max_steps", "2", "--save_steps", "1",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "team success on 3 held-out problems" in done.stdout
    run = tmp_path / "run"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["heldout"]["n"] == 3 and summary["agents"]["trained"] == [r.name for r in RECIPES[name][0].ROLES]
    for file in ("adapter_model.safetensors", "heldout.jsonl", "metrics.csv", "reward_curve.png", "config.yaml"):
        assert (run / file).is_file(), file
    assert {row["agent"] for row in map(json.loads, (run / "rollouts.jsonl").read_text().splitlines())}
    script = [sys.executable, str(ROOT / "scripts" / "run_agents.py"), str(ROOT / "recipes" / f"{name}.py")]
    policy = ["--model", str(tmp_path / "policy"), "--adapter", str(run), "--max_new_tokens", "16"]
    asked = ["--question", "def plus_1(x):" if name == "deepcoder" else "What is 1 + 1?"]
    shown = subprocess.run([*script, *asked, *policy], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert shown.returncode == 0, shown.stderr[-3000:]
    assert f"=== {RECIPES[name][0].ROLES[0].name}" in shown.stdout and "ending: " in shown.stdout
    report = [sys.executable, str(ROOT / "scripts" / "report.py"), str(run)]
    assert subprocess.run(report, capture_output=True, timeout=PATIENCE, check=False).returncode == 0
