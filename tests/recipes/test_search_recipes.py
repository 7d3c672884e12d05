"""search_qa, deepresearch and swe: their episodes with real tools, hostile agents, a real training step each."""

import asyncio
import json
import math
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import LoraConfig
from trl import ModelConfig, SFTConfig, TrlParser

from aflow_ops.agents.episode import Episode
from aflow_ops.agents.team import Outcome, Team
from aflow_ops.agents.tools.corpus import open_corpus
from aflow_ops.agents.tools.repository_tests import TestReport
from aflow_ops.errors import UsageError
from aflow_ops.executor import ExecutorConfig
from aflow_ops.sandbox import Sandbox
from data.invented_worlds import invented_worlds
from data.passages import passages_of
from data.planted_bugs import bug_kinds, planted_bug
from data.problem import DataError, Problem
from data.registry import load_problems
from data.repository_tasks import RepositoryTask, repository_task
from recipes import deepresearch, search_qa, swe
from recipes.agents_warmstart import AgentWarmStartArguments, scripted_turns
from recipes.policy.deepresearch_script import DeepResearchScript
from recipes.policy.search_qa_script import SearchQAScript
from recipes.policy.swe_script import SWEScript
from recipes.policy.tiny import build_tiny_policy, train_tokenizer
from recipes.settings.agents import AgentArguments
from recipes.settings.arguments import WorkflowGRPOConfig
from recipes.settings.layers import CONFIGS
from recipes.training.agents import AgentGRPOTrainer
from tests.patience import PATIENCE
from tests.recipes.test_agent_recipes import play
from tests.recipes.tiny_agents import given_turns

ROOT = Path(__file__).parents[2]
RECIPES: dict[str, tuple[Any, type, Callable[..., Team], str, Any]] = {
    "search_qa": (search_qa, search_qa.SearchQAArguments, search_qa.search_team, "invented_worlds", SearchQAScript()),
    "deepresearch": (
        deepresearch,
        deepresearch.DeepResearchArguments,
        deepresearch.research_team,
        "invented_worlds",
        DeepResearchScript(),
    ),
    "swe": (swe, swe.SWEArguments, swe.repository_team, "planted_bugs", SWEScript()),
}


def world(hops: int) -> tuple[Problem, list[Any], dict[str, Any]]:
    """A question that needs so many facts, the passages that tell them in the order of the chain, and all by id."""
    problem = next(p for p in invented_worlds(5) if len(p.extra["facts"]) == hops and " | " not in p.answer)
    passages = {passage.id: passage for passage in passages_of(problem)}
    return problem, [passages[name] for name in problem.extra["facts"]], passages


def heard(episode: Episode) -> str:
    """Everything that agents were told."""
    return "\n".join(turn.heard for turn in episode.turns)


# Settings


def values_of(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()))


@pytest.mark.parametrize("name", RECIPES)
def test_every_key_of_their_yamls_is_a_flag_and_defaults_are_the_yamls(name: str) -> None:
    for config in (name, f"{name}_quickstart"):
        parser = TrlParser((RECIPES[name][1], WorkflowGRPOConfig, ModelConfig, ExecutorConfig))
        assert parser.set_defaults_with_config(**values_of(config)) == []
    parser = TrlParser((AgentWarmStartArguments, SFTConfig, ModelConfig))
    assert parser.set_defaults_with_config(**values_of(f"{name}_warmstart")) == []
    defaults = RECIPES[name][0].DEFAULTS
    assert {key: values_of(name)[key] for key in defaults} == defaults


