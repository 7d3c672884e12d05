"""What is done with a trained policy: workflows written and run, questions in a loop, the adapter merged."""

import io
import itertools
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from aflow_ops.errors import UsageError
from data.registry import load_problems
from recipes import math_tool, search_qa, swe
from recipes.policy.loading import load_policy
from recipes.run.command import run_command
from scripts import evaluate, merge_adapter, push_to_hub, run_agents, run_workflow
from scripts.evaluating.agents import agent_problems
from tests.conftest import KEY
from tests.recipes.finished_run import give_roles, save_base, save_run
from tests.recipes.tiny_run import ASK, tiny_tokenizer
from tests.stub_endpoint import Failure, StubEndpoint

ROOT = Path(__file__).parents[2]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    save_run(folder, save_base(folder / "base"))
    return folder


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a script's main in this process: importing torch takes seconds."""

    def run(main: Callable[[], None], *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["script", *map(str, arguments)])
        try:
            code = run_command(main)
        except SystemExit as stopped:
            code = int(str(stopped.code))
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err and KEY not in printed.err + printed.out
        return code, printed.out, printed.err

    return run


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replaces sampling: what the policy writes in turn, and the prompts that it saw."""
    state: dict[str, Any] = {"texts": [f"```python\n{ASK}\n```"], "prompts": []}

    def generate(model: Any, tokenizer: Any, prompts: Any, **kwargs: Any) -> list[str]:
        state["prompts"] += prompts
        return [state["texts"][(len(state["prompts"]) - 1) % len(state["texts"])]]

    monkeypatch.setattr("recipes.policy.generation.generate_completions", generate)
    return state


def flags(stub: StubEndpoint, tmp_path: Path) -> list[object]:
    return ["--executor_base_url", stub.url, "--executor_cache_dir", tmp_path / "cache", "--executor_max_retries", 0]


# run_workflow.py


def test_the_policy_writes_the_workflow_that_is_run(
    made: Path, stub: StubEndpoint, tmp_path: Path, command: Command, sampled: dict[str, Any]
) -> None:
    policy = ["--model", made / "base", "--adapter", made / "run", "--question", "What is 6 * 7?"]
    code, out, err = command(run_workflow.main, *policy, "--json", *flags(stub, tmp_path))
    assert code == 0, err
    row = json.loads(out)
    assert (row["answer"], row["outcome"], row["workflow"]) == ("42", "ok", ASK)
    assert row["completion"] == sampled["texts"][0]
    assert [call["operator"] for call in row["calls"]] == ["Custom"]
    system = sampled["prompts"][0][0]["content"]
    assert system.startswith("math: ")  # the brief style that the run was trained with
    code, out, err = command(run_workflow.main, "--adapter", made / "run", *policy[4:], *flags(stub, tmp_path))
    assert code == 0, err
    assert "async def workflow(problem):" in out and "answer: 42" in out and "$" in out
    command(run_workflow.main, *policy, "--prompt_style", "full", *flags(stub, tmp_path))
    assert sampled["prompts"][-1][0]["content"].startswith("You design agent workflows.")


def test_a_completion_that_is_no_workflow_is_the_policys_error(
    made: Path, stub: StubEndpoint, tmp_path: Path, command: Command
) -> None:
    policy = ["--model", made / "base", "--question", "What is 6 * 7?", "--max_completion_length", 4]
    code, out, err = command(run_workflow.main, *policy, "--json", *flags(stub, tmp_path))
    row = json.loads(out)
    assert code == 1 and "policy_error" in err
    assert (row["answer"], row["outcome"], row["workflow"], row["calls"]) == (None, "policy_error", None, [])
    assert row["error"]["class"] == "WorkflowError"
    assert not stub.requests


def test_a_session_outlives_the_errors_of_its_questions(
    made: Path,
    stub: StubEndpoint,
    tmp_path: Path,
    command: Command,
    sampled: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sampled["texts"] = ["no workflow", ASK, ASK, "async def workflow(problem):\n    return 1 / 0", ASK]
    stub.answer = lambda messages: Failure(400) if "refused" in messages[-1]["content"] else "42"
    monkeypatch.setattr(sys, "stdin", io.StringIO("first\n\nsecond\nrefused\nfourth\nfifth"))
    code, out, err = command(
        run_workflow.main, "--adapter", made / "run", "--interactive", "--json", *flags(stub, tmp_path)
    )
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["outcome"] for row in rows][::3] == ["policy_error", "policy_error"]
    assert [row["answer"] for row in rows][1] == rows[-1]["answer"] == "42"
    assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 3


def test_what_was_asked_for_must_be_clear(
    made: Path, stub: StubEndpoint, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(word: str, *arguments: object) -> None:
        code, _, err = command(run_workflow.main, *arguments, *flags(stub, tmp_path))
        assert code == 2 and word in err, err

    refused("FILE or a policy", "--question", "?")
    refused("FILE or a policy", "x.py", "--model", made / "base", "--question", "?")
    refused("--question", "--model", made / "base")
    refused("cannot be -", "-", "--interactive")
    refused("absent cannot be loaded", "--model", tmp_path / "absent", "--question", "?")
    refused("no adapter_config.json", "--adapter", tmp_path / "absent", "--question", "?")
    monkeypatch.delenv("OPENAI_API_KEY")
    code, _, err = command(run_workflow.main, "--model", tmp_path / "absent", "--question", "?")
    assert code == 2 and "OPENAI_API_KEY" in err  # before any model is loaded


# merge_adapter.py


def test_the_merged_model_is_base_and_adapter(made: Path, tmp_path: Path, command: Command) -> None:
    output = tmp_path / "merged"
    code, out, err = command(merge_adapter.main, made / "run", "--output", output)
    assert code == 0, err
    assert str(output) in out
    names = {path.name for path in output.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "summary.json"} <= names
    assert not {"adapter_config.json", "rollouts.jsonl", "heldout.jsonl"} & names
    assert not (tmp_path / ".merged.partial").exists()
    tokens = torch.randint(0, 300, (2, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(output)(tokens).logits
        adapted = load_policy(str(made / "base"), str(made / "run"))[0](tokens).logits
        base = load_policy(str(made / "base"))[0](tokens).logits
    torch.testing.assert_close(merged, adapted, atol=1e-4, rtol=1e-4)
    assert (base - adapted).abs().max() > 0.05
    half = tmp_path / "half"
    code, _, err = command(merge_adapter.main, made / "run", "--output", half, "--dtype", "bfloat16")
    assert code == 0, err
    assert AutoModelForCausalLM.from_pretrained(half, dtype="auto").dtype == torch.bfloat16


def test_a_trained_output_layer_is_merged_too(tmp_path: Path, command: Command) -> None:
    save_run(tmp_path, save_base(tmp_path / "base", untied=True), ["lm_head"])
    code, _, err = command(merge_adapter.main, tmp_path / "run", "--output", tmp_path / "merged")
    assert code == 0, err
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    trained = load_file(tmp_path / "run" / "adapter_model.safetensors")["base_model.model.lm_head.weight"]
    assert torch.equal(merged.get_output_embeddings().weight, trained)


def test_merge_says_what_is_wrong_and_leaves_nothing(
    made: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "merged"

    def refused(code: int, word: str, *arguments: object) -> None:
        found, _, err = command(merge_adapter.main, *arguments, "--output", output)
        assert found == code and word in err, err
        assert not list(tmp_path.glob("*merged*"))

    refused(2, "no adapter_config.json", tmp_path / "absent")
    refused(2, "absent cannot be loaded", made / "run", "--model", tmp_path / "absent")
    quantized = tmp_path / "quantized"
    quantized.mkdir()
    config = json.loads((made / "base" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (quantized / "config.json").write_text(json.dumps(config))
    refused(2, "is quantised (bitsandbytes)", made / "run", "--model", quantized)
    monkeypatch.setattr(merge_adapter, "TOLERANCES", {torch.float32: 0.0})
    refused(1, "logits differ", made / "run")
    monkeypatch.undo()
    output.mkdir()
    monkeypatch.setattr(sys, "argv", ["merge_adapter.py", str(made / "run"), "--output", str(output)])
    assert run_command(merge_adapter.main) == 2


def test_one_role_of_a_team_is_merged(made: Path, tmp_path: Path, command: Command) -> None:
    run = shutil.copytree(made / "run", tmp_path / "run")
    give_roles(run, analyzer="default", executor="executor", verifier=None)
    output = tmp_path / "merged"
    for flags, word in (
        ([], "choose with --role (analyzer, executor)"),
        (["--role", "verifier"], "no adapter of such a role; analyzer, executor have"),
    ):
        code, _, err = command(merge_adapter.main, run, "--output", output, *flags)
        assert code == 2 and word in err, err
    code, _, err = command(merge_adapter.main, run, "--output", output, "--role", "executor")
    assert code == 0, err
    tokens = torch.arange(60)[None]
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(output)(tokens).logits
        adapted = load_policy(str(made / "base"), str(run / "executor"))[0](tokens).logits
    torch.testing.assert_close(merged, adapted, atol=1e-4, rtol=1e-4)


# run_agents.py, and evaluate.py with a team

TURNS = ["baker Nolwick", "[b.md]", "ANSWER: Nolwick"]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A folder of one's own to search in."""
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.md").write_text("The mill of Quorby is closed.")
    (folder / "b.md").write_text("Mila the baker lives in Nolwick.")
    return folder


