import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from transformers import HfArgumentParser

from aflow_ops.errors import BudgetExceededError, UsageError
from aflow_ops.executor import ExecutorConfig, executor_config_from
from aflow_ops.language import parse_workflow
from aflow_ops.search.aflow_folder import read_aflow_folder
from aflow_ops.search.aflow_template import read_template
from aflow_ops.search.expand import Context
from aflow_ops.search.node import Node
from data.problem import DataError
from recipes.policy.tiny import build_tiny_policy, train_tokenizer
from scripts.search import command_of, parse_arguments
from scripts.searching.problems import read_slices
from scripts.searching.proposers import ProposerSettings, check_proposer, open_proposer, optimizer_config
from tests import commands
from tests.aflow_ops.search.test_search_aflow_folder import loaded
from tests.commands import KEY, Done
from tests.patience import PATIENCE
from tests.stub_endpoint import Broken, Failure, Messages, StubEndpoint

ROOT = Path(__file__).parents[2]
FILES = ("graph.py", "prompt.py")
SUM = re.compile(r"What is (\d+) \+ (\d+)\?")


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    """Problems that a Programmer solves and a model asked directly does not."""
    path = tmp_path / "sums.jsonl"
    rows = [
        {"question": f"What is {a} + {a * 7 + 5}?", "answer": str(a * 8 + 5), "source": "sums", "domain": "math"}
        for a in range(100, 220)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def executor(messages: Messages) -> str:
    """Writes right code, guesses otherwise."""
    text = messages[-1]["content"]
    found = SUM.search(text)
    if "solve" in text + messages[0]["content"] and found:
        return f"```python\ndef solve():\n    return {found[1]} + {found[2]}\n```"
    return "17"


def command(stub: StubEndpoint, data: Path, output: Path, *flags: str) -> list[str]:
    heldout = () if "--per_problem" in flags else ("--heldout_problems", "8")
    return [
        sys.executable, str(ROOT / "scripts" / "search.py"), "--data", str(data), "--output", str(output),
        "--executor_base_url", stub.url, "--executor_cache_dir", str(output.parent / "cache"),
        "--validation_problems", "8", *heldout, *flags,
    ]  # fmt: skip


def run(arguments: list[str], **environment: str) -> Done:
    return commands.run("scripts/search.py", *arguments[2:], **{"COLUMNS": "120", **environment})


def summary_of(folder: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


@pytest.mark.parametrize(("sources", "first"), [(("arithmetic",), 4), (("arithmetic", "small_functions"), 8)])
def test_a_candidate_meets_some_problems_of_each_kind_before_it_may_be_given_up(
    tmp_path: Path, sources: tuple[str, ...], first: int
) -> None:
    flags = ["--data", *sources, "--executor", "local", "--output", str(tmp_path), "--validation_problems", "18"]
    found = command_of(parse_arguments(flags), lambda summary, folder: None)
    rungs = found.rungs(found.slices.validation)
    assert rungs.sizes()[0] == first
    kinds = [found.slices.all[key].domain for key in rungs.problems[:first]]
    assert min(map(kinds.count, set(kinds))) == 4 and len(set(kinds)) == len(sources)


def test_the_grammar_finds_what_works_and_beats_its_root(stub: StubEndpoint, sums: Path, tmp_path: Path) -> None:
    stub.answer = executor
    out = tmp_path / "search"
    flags = ("--heldout_problems", "4", "--search_rounds", "14")
    done = run(command(stub, sums, out, *flags, "--parallel", "5", "--seed", "1"))
    assert done.returncode == 0, done.stderr
    assert "found (node" in done.stdout and "Traceback" not in done.stderr
    summary = summary_of(out)
    assert (summary["mode"], summary["rounds"], summary["stopped"]) == ("dataset", 14, "rounds")
    best = summary["best"]
    assert best["heldout"]["reward"] == 1.0 and best["gap"] == pytest.approx(0.0)
    assert summary["controls"]["root"]["heldout"]["reward"] < 0.5
    assert summary["controls"]["fixed: Programmer"]["heldout"]["reward"] == 1.0
    assert {"independent_samples", "single_agent"} < set(summary["controls"])
    nodes = [json.loads(line) for line in (out / "nodes.jsonl").read_text().splitlines()]
    assert [node["id"] for node in nodes] == list(range(15))
    rows = [json.loads(line) for line in (out / "trajectories.jsonl").read_text().splitlines()]
    assert len({row["group"] for row in rows}) == 8
    assert "answer" not in rows[0]["problem"] and {row["form"] for row in rows} == {"design"}
    for row in rows:
        parse_workflow(row["completion"], domain="math", has_entry_point=False)
    graph, prompt = (out / "best" / name for name in ("graph.py", "prompt.py"))
    assert prompt.is_file()
    assert "Programmer" in parse_workflow(graph.read_text(), domain="math", has_entry_point=False).operators
    again = run(command(stub, sums, out, *flags, "--parallel", "5", "--seed", "1"))
    assert again.returncode == 0 and summary_of(out)["best"] == best
    other = run(command(stub, sums, out, *flags, "--seed", "2"))
    assert other.returncode == 2 and "seed was 1, is 2" in other.stderr


def optimizer(messages: Messages) -> str:
    """Proposes better and better workflows, and now and then nonsense."""
    seen = "\n".join(message["content"] for message in messages)
    if "cannot be used" in seen:
        body = 'draft = await programmer(problem=problem, analysis="Add.")\n    return draft["output"]'
        said = "let code compute it"
    elif len(seen) % 3 == 0:
        return "<graph><node op='Custom'/></graph>"
    else:
        body = f'draft = await custom(input=problem, instruction="Try {len(seen)}.")\n    return draft["response"]'
        said = "another instruction"
    return f"<modification>{said}</modification>\n```python\nasync def workflow(problem):\n    {body}\n```"


def both(messages: Messages) -> str:
    return optimizer(messages) if "You improve agent workflows" in messages[0]["content"] else executor(messages)


MODEL = ("--proposer", "openai", "--search_rounds", "6", "--parallel", "3", "--no-controls")


def test_a_model_proposes_with_its_own_endpoint_and_key(stub: StubEndpoint, sums: Path, tmp_path: Path) -> None:
    stub.answer = executor
    with StubEndpoint(optimizer) as other:
        arguments = command(stub, sums, tmp_path / "search", *MODEL, "--optimizer_base_url", other.url)
        done = run(arguments, OPTIMIZER_API_KEY="sk-optimizer-0123456789")
        assert done.returncode == 0, done.stderr
        assert set(other.keys) == {"Bearer sk-optimizer-0123456789"} and set(stub.keys) == {f"Bearer {KEY}"}
        asked = json.dumps([request["messages"] for request in other.requests])
        assert "does not solve" in asked and "gpt-4o" in {request["model"] for request in other.requests}
    summary = summary_of(tmp_path / "search")
    assert summary["cost_usd"]["optimizer"] > 0 and summary["tokens"]["optimizer"] > 0
    golds = {json.loads(line)["answer"] for line in sums.read_text().splitlines()}
    assert not any(f'"{gold}"' in asked for gold in golds)
    left = done.stdout + done.stderr + (tmp_path / "search" / "nodes.jsonl").read_text()
    assert KEY not in left and "sk-optimizer" not in left


def test_faults_on_the_wire_change_no_node(stub: StubEndpoint, sums: Path, tmp_path: Path) -> None:
    found = []
    for name, faulty in (("calm", False), ("faulty", True)):
        dice = random.Random(0)

        def answer(messages: Messages, faulty: bool = faulty, dice: random.Random = dice) -> str | Failure | Broken:
            if faulty and dice.random() < 0.3:
                return dice.choice([Failure(500), Failure(429, headers={"Retry-After": "0"}), Broken("cut")])
            return both(messages)

        stub.answer = answer
        folder = tmp_path / name / "search"
        retries = ("--executor_max_retries", "20", "--executor_max_backoff", "0.05")
        done = run(command(stub, sums, folder, *MODEL, "--optimizer_base_url", stub.url, *retries))
        assert done.returncode == 0, done.stderr
        found.append((folder / "nodes.jsonl").read_bytes())
    assert found[0] == found[1]


def test_a_request_that_is_refused_costs_a_problem_its_score_or_a_round_its_proposal_and_nothing_else(
    stub: StubEndpoint, sums: Path, tmp_path: Path
) -> None:
    slices = read_slices([str(sums)], 8, 8, 0)
    filtered = [next(iter(part.values())).question for part in (slices.validation, slices.heldout)]
    asked = 0

    def answer(messages: Messages) -> str | Failure:
        nonlocal asked
        if "You improve agent workflows" in messages[0]["content"]:
            asked += 1
            if asked == 1:
                return Failure(400, "Your prompt was flagged: content_policy_violation")
            return optimizer(messages)
        if any(question in messages[-1]["content"] for question in filtered):
            return Failure(400, "The response was filtered: content_filter")
        return executor(messages)

    stub.answer = answer
    out = tmp_path / "search"
    flags = ("--proposer", "openai", "--search_rounds", "4", "--parallel", "2", "--optimizer_base_url", stub.url)
    done = run(command(stub, sums, out, *flags))
    assert done.returncode == 0, done.stderr
    nodes = [Node.from_row(json.loads(line)) for line in (out / "nodes.jsonl").read_text().splitlines()]
    ran = [node for node in nodes if node.status == "ok"]
    assert ran and all(list(node.unscored) == list(slices.validation)[:1] for node in ran)
    assert all("content_filter" in said for node in ran for said in node.unscored.values())
    assert [node.error for node in nodes if "was flagged" in (node.error or "")]
    summary = summary_of(out)
    assert summary["stopped"] == "rounds" and summary["best"]["validation"]["n"] == 7
    assert summary["best"]["heldout"]["n"] == summary["controls"]["root"]["heldout"]["n"] == 7
    assert all("gain" in control for control in summary["controls"].values())
    again = len(stub.requests)
    assert run(command(stub, sums, out, *flags)).returncode == 0
    assert len(stub.requests) - again < 60  # what is refused is asked again, the rest is in the cache


@pytest.mark.parametrize("kills", [pytest.param(1, marks=pytest.mark.slow), pytest.param(10, marks=pytest.mark.long)])
def test_a_search_that_is_killed_again_and_again_ends_as_if_it_was_not(
    kills: int, stub: StubEndpoint, sums: Path, tmp_path: Path
) -> None:
    stub.answer = both
    whole, killed = tmp_path / "whole" / "search", tmp_path / "killed" / "search"
    flags = (*MODEL, "--optimizer_base_url", stub.url, "--operator_roots", "--final_problems", "6")
    assert run(command(stub, sums, whole, *flags)).returncode == 0
    stub.latency = 0.05
    dice = random.Random(1)
    for _ in range(kills):
        before = len(stub.requests)
        process = subprocess.Popen(
            command(stub, sums, killed, *flags), env={**os.environ, "OPENAI_API_KEY": KEY},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while len(stub.requests) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 0.6))
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
    stub.latency = 0.0
    assert run(command(stub, sums, killed, *flags)).returncode == 0
    for name in ("nodes.jsonl", "trajectories.jsonl", "best/graph.py", "settings.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    best = summary_of(whole)["best"]
    assert summary_of(killed)["best"] == best
    assert {each["n"] for each in best["finalists"]} == {6} and best["id"] in [each["id"] for each in best["finalists"]]


def test_ctrl_c_leaves_a_search_that_is_summed_up_and_goes_on(stub: StubEndpoint, sums: Path, tmp_path: Path) -> None:
    stub.answer, stub.latency = both, 0.1
    whole, cut = tmp_path / "whole" / "search", tmp_path / "cut" / "search"
    flags = (*MODEL, "--optimizer_base_url", stub.url)
    process = subprocess.Popen(
        command(stub, sums, cut, *flags), env={**os.environ, "OPENAI_API_KEY": KEY},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + PATIENCE
    while not (cut / "nodes.jsonl").is_file() or not (cut / "nodes.jsonl").read_bytes():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    summary = summary_of(cut)
    assert summary["stopped"] == "interrupted" and summary["best"]["id"] == 0 and (cut / "best" / "graph.py").is_file()
    stub.latency = 0.0
    for folder in (cut, whole):
        assert run(command(stub, sums, folder, *flags)).returncode == 0
    assert (cut / "nodes.jsonl").read_bytes() == (whole / "nodes.jsonl").read_bytes()
    assert summary_of(cut)["stopped"] == "rounds"


def test_every_problem_by_itself_with_pass_at_k(stub: StubEndpoint, sums: Path, tmp_path: Path) -> None:
    stub.answer = executor
    out = tmp_path / "search"
    flags = ("--per_problem", "--search_rounds", "12", "--parallel", "3", "--validation_problems", "6")
    done = run(command(stub, sums, out, *flags))
    assert done.returncode == 0, done.stderr
    summary = summary_of(out)
    assert summary["mode"] == "problem" and summary["best"] is None
    first, last = summary["pass_at_k"]["0"], summary["pass_at_k"]["12"]
    assert first["1"]["mean"] == 0.0 and last["8"]["mean"] > first["1"]["mean"]
    low, high = last["1"]["ci95"]
    assert 0 <= low <= last["1"]["mean"] <= high <= 1
    controls = summary["controls"]
    assert controls["root"]["heldout"]["reward"] < controls["fixed: Programmer"]["heldout"]["reward"] == 1.0
    assert (
        controls["single_agent"]["pass_at_k"]["4"]["mean"] == 0.0 < controls["independent_samples"]["heldout"]["reward"]
    )
    assert controls["independent_samples"]["tokens"] > summary["tokens"]["executor"] / 2
    assert "single agent for as many tokens: pass@1 0.000" in done.stdout
    before = (out / "nodes.jsonl").read_bytes()
    (out / "nodes.jsonl").write_bytes(before[: len(before) * 2 // 3])
    assert run(command(stub, sums, out, *flags)).returncode == 0
    assert (out / "nodes.jsonl").read_bytes() == before


def test_a_search_for_every_problem_is_given_more_rounds(stub: StubEndpoint, sums: Path, tmp_path: Path) -> None:
    stub.answer = executor
    few, many = tmp_path / "a" / "few", tmp_path / "a" / "many"
    flags = ("--per_problem", "--parallel", "2", "--validation_problems", "3", "--no-controls")
    for folder, rounds in ((few, "2"), (few, "5"), (many, "5")):
        done = run(command(stub, sums, folder, *flags, "--search_rounds", rounds))
        assert done.returncode == 0, done.stderr
    assert (few / "nodes.jsonl").read_bytes() == (many / "nodes.jsonl").read_bytes()
    rows = [json.loads(line) for line in (few / "nodes.jsonl").read_text().splitlines()]
    assert [row["round"] for row in rows] == [*range(6)] * 3
    assert summary_of(few)["pass_at_k"] == summary_of(many)["pass_at_k"]
    before = (few / "nodes.jsonl").read_bytes()
    spent = ("--search_rounds", "8", "--executor_budget_usd", "1e-9")
    assert run(command(stub, sums, few, *flags, *spent)).returncode == 3
    assert (few / "nodes.jsonl").read_bytes() == before


def test_as_many_problems_as_there_are_where_nobody_says_how_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "few.jsonl"
    rows = [{"question": f"What is {index} + 1?", "answer": str(index + 1), "source": "gsm8k"} for index in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_slices([str(path)], None, None, 0)
    assert len(found.validation) + len(found.heldout) == 30 and found.heldout
    said = capsys.readouterr().err
    assert f"--validation_problems {len(found.validation)}, which is all that there are" in said
    assert len(read_slices([str(path)], None, 0, 0, 4).final) == 4
    with pytest.raises(DataError, match=r"has \d+ only; give more data, or at most --validation_problems"):
        read_slices([str(path)], 32, 0, 0)
    command = command_of(parse_arguments(["--data", str(path), "--output", str(tmp_path / "out"), "--per_problem"]))
    assert command.facts()["validation_problems"] == len(found.validation)


def test_two_problems_of_one_name_are_not_taken_for_one(tmp_path: Path) -> None:
    for name, shift in (("one", 0), ("two", 1000)):
        rows = [
            {"question": f"What is {index + shift} + 1?", "answer": "1", "source": "gsm8k", "id": str(index)}
            for index in range(40)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = [str(tmp_path / f"{name}.jsonl") for name in ("one", "two")]
    with pytest.raises(DataError, match="two problems that are called gsm8k/"):
        read_slices(sources, 40, 0, 0)
    with pytest.raises(DataError, match="two problems that are called gsm8k/"):
        read_slices(sources, 40, 10, 0)


def test_prices_are_numbers_whoever_read_the_fields_before() -> None:
    HfArgumentParser(ExecutorConfig)  # type: ignore[arg-type] # of a recipe: it changes the types of the fields
    arguments = parse_arguments(["--data", "arithmetic", "--output", "x", "--executor_price", "1", "2"])
    assert executor_config_from(arguments).executor_price == [1.0, 2.0]


def test_the_optimizers_price_is_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data", "arithmetic", "--output", "x", "--proposer", "openai", "--optimizer_model", "mine"]
    words += ["--executor_price", "1", "2", "--optimizer_budget_usd", "1"]
    arguments = parse_arguments(words)
    with pytest.raises(UsageError, match=r"optimizer_budget_usd=1 .* give --optimizer_price IN OUT"):
        optimizer_config(ProposerSettings.of(arguments), executor_config_from(arguments))
    arguments = parse_arguments([*words, "--optimizer_price", "3", "4"])
    config = optimizer_config(ProposerSettings.of(arguments), executor_config_from(arguments))
    assert config.price(1_000_000, 1_000_000) == 7.0


async def test_a_model_without_a_price_is_told_by_the_optimizers_flag(
    stub: StubEndpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", "arithmetic", "--output", "x", "--proposer", "openai", "--optimizer_model", "mine"]
    arguments = parse_arguments([*words, "--optimizer_base_url", stub.url])
    asked, config = ProposerSettings.of(arguments), executor_config_from(arguments)
    await check_proposer(asked, config)
    async with AsyncExitStack() as stack:
        await open_proposer(asked, config, stack, tmp_path)
    said = capsys.readouterr().err
    assert (
        said.count("the price of mine") == 1 and "--optimizer_price IN OUT" in said and "--executor_price" not in said
    )


def test_a_spread_that_there_is_not_is_told(sums: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data", str(sums), "--output", str(tmp_path / "out"), "--convergence_z", "1.96"]
    command_of(parse_arguments(words))
    assert "--convergence_z 1.96 is as 0 with --validation_rounds 1" in capsys.readouterr().err
    command_of(parse_arguments([*words, "--validation_rounds", "3"]))
    assert "convergence_z" not in capsys.readouterr().err


def test_a_spent_budget_ends_with_what_was_found_and_a_kill_gives_nothing_of_it_back(
    stub: StubEndpoint, sums: Path, tmp_path: Path
) -> None:
    price, budget = 500 * 0.6e-6, 0.02  # of a reply, without the prompt
    stub.answer = lambda messages: "17 " * 500
    out = tmp_path / "search"
    flags = ("--search_rounds", "50", "--executor_budget_usd", str(budget), "--executor_cache_dir", "none")
    process = subprocess.Popen(
        command(stub, sums, out, *flags), env={**os.environ, "OPENAI_API_KEY": KEY},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while len(stub.requests) < 30 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)
    paid = json.loads((out / ".spent-executor.json").read_text())["cost_usd"]
    assert paid > 5 * price
    before = len(stub.requests)
    done = run(command(stub, sums, out, *flags))
    assert done.returncode == 3 and "budget" in done.stderr
    assert summary_of(out)["stopped"] == "budget" and (out / "best" / "graph.py").is_file()
    again = len(stub.requests) - before - 1  # one asks whether the endpoint answers
    assert paid + again * price <= budget


async def test_the_optimizers_budget_is_that_of_all_starts(
    stub: StubEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPTIMIZER_API_KEY", KEY)
    stub.answer = lambda messages: "no workflow " * 250
    words = ["--data", "arithmetic", "--output", "x", "--proposer", "openai", "--optimizer_base_url", stub.url]
    words += ["--optimizer_model", "gpt-4o-mini", "--optimizer_budget_usd", "0.003", "--executor_cache_dir", "none"]
    arguments = parse_arguments([*words, "--executor_base_url", stub.url, "--optimizer_max_tokens", "500"])
    for _ in range(10):
        try:
            async with AsyncExitStack() as stack:
                asked, config = ProposerSettings.of(arguments), executor_config_from(arguments)
                make = await open_proposer(asked, config, stack, tmp_path)
                await make({}).propose(Context(Node(0, None, 0, "root", "", ""), 0.0), [])
        except BudgetExceededError as error:
            assert "raise --optimizer_budget_usd" in str(error) and "executor" not in str(error)
            break
    assert 2 <= len(stub.requests) < 10


def aflow_workspace(folder: Path) -> Path:
    """Write a workspace as AFlow's optimizer leaves it after three rounds, the last of which was no Python."""
    rows = [{"round": 1, "score": 0.1, "avg_cost": 1e-4, "total_cost": 0.01, "time": "2025-01-01T00:00:00"}]
    rows += [{**rows[0], "round": 2, "score": 0.6}]
    experience = {
        "father node": 1,
        "modification": "Let code compute it.",
        "before": 0.1,
        "after": 0.6,
        "succeed": True,
    }
    graph, prompt = ((ROOT / "tests/aflow_ops/published/math" / name).read_text() for name in FILES)
    second = graph.replace("round_1", "round_2").replace("operator.Custom", "operator.Programmer")
    second = second.replace("self.custom", "self.programmer").replace(
        "input=problem, instruction=''", "problem=problem"
    )
    files = {
        "results.json": json.dumps(rows),
        "processed_experience.json": json.dumps({"1": {"score": 0.1, "success": {"2": experience}, "failure": {}}}),
        **{f"template/{name}": "raise SystemExit\n" for name in ("operator.py", "op_prompt.py", "operator_an.py")},
        "template/operator.json": json.dumps(
            {
                name: {"description": f"What {name} does.", "interface": f"{name.lower()}(problem: str) -> dict"}
                for name in ("Custom", "Programmer", "ScEnsemble", "Oracle")
            }
        ),
        "round_1/graph.py": graph,
        "round_1/prompt.py": prompt,
        "round_1/log.json": json.dumps([{"question": "q", "right_answer": "17"}]),
        "round_2/graph.py": second.replace("['response']", "['output']"),
        "round_2/prompt.py": "",
        "round_2/experience.json": json.dumps(experience),
        "round_3/graph.py": "<graph><node op='Custom'/></graph>",
        "round_3/prompt.py": "",
        "round_3/experience.json": json.dumps({**experience, "father node": 2, "after": 0.0, "succeed": False}),
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_aflows_rounds_are_the_roots_and_ours_are_written_as_its(
    stub: StubEndpoint, sums: Path, tmp_path: Path
) -> None:
    stub.answer = executor
    workflows = aflow_workspace(tmp_path / "MATH" / "workflows")
    flags = ("--import_aflow", str(workflows), "--export_aflow", str(tmp_path / "out"), "--search_rounds", "2")
    done = run(command(stub, sums, tmp_path / "search", *flags, "--aflow_dataset", "MATH"))
    assert done.returncode == 0, done.stderr
    nodes = [json.loads(line) for line in (tmp_path / "search" / "nodes.jsonl").read_text().splitlines()]
    assert [node["status"] for node in nodes] == ["ok", "ok", "rejected", "ok", "ok"]
    assert [(node["origin"], node["parent"]) for node in nodes[:3]] == [("import", None), ("import", 0), ("import", 1)]
    assert nodes[1]["modification"] == "AFlow's round 2, 0.600 there: Let code compute it."
    assert "has operators that are not here: Oracle" in done.stderr
    for node in nodes[3:]:
        found = parse_workflow(node["workflow"], domain="math", has_entry_point=False)
        assert set(found.operators) <= {"Custom", "Programmer", "ScEnsemble"}
    assert summary_of(tmp_path / "search")["controls"]["root"]["heldout"]["reward"] == 1.0
    template = read_template(tmp_path / "out")
    assert template is not None and template.described["Oracle"] == "What Oracle does."
    assert template.files["op_prompt.py"] == "raise SystemExit\n"
    rounds = read_aflow_folder(tmp_path / "out")
    assert [each.number for each in rounds] == [1, 2, 3, 4]
    assert [each.father for each in rounds[:2]] == [None, 1] and "Let code compute it." in rounds[1].modification
    for each in rounds:
        graph, prompt = ((tmp_path / "out" / f"round_{each.number}" / name).read_text() for name in FILES)
        assert "workspace.MATH.workflows" in graph
        native, calls = loaded(graph, prompt)
        answer, cost = asyncio.run(native(problem="What is 1 + 1?"))
        assert isinstance(answer, str) and cost == 0.25 and calls


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--validation_problems", "0"), "--validation_problems 0 must be at least 1"),
        (("--price_per_usd", "nan"), "--price_per_usd nan"),
        (("--convergence_z", "nan"), "--convergence_z nan must be at least 0"),
        (("--convergence_z", "inf"), "--convergence_z inf must be at least 0"),
        (("--optimizer_adapter", "x"), "--optimizer_adapter is for a policy that is run here"),
        (("--optimizer_top_p", "0"), "--optimizer_top_p 0.0 must be above 0"),
        (("--per_problem", "--heldout_problems", "9"), "--heldout_problems is for one search for all"),
        (("--per_problem", "--final_problems", "9"), "--final_problems is for one search for all"),
        (("--aflow_dataset", "a/b"), "--aflow_dataset 'a/b' is no name for a Python module"),
        (("--export_aflow", __file__), "is a file; it takes a folder"),
        (("--import_aflow", "x", "--export_aflow", "x/workflows"), "x/workflows is what --import_aflow reads"),
    ],
)
def test_a_wrong_flag_is_one_line(flags: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse_arguments(["--data", "arithmetic", "--output", "x", *flags])
    err = capsys.readouterr().err
    assert stop.value.code == 2 and said in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--data", "nothing_such"), "unknown source 'nothing_such'"),
        (("--validation_problems", "100000"), "only; give more data, or at most --validation_problems"),
        (("--root", "missing.py"), "missing.py cannot be read"),
        (("--import_aflow", "missing"), "no round_N folder"),
    ],
)
def test_bad_input_is_one_line(
    flags: tuple[str, ...], said: str, stub: StubEndpoint, sums: Path, tmp_path: Path
) -> None:
    done = run(command(stub, sums, tmp_path / "search", *flags))
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert not stub.requests


async def test_a_proposer_without_a_key_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPTIMIZER_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    words = ["--data", "arithmetic", "--output", "x", "--proposer", "openai", "--executor", "local"]
    arguments = parse_arguments(words)
    with pytest.raises(UsageError, match="no --proposer openai: neither OPTIMIZER_API_KEY nor OPENAI_API_KEY is set"):
        await check_proposer(ProposerSettings.of(arguments), executor_config_from(arguments))


def test_a_policy_that_cannot_be_loaded_is_one_line(stub: StubEndpoint, sums: Path, tmp_path: Path) -> None:
    flags = ("--proposer", "policy", "--optimizer_model", str(tmp_path / "nowhere"))
    done = run(command(stub, sums, tmp_path / "search", *flags))
    assert done.returncode == 2 and "--optimizer_model" in done.stderr and "cannot be loaded" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_policy_that_is_run_here_proposes_designs_and_its_tokens_are_kept(
    stub: StubEndpoint, sums: Path, tmp_path: Path
) -> None:
    stub.answer = executor
    tokenizer = train_tokenizer(["a workflow of a few words"], 300)
    policy = tmp_path / "checkpoint-7"
    build_tiny_policy(tokenizer, hidden_size=64, num_layers=1, max_length=512, seed=0).save_pretrained(policy)
    tokenizer.save_pretrained(policy)
    flags = ("--proposer", "policy", "--optimizer_model", str(policy), "--optimizer_form", "design", "--parallel", "2")
    flags += ("--prompt_style", "brief", "--optimizer_max_tokens", "8", "--search_rounds", "2")  # type: ignore[assignment]
    done = run(command(stub, sums, tmp_path / "search", *flags, "--no-controls"))
    assert done.returncode == 0, done.stderr
    nodes = [json.loads(line) for line in (tmp_path / "search" / "nodes.jsonl").read_text().splitlines()]
    assert [(node["origin"], node["status"]) for node in nodes[1:]] == [("policy", "rejected")] * 2
    rows = [json.loads(line) for line in (tmp_path / "search" / "trajectories.jsonl").read_text().splitlines()]
    written = [row for row in rows if row["completion_ids"] is not None]
    assert len(written) == 8 and all(row["policy"]["step"] == 7 and row["form"] == "design" for row in written)
    assert all(len(row["completion_ids"]) == len(row["logprobs"]) <= 8 for row in written)
    assert all(value <= 0 for row in written for value in row["logprobs"])


def test_a_root_that_is_no_workflow_is_one_line(stub: StubEndpoint, sums: Path, tmp_path: Path) -> None:
    (tmp_path / "graph.xml").write_text("<graph/>")
    done = run(command(stub, sums, tmp_path / "search", "--root", str(tmp_path / "graph.xml")))
    assert done.returncode == 2 and "no workflow to start from" in done.stderr and "Traceback" not in done.stderr