BAD_FLAGS = [
    ("search_qa", ["--topk", "0"], "topk=0 must be from 1 to 50"),
    ("search_qa", ["--max_rounds", "0"], "max_rounds=0"),
    ("search_qa", ["--corpus", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
    ("search_qa", ["--retriever_url", "localhost:1"], "is no address"),
    ("search_qa", ["--retriever_url", "http://x/y", "--corpus", "a.jsonl"], "go to one of them"),
    ("search_qa", ["--train_agents", "nobody"], "no such role"),
    ("deepresearch", ["--max_tool_calls", "0"], "max_tool_calls=0"),
    ("swe", ["--counterfactual", "2"], "from 0 to 1"),
    ("swe", ["--swe_backend", "docker"], "docker"),
]


@pytest.mark.parametrize("name", RECIPES)
def test_they_start_without_a_key_and_a_gpu_and_refuse_what_cannot_work(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)

    def dry_run(*flags: str) -> str:
        config = str(CONFIGS / f"{name}_quickstart.yaml")
        few = ["--num_train_problems", "12", "--num_heldout_problems", "6"]
        argv = ["--config", config, "--dry_run", "--output_dir", str(tmp_path / "run"), *few, *flags]
        monkeypatch.setattr(sys, "argv", ["recipe", *argv])
        RECIPES[name][0].main()
        return capsys.readouterr().out

    assert "nothing was started" in dry_run()
    for _, flags, message in (case for case in BAD_FLAGS if case[0] == name):
        with pytest.raises(UsageError, match=message):
            dry_run(*flags)
    assert not (tmp_path / "run").exists()


# Scripts


@pytest.mark.parametrize("name", RECIPES)
def test_a_script_speaks_for_every_role_and_errs(name: str, sandbox: Sandbox) -> None:
    _, _, make_team, source, script = RECIPES[name]
    team, problems = make_team(sandbox), load_problems(source, "train", 10, 0)
    turns = asyncio.run(scripted_turns(team, script, problems, 0))
    assert {messages[0]["content"] for messages, _ in turns} == {role.prompt for role in team.roles}
    with pytest.raises(ValueError, match=r"not an? (question|issue)|unpack"):
        script.reply(team.names[0], [{"role": "user", "content": "?"}] * 2, random.Random(0))


# search_qa


async def test_search_qa_pays_each_agent_for_its_own_part(sandbox: Sandbox) -> None:
    task, (home, goal), passages = world(2)
    team = search_qa.search_team(sandbox, topk=3)
    episode = await play(
        team,
        task,
        query_optimizer=[f"1. {home.text}", f"Query: {goal.text}"],
        document_retriever=[f"[{home.id}]", f"I keep [{goal.id}]."],
        answer_extractor=["UNKNOWN", f"ANSWER: {task.answer}"],
    )
    outcome = episode.outcome
    assert (episode.ending, outcome.team, outcome.correct, outcome.answer) == ("ok", 1.0, True, task.answer)
    assert outcome.local == {"query_optimizer": 1.0, "document_retriever": 1.0, "answer_extractor": 0.6}
    assert outcome.metrics == {
        "optimizer_runs": 2.0,
        "num_queries_generated": 2.0,
        "total_searches": 2.0,
        "extractor_attempts": 2.0,
        "answer_correct": 1.0,
        "search_recall": 1.0,
        "kept_recall": 1.0,
        "answered": 1.0,
    }
    told = "\n".join(
        m["content"] for talk in episode.conversations.values() for m in talk.messages if m["role"] == "user"
    )
    unseen = set(passages) - {home.id, goal.id}
    assert sum(passages[name].text in told for name in unseen) <= 4  # nothing but what was found


async def test_search_qa_stops_on_the_extractors_word_and_never_on_the_gold_answer(sandbox: Sandbox) -> None:
    task, (fact,), _ = world(1)
    team = search_qa.search_team(sandbox, max_rounds=3)
    said = {"query_optimizer": [fact.text] * 3, "document_retriever": [f"[{fact.id}]"] * 3}
    wrong = await play(team, task, **said, answer_extractor=["ANSWER: no idea"])
    assert (wrong.outcome.team, wrong.outcome.metrics["extractor_attempts"]) == (0.0, 1.0)
    shy = await play(team, task, **said, answer_extractor=["?"] * 3)
    assert (shy.outcome.team, shy.outcome.metrics["extractor_attempts"]) == (0.0, 3.0)
    assert shy.outcome.local["query_optimizer"] == pytest.approx(0.8 + 0.2 / 3)  # repetitions cost
    assert shy.outcome.local["answer_extractor"] == 0.0  # it was all there


@pytest.mark.parametrize("query", ["spores " * 150_000, "\n" * 10**6, "\x00" * 10**6, "a\n" * 500_000, "(" * 10**6])
async def test_a_query_of_a_megabyte_costs_whoever_wrote_it(query: str, sandbox: Sandbox) -> None:
    task, _, _ = world(1)
    team = search_qa.search_team(sandbox, max_rounds=1)
    episode = await play(
        team,
        task,
        query_optimizer=[query],
        document_retriever=["[" * 10**6],
        answer_extractor=["ANSWER: " + "x" * 10**6],
    )
    assert (episode.ending, episode.outcome.team) == ("ok", 0.0)
    assert episode.outcome.metrics["total_searches"] <= search_qa.MAX_QUERIES
    assert episode.outcome.local["query_optimizer"] == 0.0


async def test_who_keeps_everything_or_what_was_never_found_is_paid_less(sandbox: Sandbox) -> None:
    task, (fact,), passages = world(1)
    team = search_qa.search_team(sandbox, max_rounds=1)

    async def paid(kept: str) -> float:
        episode = await play(
            team, task, query_optimizer=[fact.text], document_retriever=[kept], answer_extractor=["UNKNOWN"]
        )
        return episode.outcome.local["document_retriever"] or 0.0

    everything = " ".join(f"[{name}]" for name in passages)
    assert await paid(f"[{fact.id}]") == 1.0
    assert 0 < await paid(everything) < 0.2
    assert await paid("[]") == await paid("[nothing]") == 0.0


async def test_a_choice_counts_when_it_was_found_and_is_kept_then(sandbox: Sandbox) -> None:
    task, (home, goal), _ = world(2)
    team = search_qa.search_team(sandbox, topk=1, max_rounds=2)
    queries = {"query_optimizer": [home.text, goal.text], "answer_extractor": ["UNKNOWN", "UNKNOWN"]}
    late = await play(team, task, **queries, document_retriever=["[]", f"[{home.id}] [{goal.id}]"])
    assert late.outcome.local["document_retriever"] == late.outcome.metrics["kept_recall"] == 1.0
    assert home.text in late.turns[-1].heard and goal.text in late.turns[-1].heard
    early = await play(team, task, **queries, document_retriever=[f"[{home.id}] [{goal.id}]", "[]"])
    assert early.outcome.metrics["kept_recall"] == 0.5 and goal.text not in early.turns[-1].heard


async def test_the_extractor_reads_titles_and_only_the_word_unknown_pays_it_for_not_knowing(sandbox: Sandbox) -> None:
    passages = [
        {"id": "1", "title": "Mila Torvan", "text": "She bakes."},
        {"id": "2", "title": "B", "text": "He sews."},
    ]
    row = {"question": "What does Mila Torvan do?", "answer": "bakes", "source": "mine", "domain": "qa"}
    task = Problem.from_row({**row, "extra": {"passages": passages, "facts": ["1", "2"]}})
    team = search_qa.search_team(sandbox, max_rounds=1)
    said = {"query_optimizer": ["mila"], "document_retriever": ["[1]"]}
    for reply, earned in (("UNKNOWN", 0.2), ("ANSWER: **unknown**", 0.2), ("?", 0.0), ("ANSWER: bakes", 1.0)):
        episode = await play(team, task, **said, answer_extractor=[reply])
        assert episode.outcome.local["answer_extractor"] == earned
        assert "Mila Torvan: She bakes." in episode.turns[-1].heard


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("ANSWER: Unknown Pleasures", "Unknown Pleasures"),
        ("ANSWER: UNKNOWN", ""),
        ("answer: unknown.", ""),
        ("ANSWER: UNKNOWN since nothing says it", ""),
        ("ANSWER: Unknown, they do not say", ""),
        ("UNKNOWN", ""),
    ],
)
def test_unknown_is_no_answer_and_a_title_that_begins_so_is_one(reply: str, answer: str) -> None:
    assert search_qa.answer_in(reply) == answer


