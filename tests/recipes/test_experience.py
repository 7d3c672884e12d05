"""Trajectories as recipes are given them, and the warm start that learns from them."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from aflow_ops.errors import UsageError
from aflow_ops.policy_prompt import PromptStyle, policy_messages
from data.problem import DataError, Problem
from data.registry import load_problems
from data.trajectories import Trajectory
from recipes.dpo_search import DPOSearchArguments, pairs_of
from recipes.grpo_replay import GRPOReplayArguments, used_trajectories
from recipes.policy.warm_start import fingerprint_of
from recipes.run.command import run_command
from recipes.settings.arguments import WorkflowGRPOConfig
from recipes.sft_warmstart import WarmStartArguments, best_trajectories, main, warm_start_pairs
from recipes.training.experience import Caps, cap, in_style, load_trajectories, same_workflow

ASK = "async def workflow(problem):\n    return (await custom(input=problem))['response']"
PROGRAM = 'async def workflow(problem):\n    return (await programmer(problem=problem))["output"]'


def fenced(text: str) -> str:
    return f"```python\n{text}\n```"


def trajectory(problem: Problem, text: str, reward: float, style: PromptStyle = "full", **more: Any) -> Trajectory:
    row = {
        "group": f"{problem.source}/{problem.id}",
        "problem": {"id": problem.id, "source": problem.source, "domain": problem.domain},
        "prompt": policy_messages(problem.view, style), "completion": text, "reward": reward, "correct": reward == 1.0,
        "outcome": "ok", "node": 0, "origin": "openai", "form": "design", "policy": None,
        "completion_ids": None, "logprobs": None, **more,
    }  # fmt: skip
    return Trajectory.from_row(row)


def write(path: Path, rows: list[Trajectory]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row.to_row()) + "\n" for row in rows))
    return path


def test_one_workflow_in_other_words_is_one_workflow() -> None:
    problem = load_problems("arithmetic", "train", 1, 0)[0]
    texts = [fenced(ASK), ASK.replace("problem)", "problem )"), fenced(ASK.replace(":\n", ":\n    # think\n", 1))]
    texts += [ASK.replace("return (", "said = (") + "\n    return said", "nonsense", "other nonsense", " nonsense\n"]
    keys = [same_workflow(trajectory(problem, text, 0.0)) for text in texts]
    assert keys[0] == keys[1] == keys[2] and keys[4] == keys[6]
    assert len(set(keys)) == 4
    edit = trajectory(problem, f"<modification>x</modification>\n{fenced(ASK)}", 0.0, form="edit")
    assert same_workflow(replace(edit, source="a+b", id="all", domain="qa+math")) == keys[0]


def test_runs_of_one_workflow_are_one_row_with_their_mean(tmp_path: Path) -> None:
    problem = load_problems("arithmetic", "train", 1, 0)[0]
    first = write(tmp_path / "search" / "trajectories.jsonl", [trajectory(problem, fenced(ASK), 1.0)])
    second = write(tmp_path / "more.jsonl", [trajectory(problem, ASK, 0.0), trajectory(problem, PROGRAM, 0.7)])
    rows = load_trajectories([f"search:{first.parent}", str(second)])
    assert [(row.completion, row.reward, row.correct) for row in rows] == [
        (fenced(ASK), 0.5, False), (PROGRAM, 0.7, False),
    ]  # fmt: skip
    assert len({row.group for row in rows}) == 1
    with pytest.raises(UsageError, match=r"has no trajectories\.jsonl or rollouts\.jsonl or rows\.jsonl"):
        load_trajectories([str(tmp_path)])
    with pytest.raises(DataError, match="1 of 2 trajectories"):
        heldout = load_problems("arithmetic", "heldout", 1, 0)[0]
        write(second, [trajectory(heldout, ASK, 0.0), trajectory(problem, PROGRAM, 0.7)])
        load_trajectories([str(second)])


def test_a_runs_folder_gives_what_its_episodes_found_or_its_iterations_wrote(tmp_path: Path) -> None:
    first, second = load_problems("arithmetic", "train", 2, 0)
    for run, folders in (("loop", ("search/episode-01", "search/episode-02")), ("dpo", ("iteration-2",))):
        (tmp_path / run).mkdir()
        (tmp_path / run / "rollouts.jsonl").write_text("{}\n")
        for folder, problem in zip(folders, (first, second), strict=False):
            write(tmp_path / run / folder / "trajectories.jsonl", [trajectory(problem, ASK, 1.0)])
    assert [row.id for row in load_trajectories([str(tmp_path / "loop")])] == [first.id, second.id]
    assert [row.id for row in load_trajectories([f"search:{tmp_path / 'dpo'}"])] == [first.id]


def test_an_evaluation_gets_the_prompts_of_the_problems_that_are_named(tmp_path: Path) -> None:
    known, other = load_problems("arithmetic", "train", 2, 0)
    rows = [
        {"id": item.id, "source": item.source, "domain": item.domain, "question": item.question, "completion": ASK,
         "reward": 1.0, "correct": True, "outcome": "ok", "infra_error": None}
        for item in (known, other)
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (row,) = load_trajectories([str(tmp_path)], problems=[known], style="brief")
    assert row.key == (known.source, known.id) and list(row.prompt) == policy_messages(known.view, "brief")
    with pytest.raises(UsageError, match="no trajectory can be used"):
        load_trajectories([str(tmp_path)], problems=load_problems("gsm_symbolic", "train", 1, 0))
    taught = best_trajectories(warm_start([str(tmp_path)]), 0)
    assert {row.key for row in taught} == {(known.source, known.id), (other.source, other.id)}


@pytest.mark.parametrize("source", ["arithmetic", "invented_facts", "small_functions", "humaneval"])
def test_a_design_gets_the_prompt_of_the_runs_style(source: str) -> None:
    for problem in load_problems(source, "train", 5, 0):
        tokens = {"completion_ids": [1], "logprobs": [-1.0]}
        full = trajectory(problem, ASK, 1.0, "full", **tokens)
        brief = in_style(full, "brief")
        assert list(brief.prompt) == policy_messages(problem.view, "brief")
        assert brief.logprobs is None and in_style(full, "full") == full and in_style(brief, "brief") == brief
        assert in_style(brief, "full") == brief  # a passage may be missing
        foreign = trajectory(problem, ASK, 1.0, prompt=[{"role": "user", "content": "?"}])
        assert in_style(foreign, "brief") == foreign
        elsewhere = replace(full, domain="spelling")  # of a domain that a recipe of the user's own made known
        assert in_style(elsewhere, "brief") == elsewhere


def warm_start(places: list[str], **values: Any) -> WarmStartArguments:
    sources = ["arithmetic", "small_functions"]
    return WarmStartArguments(
        sources=sources, domain_mix="math=0.5,code=0.5", num_examples=20, trajectories=places, **values
    )


def test_of_equally_good_designs_the_simplest_is_kept_where_all_are_judged() -> None:
    problems = load_problems("arithmetic", "train", 6, 0)
    long = "Programmer -> Format -> Format"
    rows = [trajectory(problem, text, 1.0) for problem in problems for text in (long, "Programmer")]
    caps = Caps(1, 99, "best")
    assert {row.completion for row in cap(rows, caps)} == {long}  # the first ones
    assert {row.completion for row in cap(rows, caps, rows)} == {"Programmer"}


def test_every_recipe_keeps_the_simplest_of_equally_good_designs(tmp_path: Path) -> None:
    problems = load_problems("arithmetic", "train", 6, 0)
    texts = {"Programmer -> Format -> Format": 1.0, "Programmer": 1.0, "Custom": 0.0}  # the simple one is not the first
    rows = [trajectory(problem, text, reward) for problem in problems for text, reward in texts.items()]
    places = [str(write(tmp_path / "trajectories.jsonl", rows))]
    args = warm_start(places, trajectory_share=0.6, trajectories_per_problem=1)
    assert {row.completion for row in best_trajectories(args, 0)} == {"Programmer"}
    most: dict[str, Any] = {"trajectories": places, "trajectories_per_problem": 2}
    for pair in pairs_of(rows, DPOSearchArguments(**most), 0):
        assert (pair.chosen.completion, pair.rejected.completion) == ("Programmer", "Custom")
    replay = GRPOReplayArguments(sources=["arithmetic"], **most)
    training = WorkflowGRPOConfig(str(tmp_path), use_cpu=True, bf16=False)
    assert {row.completion for row in used_trajectories(replay, training)} == {"Programmer", "Custom"}


def test_the_best_of_each_problem_are_mixed_with_the_corpus_by_ratio(tmp_path: Path) -> None:
    problems = load_problems("arithmetic", "train", 6, 0)
    rows = [
        trajectory(problem, fenced(text), reward, outcome="ok" if reward else "policy_error")
        for problem in problems
        for text, reward in ((PROGRAM, 1.0), (ASK, 0.7), ("Custom -> Format", 0.4), ("nonsense", 0.0))
    ]
    path = str(write(tmp_path / "trajectories.jsonl", rows))
    args = warm_start([path], trajectory_share=0.6, trajectories_per_problem=1, trajectories_per_workflow=4)
    taken = best_trajectories(args, 0)
    assert len(taken) == 12 and len(warm_start_pairs(args, 0)) == 8
    texts = [row.completion for row in taken]
    edits = [replace(row, form="edit", completion="Custom") for row in rows]
    write(tmp_path / "trajectories.jsonl", [*edits, *rows])
    assert best_trajectories(args, 0) == taken
    assert texts.count(fenced(PROGRAM)) == 8 and texts.count(fenced(ASK)) == 4  # four problems, two without a turn
    assert len({row.key for row in taken}) == 6
    assert best_trajectories(args, 0) == taken != best_trajectories(args, 1)
    only = warm_start([path], trajectory_share=1.0, trajectory_reward=1.0)
    assert {row.completion for row in best_trajectories(only, 0)} == {fenced(PROGRAM)}
    assert warm_start_pairs(only, 0) == []
    assert len(warm_start_pairs(warm_start([]), 0)) == 20 and best_trajectories(warm_start([]), 0) == []
    with pytest.raises(UsageError, match="none earned 1"):
        best_trajectories(warm_start([str(write(tmp_path / "bad.jsonl", rows[1:2]))], trajectory_reward=1.0), 0)
    with pytest.raises(ValueError, match=r"trajectories_per_problem=0 must be at least 1"):
        warm_start([path], trajectories_per_problem=0)
    with pytest.raises(ValueError, match=r"trajectory_share=2"):
        warm_start([path], trajectory_share=2)


def test_a_task_is_named_as_in_the_corpus(tmp_path: Path) -> None:
    problem = load_problems("invented_facts", "train", 1, 0)[0]
    own = fenced(ASK.replace(":\n", ":\n    # qa: mine\n", 1))
    path = write(tmp_path / "rows.jsonl", [trajectory(problem, fenced(ASK), 1.0), trajectory(problem, own, 1.0)])
    for style in ("full", "brief"):
        args = warm_start([str(path)], task_line=True, prompt_style=style)
        (text,) = {row.completion for row in best_trajectories(args, 0)}
        first = " ".join(problem.question.split()[:2])
        assert text == fenced(ASK.replace(":\n", f":\n    # qa: {first}\n", 1))
    sampled = trajectory(problem, fenced(ASK), 1.0, completion_ids=[5], logprobs=[-0.1])
    edit = trajectory(problem, fenced(ASK), 1.0, form="edit", group="edits")
    path = write(tmp_path / "rows.jsonl", [sampled, edit, trajectory(problem, "Custom", 1.0)])
    named = load_trajectories([str(path)], task_line=True)
    assert [row.completion for row in named] == [
        fenced(ASK),
        fenced(ASK),
        "Custom",
    ]  # as they were written, or asked for


def test_a_warm_start_from_a_search_teaches_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    problems = load_problems("arithmetic", "train", 8, 0)
    rows = [trajectory(problem, text, reward) for problem in problems for text, reward in ((PROGRAM, 1.0), (ASK, 0.2))]
    write(tmp_path / "search" / "trajectories.jsonl", rows)
    flags = [
        "--from_scratch", "--vocab_size", "400", "--hidden_size", "64", "--num_layers", "1", "--sources", "arithmetic",
        "--domain_mix", "math=1", "--forms", "short", "--num_examples", "48", "--trajectory_share", "1", "--use_cpu",
        "--bf16", "false", "--use_peft", "false", "--activation_checkpointing", "false", "--learning_rate", "1e-2",
        "--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "1", "--num_train_epochs", "4",
        "--prompt_style", "brief", "--output_dir", str(tmp_path / "warm"),
        "--trajectories", f"search:{tmp_path / 'search'}",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["sft_warmstart.py", *flags])
    assert run_command(main) == 0, capsys.readouterr().err
    assert "8 trajectories of 8 problems (math 8), 1 workflows" in capsys.readouterr().err
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "warm", padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "warm")
    prompt = [policy_messages(problems[0].view, "brief")]
    inputs = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    written = model.generate(**inputs, do_sample=False, max_new_tokens=60)[0, inputs["input_ids"].shape[1] :]
    assert tokenizer.decode(written, skip_special_tokens=True) == PROGRAM


def test_a_cached_warm_start_knows_its_trajectories(tmp_path: Path) -> None:
    problem = load_problems("arithmetic", "train", 1, 0)[0]
    path = write(tmp_path / "rows.jsonl", [trajectory(problem, ASK, 1.0)])
    config = tmp_path / "warm.yaml"
    config.write_text(f"trajectories: [{path}]\n")
    first = fingerprint_of(config, 1, ())
    assert fingerprint_of(config, 1, ()) == first
    write(path, [trajectory(problem, ASK, 0.0)])
    assert fingerprint_of(config, 1, ()) != first