def test_a_team_searches_a_folder_of_ones_own(
    made: Path, notes: Path, tmp_path: Path, command: Command, sampled: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled["texts"] = TURNS
    recipe = ROOT / "recipes/search_qa.py"
    asked = ["--question", "Where does the baker live?", "--answer", "Nolwick", "--json", "--adapter", made / "run"]
    code, out, err = command(run_agents.main, recipe, *asked, "--corpus", notes)
    assert code == 0, err
    shown = json.loads(out)
    assert (shown["answer"], shown["correct"]) == ("Nolwick", True)
    assert "Mila the baker lives in Nolwick." in shown["turns"][1]["heard"]
    code, _, err = command(run_agents.main, ROOT / "recipes/math_tool.py", *asked, "--corpus", notes)
    assert code == 2 and "the agents of math_tool search nothing" in err

    tokenizer = tiny_tokenizer()
    said = itertools.cycle([[*tokenizer.encode(text), tokenizer.eos_token_id] for text in TURNS])
    monkeypatch.setattr(
        "scripts.evaluating.agents.continued", lambda model, prompts, **_: [next(said) for _ in prompts]
    )
    data = tmp_path / "mine.jsonl"
    row = {"question": "Where does the baker live?", "answer": "Nolwick", "source": "mine", "domain": "qa"}
    data.write_text(json.dumps(row) + "\n")
    flags = ["--data", data, "--adapter", made / "run", "--output", tmp_path / "eval", "--corpus", notes]
    code, _, err = command(evaluate.main, *flags, "--agents", recipe)
    assert code == 0, err
    (found,) = [json.loads(line) for line in (tmp_path / "eval/rows.jsonl").read_text().splitlines()]
    assert found["correct"] and "Mila the baker" in found["dialogue"][1][1]
    code, _, err = command(evaluate.main, *flags)
    assert code == 2 and "--corpus and --retriever_url are for --agents" in err


def test_a_team_plays_as_it_was_trained_or_as_is_asked() -> None:
    trained = {"max_attempts": 2, "learning_rate": 1.0, "counterfactual": 0.25}
    assert run_agents.team_settings(math_tool, [], trained) == {"max_attempts": 2, "counterfactual": 0.25}
    assert run_agents.team_settings(math_tool, ["max_attempts=1"], trained)["max_attempts"] == 1
    assert run_agents.team_settings(swe, ["swe_backend=docker"], {}) == {"swe_backend": "docker"}
    for recipe, word, message in (
        (math_tool, "max_attempts=0", "max_attempts=0 must be at least 1"),
        (math_tool, "max_attempts=two", "like max_attempts=3"),
        (math_tool, "topk=2", "math_tool takes max_attempts, counterfactual"),
        (search_qa, "topk", "each as name=value"),
        (search_qa, "topk=99", "topk=99 must be from 1 to 50"),
        (swe, "swe_backend=podman", "must be one of local, docker"),
    ):
        with pytest.raises(UsageError, match=message):
            run_agents.team_settings(recipe, [word], {})


def test_the_scripts_take_a_teams_settings(made: Path, notes: Path, command: Command, sampled: dict[str, Any]) -> None:
    sampled["texts"] = ["baker", "[]", "UNKNOWN"]
    asked = ["--question", "Where does the baker live?", "--json", "--adapter", made / "run", "--corpus", notes]
    code, out, err = command(run_agents.main, ROOT / "recipes/search_qa.py", *asked, "--team_settings", "max_rounds=1")
    assert code == 0 and len(json.loads(out)["turns"]) == 3, err
    evaluated = ["--data", "word_problems", "--adapter", made / "run", "--output", notes / "eval"]
    code, _, err = command(evaluate.main, *evaluated, "--team_settings", "max_rounds=1")
    assert code == 2 and "are for --agents" in err
    team = ["--agents", ROOT / "recipes/math_tool.py", "--team_settings", "max_rounds=1"]
    code, _, err = command(evaluate.main, *evaluated, *team)
    assert code == 2 and "math_tool takes max_attempts" in err
    code, _, err = command(evaluate.main, *evaluated, "--agents", ROOT / "recipes/deepcoder.py")
    assert code == 2 and "'word_problems' is math; deepcoder is for code" in err
    code, _, err = command(run_agents.main, ROOT / "recipes/search_qa.py", *asked, "--max_new_tokens", "0")
    assert code == 2 and "--max_new_tokens 0 must be at least 1" in err


def test_the_executor_plays_the_roles_that_it_is_given(
    made: Path,
    stub: StubEndpoint,
    tmp_path: Path,
    command: Command,
    sampled: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sampled["texts"] = ["plan", "```python\nprint(6 * 7)\n```"]
    stub.answer = lambda messages: "VERDICT: right"
    given = ["--adapter", made / "run", "--agent_models", "verifier=executor", *flags(stub, tmp_path)]
    recipe = ROOT / "recipes/math_tool.py"
    code, out, err = command(run_agents.main, recipe, "--question", "What is 6 * 7?", "--answer", 42, "--json", *given)
    assert code == 0, err
    shown = json.loads(out)
    assert shown["correct"] and shown["turns"][-1] | {"heard": ""} == {
        "agent": "verifier",
        "heard": "",
        "said": "VERDICT: right",
    }
    tokenizer = tiny_tokenizer()
    said = itertools.cycle([[*tokenizer.encode(text), tokenizer.eos_token_id] for text in sampled["texts"]])
    monkeypatch.setattr(
        "scripts.evaluating.agents.continued", lambda model, prompts, **_: [next(said) for _ in prompts]
    )
    problem = {"question": "What is 6 * 7?", "answer": "42", "source": "mine", "domain": "math"}
    (tmp_path / "mine.jsonl").write_text(json.dumps(problem))
    data = ["--data", tmp_path / "mine.jsonl", "--output", tmp_path / "eval"]
    code, _, err = command(evaluate.main, *data, "--agents", recipe, *given)
    assert code == 0, err
    (row,) = [json.loads(line) for line in (tmp_path / "eval/rows.jsonl").read_text().splitlines()]
    assert row["correct"] and row["dialogue"][-1][0] == "verifier"
    code, _, err = command(evaluate.main, *data, "--agents", recipe, *given[:2], "--agent_models", "judge=executor")
    assert code == 2 and "with one of analyzer, executor, verifier" in err


@pytest.mark.parametrize("line", ["[1]", "7", "", "{"])
def test_a_problem_that_is_no_object_is_a_usage_error(line: str, made: Path, tmp_path: Path, command: Command) -> None:
    (tmp_path / "problem.jsonl").write_text(line)
    asked = ["--problem", tmp_path / "problem.jsonl", "--adapter", made / "run"]
    code, _, err = command(run_agents.main, ROOT / "recipes/math_tool.py", *asked)
    assert code == 2 and "the problem cannot be read" in err


def test_a_team_is_not_evaluated_on_what_it_was_trained_on(tmp_path: Path) -> None:
    rows = [{"question": f"What is 1 + {n}?", "answer": str(n + 1), "source": "mine"} for n in range(30)]
    (tmp_path / "mine.jsonl").write_text("\n".join(json.dumps({**row, "domain": "math"}) for row in rows))
    name = str(tmp_path / "mine.jsonl")
    assert len(agent_problems([name], None, 0)) == 30
    assert 0 < len(agent_problems([name], None, 0, trained_on=[name])) < 30


# evaluate.py


def test_a_policy_is_not_evaluated_on_what_it_was_trained_on(
    made: Path, stub: StubEndpoint, tmp_path: Path, command: Command, sampled: dict[str, Any]
) -> None:
    rows = [{"question": f"What is {n} * 7?", "answer": str(7 * n), "source": "gsm8k"} for n in range(40)]
    data = tmp_path / "mine.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = shutil.copytree(made / "run", tmp_path / "run")
    settings = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**settings, "sources": [str(data)]}))
    held_out = {problem.question for problem in load_problems(str(data), "heldout", 40, seed=0)}
    asked = ["--data", data, "--model", made / "base", "--batch_size", 1, *flags(stub, tmp_path)]
    for name, extra, expected in (
        ("held_out", ["--adapter", run], held_out),
        ("all", ["--adapter", run, "--all_problems"], {row["question"] for row in rows}),
        ("others", ["--adapter", made / "run"], {row["question"] for row in rows}),
    ):
        code, _, err = command(evaluate.main, *asked, *extra, "--output", tmp_path / name)
        assert code == 0, err
        written = [json.loads(line)["question"] for line in (tmp_path / name / "rows.jsonl").read_text().splitlines()]
        assert len(written) == len(expected) and set(written) == expected
        trained = 40 - len(held_out)
        assert (f"was trained on {trained} of its 40 problems" in err) == (name == "held_out")
    data.write_text("".join(json.dumps(row) + "\n" for row in rows if row["question"] not in held_out))
    code, _, err = command(evaluate.main, *asked, "--adapter", run, "--output", tmp_path / "nothing")
    assert code == 2 and "--all_problems" in err