@pytest.mark.parametrize("name", ["search_qa", "deepresearch"])
def test_problems_without_passages_are_refused_before_anything_is_loaded(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    rows = [{"question": f"Who is {number}?", "answer": "he", "source": "mine", "domain": "qa"} for number in range(40)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    argv = ["recipe", "--config", str(CONFIGS / f"{name}_quickstart.yaml"), "--sources", str(tmp_path / "mine.jsonl")]
    monkeypatch.setattr(sys, "argv", [*argv, "--output_dir", str(tmp_path / "run")])
    with pytest.raises(DataError, match="brings no passages: name a corpus"):
        RECIPES[name][0].main()


async def test_a_dead_retriever_is_nobodys_fault(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aflow_ops.agents.tools.retriever_server.PAUSE_SECONDS", 0.0)
    team = search_qa.search_team(sandbox, open_corpus(retriever_url="http://127.0.0.1:9/retrieve"))
    episode = await play(team, world(1)[0], query_optimizer=["a"])
    assert (episode.ending, episode.outcome.team) == ("infra_error", None)
    assert "the retriever at http://127.0.0.1:9/retrieve failed" in str(episode.error)


async def test_a_corpus_of_ones_own_is_searched(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "ferns.md").write_text("# Ferns\n\nFerns have spores.")
    task = Problem.from_row({"question": "What do ferns have?", "answer": "spores", "source": "mine", "domain": "qa"})
    team = search_qa.search_team(sandbox, open_corpus(str(tmp_path)))
    said = {"document_retriever": ["[ferns.md]"], "answer_extractor": ["ANSWER: spores"]}
    episode = await play(team, task, query_optimizer=["ferns"], **said)
    assert (episode.outcome.team, episode.outcome.metrics["kept_recall"]) == (1.0, 1.0)


# deepresearch


async def test_deepresearch_pays_for_facts_calls_and_citations(sandbox: Sandbox) -> None:
    task, (home, goal), _ = world(2)
    team = deepresearch.research_team(sandbox)
    first = {"planner": ["home\nthe other"], "gatherer": [f"SEARCH: {home.text}", f"KEEP: [{home.id}]"]}
    second = [f"READ: {goal.title}", f"KEEP: [{goal.id}]"]
    answer = f"ANSWER: {task.answer} [{home.id}] [{goal.id}]"
    episode = await play(team, task, **{**first, "gatherer": [*first["gatherer"], *second], "synthesizer": [answer]})
    outcome = episode.outcome
    assert (episode.ending, outcome.team, outcome.local) == (
        "ok",
        1.0,
        {"planner": 1.0, "gatherer": 1.0, "synthesizer": 1.0},
    )
    expected = {
        "planner_runs": 1,
        "num_subqueries": 2,
        "gatherer_runs": 4,
        "synthesizer_runs": 1,
        "total_tool_calls": 2,
    }
    assert {name: outcome.metrics[name] for name in expected} == expected
    assert outcome.metrics["fact_coverage"] == outcome.metrics["citation_support"] == 1.0
    bare = await play(
        team, task, **{**first, "gatherer": [*first["gatherer"], *second], "synthesizer": [f"ANSWER: {task.answer}"]}
    )
    assert bare.outcome.local["synthesizer"] == 0.6 and bare.outcome.team == 1.0
    elsewhere = next(p for p in passages_of(task) if p.title not in (home.title, goal.title))
    idle = await play(team, task, planner=["a"], gatherer=[f"READ: {elsewhere.title}", ""], synthesizer=["ANSWER: x"])
    assert idle.outcome.metrics["tool_success"] == 1.0 and idle.outcome.local["gatherer"] == 0.0


async def test_a_gatherer_keeps_what_it_was_shown_and_reads_page_by_page(sandbox: Sandbox, tmp_path: Path) -> None:
    task, (fact,), _ = world(1)
    team = deepresearch.research_team(sandbox, max_rounds=1)
    blind = f"SEARCH: {fact.text}\nKEEP: [{fact.id}]"
    episode = await play(team, task, planner=["a"], gatherer=[blind, ""], synthesizer=["UNKNOWN"])
    assert episode.outcome.metrics["fact_coverage"] == 0.0
    assert deepresearch.commands_in("SEARCH:\nKEEP: [1]") == [("search", ""), ("keep", "[1]")]

    (tmp_path / "long.md").write_text("Ferns are old.\n" * 200 + "They have spores.\n")
    asked = Problem.from_row({"question": "What have ferns?", "answer": "spores", "source": "mine", "domain": "qa"})
    team = deepresearch.research_team(sandbox, open_corpus(str(tmp_path)), max_rounds=1)
    for page, found in ((1, 0.0), (2, 1.0)):
        gatherer = [f"READ: long.md, page {page}", "KEEP: [long.md]"]
        episode = await play(team, asked, planner=["a"], gatherer=gatherer, synthesizer=["ANSWER: spores [long.md]"])
        assert episode.outcome.local["planner"] == episode.outcome.metrics["fact_coverage"] == found


async def test_a_tool_loop_and_made_up_citations_are_contained(sandbox: Sandbox) -> None:
    task, (fact,), _ = world(1)
    team = deepresearch.research_team(sandbox, max_rounds=1, max_steps_a_fact=5, max_tool_calls=4)
    loop = "\n".join(["SEARCH: mila"] * 1000 + ["READ: ../../etc/passwd"])
    episode = await play(
        team, task, planner=["a\nb\nc"], gatherer=[loop] * 15, synthesizer=[f"ANSWER: x [{fact.id}] [p999]"]
    )
    outcome = episode.outcome
    assert episode.ending == "ok" and outcome.team == 0.0
    assert outcome.metrics["total_tool_calls"] <= 4 * 4 and outcome.metrics["tool_success"] <= 0.25
    assert outcome.local["gatherer"] is not None and outcome.local["gatherer"] < 0.5
    with_page = await play(
        team, task, planner=["a"], gatherer=[f"READ: {fact.title}, page 99999999", ""], synthesizer=["?"]
    )
    assert with_page.ending == "ok" and with_page.outcome.local["synthesizer"] == 0.0


# swe


def bug(number: int = 0) -> tuple[Problem, str]:
    problem = planted_bug(bug_kinds()[number], random.Random(3))
    return problem, next(path for path in problem.extra["repository"]["files"] if path.endswith("series.py"))


async def test_swe_runs_hidden_tests_after_the_validators_word(sandbox: Sandbox) -> None:
    task, path = bug()
    useless = f"{path}\n<<<<<<< SEARCH\ndef total_up_to(n):\n=======\ndef total_up_to(n):  # well\n>>>>>>> REPLACE"
    team = swe.repository_team(sandbox, counterfactual=1.0)
    words = {"validator": ["VERDICT: wrong", "VERDICT: right"]}
    episode = await play(team, task, analyzer=[f"FILE: {path}"], writer=[useless, task.answer, useless], **words)
    outcome = episode.outcome
    assert (episode.ending, outcome.team, outcome.correct) == ("ok", 1.0, True)
    assert outcome.local == {"analyzer": 0.0, "writer": 0.5}
    assert outcome.verdicts["validator"] == [(False, False), (True, True)]
    assert outcome.metrics["recovery_rate"] == outcome.metrics["tests_passed"] == 1.0
    told = "\n".join(
        m["content"] for talk in episode.conversations.values() for m in talk.messages if m["role"] == "user"
    )
    assert "assert" not in told and "test_total_up_to" not in told
    helped = await play(team, task, analyzer=["?"], writer=[task.answer, useless], validator=["VERDICT: right"])
    assert helped.outcome.local["analyzer"] == 1.0


class ImageTests:
    """Stands for containers: one file, which is right when it says so."""

    async def files(self, task: RepositoryTask, paths: Sequence[str]) -> dict[str, str]:
        return {path: "x = 1\n" for path in paths if path == "shop/a.py"}

    async def run(self, task: RepositoryTask, files: Any, names: Sequence[str], before: Any) -> TestReport:
        assert before == {"shop/a.py": "x = 1\n"}
        return TestReport(dict.fromkeys(names, files["shop/a.py"] == "x = 2\n"))


async def test_in_an_image_the_files_that_the_analyzer_names_are_its_merit_and_the_control_names_its_own(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swe, "DockerTests", ImageTests)
    repository = {"image": "a:b", "fail_to_pass": ["t"]}
    row = {
        "question": "x is 2",
        "answer": "",
        "source": "r2e_gym",
        "domain": "swe",
        "extra": {"repository": repository},
    }
    task, edit = Problem.from_row(row), "shop/a.py\n<<<<<<< SEARCH\nx = 1\n=======\nx = 2\n>>>>>>> REPLACE"
    team = swe.repository_team(sandbox, "docker", max_attempts=1, counterfactual=1.0)
    asked = "FILE: shop/a.py\nFILE: parsed_commit.json\nFILE: tests/test_a.py"
    episode = await play(team, task, analyzer=[asked], writer=[edit, "?"], validator=["VERDICT: right"])
    assert (episode.outcome.team, episode.outcome.local["analyzer"]) == (1.0, 1.0)
    with_words, alone = [turn.heard for turn in episode.turns if turn.agent.startswith("writer")]
    assert "x = 1" in with_words and "x = 1" not in alone
    assert team.alone is not None
    single = replace(team, run=partial(team.alone, tokens=2))
    played = await play(single, task, writer=["FILE: shop/a.py", edit])
    assert played.outcome.team == 1.0 and "x = 1" in played.turns[1].heard


HOSTILE_EDITS = {
    "leaves the repository": "../outside.py\n<<<<<<< SEARCH\n=======\nx = 1\n>>>>>>> REPLACE",
    "edits the tests": "tests/test_series.py\n<<<<<<< SEARCH\n=======\ndef test_x(): pass\n>>>>>>> REPLACE",
    "brings a runner": "conftest.py\n<<<<<<< SEARCH\n=======\nimport os; os._exit(0)\n>>>>>>> REPLACE",
    "shadows pytest": "pytest.py\n<<<<<<< SEARCH\n=======\nraises = None\n>>>>>>> REPLACE",
    "a megabyte": "x" * 10**6,
    "nothing": "",
}


@pytest.mark.parametrize("name", HOSTILE_EDITS)
async def test_a_hostile_edit_is_refused_told_and_earns_nothing(name: str, sandbox: Sandbox) -> None:
    task, _ = bug()
    team = swe.repository_team(sandbox, max_attempts=1, counterfactual=0.0)
    both = "VERDICT: right\nVERDICT: wrong"
    episode = await play(team, task, analyzer=["?"], writer=[HOSTILE_EDITS[name]], validator=[both])
    outcome = episode.outcome
    assert (episode.ending, outcome.team, outcome.local["writer"]) == ("ok", 0.0, 0.0)
    assert outcome.metrics["edits_refused"] == 1.0 and outcome.answer.startswith("The edit was refused")
    assert outcome.verdicts["validator"] == [(True, False)]  # who says both is wrong


async def test_code_that_rewrites_its_runner_passes_nothing(sandbox: Sandbox) -> None:
    task, path = bug()
    attack = (
        "import sys, builtins\nbuiltins.AssertionError = KeyError\nsys.modules['pytest'] = None\nsys.exit = print\n"
    )
    edit = f"{path}\n<<<<<<< SEARCH\ndef total_up_to(n):\n=======\n{attack}def total_up_to(n):\n>>>>>>> REPLACE"
    team = swe.repository_team(sandbox, max_attempts=1, counterfactual=0.0)
    episode = await play(team, task, analyzer=["?"], writer=[edit], validator=["VERDICT: right"])
    assert (episode.ending, episode.outcome.team, episode.outcome.metrics["edits_refused"]) == ("ok", 0.0, 0.0)


def test_a_task_that_the_backend_cannot_run_is_refused_before_anything_is_loaded() -> None:
    task, _ = bug()
    row = {"question": "q", "answer": "", "source": "r2e_gym", "domain": "swe"}
    image = Problem.from_row({**row, "extra": {"repository": {"image": "a:b", "fail_to_pass": ["t"]}}})
    assert repository_task(image).image == "a:b"
    swe.check_tasks([task], "local")
    with pytest.raises(UsageError, match="--swe_backend docker"):
        swe.check_tasks([task, image], "local")


@pytest.mark.parametrize("name", RECIPES)
async def test_an_episode_out_of_tokens_counts_among_the_failures(name: str, sandbox: Sandbox) -> None:
    team = RECIPES[name][2](sandbox)
    team = replace(team, limits=replace(team.limits, tokens=1))
    episode = await play(team, bug()[0] if name == "swe" else world(1)[0], **{team.names[0]: ["Mila"]})
    success = "tests_passed" if name == "swe" else "answer_correct"
    assert (episode.ending, episode.outcome.team, episode.outcome.metrics[success]) == ("limit", 0.0, 0.0)


# Controls


class Single:
    """A single agent: says one text, counts a token a turn."""

    def __init__(self, team: Team, task: Problem, text: str) -> None:
        self.team, self.task, self.text = team, task, text

    async def outcome(self, tokens: int) -> Outcome:
        assert self.team.alone is not None
        single = replace(self.team, run=partial(self.team.alone, tokens=tokens))
        said = {name: [self.text] * tokens for name in self.team.names}
        return (await play(single, self.task, **said)).outcome


@pytest.mark.parametrize("name", RECIPES)
async def test_a_single_agent_has_the_same_tools_and_tokens(name: str, sandbox: Sandbox) -> None:
    task = bug()[0] if name == "swe" else world(1)[0]
    right = task.answer if name == "swe" else f"ANSWER: {task.answer}{' [p1]' if name == 'deepresearch' else ''}"
    team = RECIPES[name][2](sandbox)
    found = await Single(team, task, right).outcome(3)
    assert (found.team, found.correct, found.metrics["attempts"]) == (1.0, True, 3)
    lost = await Single(team, task, "?").outcome(2)
    assert (lost.team, lost.correct) == (0.0, False)


# Training

QUERY = ["lives home works", "[p1] [p2]", "ANSWER: Quorby", "UNKNOWN", "town", "[p3]", "ANSWER: baker", "[]"]
FACTS = ["works town", "SEARCH: lives home", "KEEP: [p1]", "ANSWER: baker [p1]", "UNKNOWN", "KEEP:", "READ: x"]
EDITS = ["FILE: a.py", "VERDICT: right", "VERDICT: wrong", "no edit", "VERDICT: wrong and more", "?", "!", "edit"]
SAID = {"search_qa": QUERY, "deepresearch": FACTS, "swe": EDITS}


def trainer_of(name: str, run_dir: Path, sandbox: Sandbox) -> AgentGRPOTrainer:
    _, _, make_team, source, _ = RECIPES[name]
    problems, team = load_problems(source, "train", 4, 0), make_team(sandbox, **({} if name == "swe" else {"topk": 40}))
    texts = [*(p.view.text for p in problems), *SAID[name], *(role.prompt for role in team.roles)]
    tokenizer = train_tokenizer(texts, 400)
    args = WorkflowGRPOConfig(
        output_dir=str(run_dir),
        num_generations=4,
        per_device_train_batch_size=8,
        max_completion_length=12,
        max_steps=1,
        learning_rate=1e-2,
        loss_type="grpo",
        scale_rewards="batch",
        temperature=1.0,
        report_to="none",
        logging_steps=1,
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        activation_checkpointing=False,
    )
    return AgentGRPOTrainer(
        model=build_tiny_policy(tokenizer, hidden_size=64, num_layers=1, max_length=4096, seed=0),
        args=args,
        recipe=AgentArguments(),
        team=team,
        problems=problems,
        processing_class=tokenizer,
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"]),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_training_step_takes_each_agents_own_reward(name: str, tmp_path: Path, sandbox: Sandbox) -> None:
    with closing(trainer_of(name, tmp_path, sandbox)) as trainer:
        trainer._generate_single_turn = given_turns(trainer, SAID[name])
        before = [p.detach().clone() for p in trainer.model.parameters() if p.requires_grad]
        trainer.train()
        logged = trainer.state.log_history[0]
        after = [p for p in trainer.model.parameters() if p.requires_grad]
    own = {"search_qa": "total_searches", "deepresearch": "total_tool_calls", "swe": "writer_attempts"}[name]
    assert any(key.endswith(own) for key in logged), sorted(logged)
    for role in RECIPES[name][0].ROLES:
        assert math.isfinite(logged[f"agents/{role.name}/reward"])
    rows = [json.loads(line) for line in (tmp_path / "rollouts.jsonl").read_text().splitlines()]
    assert {row["agent"] for row in rows} == {role.name for role in RECIPES[name][0].ROLES}
    moved = any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert moved == any(row.get("advantage") for row in rows)
    if name == "search_qa":
        assert moved


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
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["agents"]["trained"] == [role.name for role in RECIPES[name][0].ROLES]
    (problem,) = load_problems(RECIPES[name][3], "heldout", 1, 0)
    (tmp_path / "problem.jsonl").write_text(json.dumps(problem.to_row()))
    script = [sys.executable, str(ROOT / "scripts" / "run_agents.py"), str(ROOT / "recipes" / f"{name}.py")]
    asked = ["--problem", str(tmp_path / "problem.jsonl"), "--model", str(tmp_path / "policy")]
    policy = ["--adapter", str(tmp_path / "run"), "--max_new_tokens", "16"]
    shown = subprocess.run([*script, *asked, *policy], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert shown.returncode == 0, shown.stderr[-3000:]
    assert "ending: " in shown.stdout