@pytest.fixture
def elsewhere(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose run was told relative paths, and another current folder; a policy of that name is there too."""
    project, here = tmp_path / "project", tmp_path / "here"
    shutil.copytree(made / "base", project / ".cache/policies/warm")
    (project / ".cache/policies/warm/config.yaml").write_text("sources: [warm.jsonl]\n")
    rows = [{"question": f"What is {n} * 7?", "answer": str(7 * n), "source": "gsm8k"} for n in range(40)]
    for name in ("mine.jsonl", "warm.jsonl"):
        (project / name).write_text(
            "".join(json.dumps({**row, "id": f"{name} {row['answer']}"}) + "\n" for row in rows)
        )
    for folder in ("best", "checkpoint-2"):
        kept = shutil.copytree(made / "run", project / "outputs/run" / folder, ignore=shutil.ignore_patterns("*.jsonl"))
        (kept / "summary.json").unlink()  # only a run's own folder has it
        adapter = json.loads((kept / "adapter_config.json").read_text())
        adapter["base_model_name_or_path"] = ".cache/policies/warm"
        (kept / "adapter_config.json").write_text(json.dumps(adapter))
        settings = {"prompt_style": "brief", "sources": ["mine.jsonl"], "model_name_or_path": ".cache/policies/warm"}
        (kept / "config.yaml").write_text(yaml.safe_dump(settings))
    (here / ".cache/policies/warm").mkdir(parents=True)
    (here / ".cache/policies/warm/config.json").write_text("{}")  # of another run
    (project / "outputs/mine.jsonl").mkdir()
    monkeypatch.chdir(here)
    return project


@pytest.mark.parametrize("folder", ["best", "checkpoint-2"])
def test_a_kept_adapter_works_alone_and_from_another_folder(
    folder: str, elsewhere: Path, stub: StubEndpoint, tmp_path: Path, command: Command, sampled: dict[str, Any]
) -> None:
    kept = elsewhere / "outputs/run" / folder
    asked = ["--adapter", kept, *flags(stub, tmp_path)]
    code, _, err = command(run_workflow.main, "--question", "What is 6 * 7?", *asked)
    assert code == 0, err
    assert sampled["prompts"][-1][0]["content"].startswith("math: ")
    data = [elsewhere / "mine.jsonl", elsewhere / "warm.jsonl"]
    code, _, err = command(evaluate.main, "--data", *data, "--batch_size", 1, *asked, "--output", tmp_path / "rows")
    assert code == 0, err
    held_out = {problem.question for problem in load_problems(str(data[0]), "heldout", 40, seed=0)}
    written = [json.loads(line) for line in (tmp_path / "rows" / "rows.jsonl").read_text().splitlines()]
    assert len(written) == 2 * len(held_out) and {row["question"] for row in written} == held_out
    assert sampled["prompts"][-1][0]["content"].startswith("math: ")
    code, _, err = command(merge_adapter.main, kept, "--output", tmp_path / "merged")
    assert code == 0, err
    assert yaml.safe_load((tmp_path / "merged" / "config.yaml").read_text())["prompt_style"] == "brief"
    code, _, err = command(push_to_hub.main, kept, "--hub_model_id", "me/policy", "--dry_run")
    assert code == 0, err
    assert yaml.safe_load((kept / "hub" / "config.yaml").read_text())["prompt_style"] == "brief"
    assert (kept / "hub" / "base_model" / "model.safetensors").is_file()
    assert yaml.safe_load((kept / "hub" / "base_model" / "config.yaml").read_text())["sources"] == ["warm.jsonl"]


def test_a_policy_to_evaluate_must_be_named(tmp_path: Path, command: Command) -> None:
    code, _, err = command(evaluate.main, "--data", "x.jsonl", "--output", tmp_path / "out")
    assert code == 2 and "one of --workflow, --model, --adapter and --baseline" in err
    code, _, err = command(evaluate.main, "--data", "x", "--output", "o", "--baseline", "all", "--adapter", "a")
    assert code == 2 and "--adapter is a policy's" in err
