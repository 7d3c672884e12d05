"""The report of a run: from files in the real schemas to a page in a real browser."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from recipes.run.command import run_command
from recipes.run.config import write_config
from recipes.run.results import HeldOut
from rewards.evaluation import summarize_rows
from rewards.statistics import bootstrap_mean
from scripts import report
from scripts.reporting.collect import collect
from scripts.reporting.configuration import versions_of_card
from scripts.reporting.counters import MAX_BINS
from scripts.reporting.page import render
from scripts.reporting.reading import MAX_LINE_BYTES, text
from scripts.reporting.rows import MAX_WORKFLOWS, RowsReader
from scripts.reporting.trace_graph import MAX_CALLS, PROBLEM, Edge, flow, trace_view
from tests.patience import within

ROOT = Path(__file__).parents[2]
HOSTILE = "</script></style><img src=x onerror=alert(1)>\"'&<svg/onload=alert(2)>\u202e\x00\ud800"
FAN_OUT = """\
async def workflow(problem):
    drafts = await asyncio.gather(*[answer_generate(input=problem) for _ in range(5)])
    best = await sc_ensemble(solutions=[d["answer"] for d in drafts], problem=problem)
    return best["response"]"""


def call(operator: str, args: dict[str, Any], output: Any, error: str | None = None) -> dict[str, Any]:
    return {
        "operator": operator, "args": args, "output": output, "prompt_tokens": 120, "completion_tokens": 8,
        "cost_usd": 0.0001, "seconds": 0.25, "cached": False, "error": error,
    }  # fmt: skip


def fan_out(question: str) -> list[dict[str, Any]]:
    drafts = [call("AnswerGenerate", {"input": question}, {"thought": "", "answer": str(n % 2)}) for n in range(5)]
    chosen = call("ScEnsemble", {"solutions": ["0", "1", "0", "1", "0"], "problem": question}, {"response": "0"})
    return [*drafts, chosen]


def rollout(step: int, index: int, **changes: Any) -> dict[str, Any]:
    """A row as `WorkflowGRPOTrainer` writes it."""
    domain = ("math", "code", "qa")[index % 3]
    question = f"What is {index} + 1?"
    tier = 1 + (step + index) % 5
    calls = fan_out(question) if index % 2 else [call("Programmer", {"problem": question}, {"output": str(index + 1)})]
    return {
        "step": step, "prompt": [{"role": "user", "content": question}], "id": f"p{index}", "source": "made",
        "domain": domain, "question": question, "completion": "text",
        "workflow": FAN_OUT if index % 2 else f"Programmer -> Format  # {index % 5}", "form": "short", "repairs": [],
        "invalid": None,
        "trace": {
            "answer": "0" if index % 2 else str(index + 1), "outcome": "ok", "error": None, "calls": calls,
            "prompt_tokens": 120 * len(calls), "completion_tokens": 8 * len(calls), "cost_usd": 0.0001 * len(calls),
            "seconds": 0.5, "lost_seconds": 0.0,
        },
        "outcome": "ok", "infra_error": None,
        "grade": {"tier": tier, "reward": (0.0, 0.2, 0.4, 0.7, 1.0)[tier - 1], "correct": tier == 5, "extracted": "1",
                  "detail": "equal"},
        "reward": (0.0, 0.2, 0.4, 0.7, 1.0)[tier - 1], "correct": tier == 5, "adjusted_reward": 0.4,
        "advantage": 0.5, **changes,
    }  # fmt: skip


ODD: list[Any] = [None, True, -1, 1e308, 10**400, float("nan"), float("inf"), "1", [], {}, [[]], "\ud800"]
INVALID = {"workflow": None, "form": None, "trace": None, "invalid": "syntax: nothing", "outcome": "policy_error"}
OURS = {"reward": None, "grade": None, "correct": None, "outcome": "infra_error", "infra_error": "HTTP 503"}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A training run with a rollout of every kind."""
    folder = tmp_path / "run"
    folder.mkdir()
    rows = [rollout(step, index) for step in range(12) for index in range(12)]
    rows += [rollout(11, 3, **INVALID), rollout(11, 4, **OURS)]
    failed = rollout(11, 5, workflow="Custom -> Broken", reward=0.0, outcome="policy_error")
    failed["trace"] |= {
        "answer": None, "outcome": "policy_error", "error": {"class": "TypeError", "message": "no such argument"},
        "calls": [call("Custom", {"input": "q"}, None, error="ValueError: empty input")],
    }  # fmt: skip
    write_rows(folder / "rollouts.jsonl", [*rows, failed])
    held = HeldOut([rollout(0, i) for i in range(12)], [rollout(3, i) for i in range(12)], {})
    write_rows(
        folder / "heldout.jsonl",
        [{"phase": p, **row} for p, part in (("before", held.before), ("after", held.after)) for row in part],
    )
    summary = held.summary() | {"baselines": {"Custom": 0.3, "AnswerGenerate -> Review -> Revise": 0.5}}
    router = {"workflows": {"math": "Custom"}, "reward": 0.3, "difference": 0.25, "difference_ci95": [0.125, 0.375]}
    summary = {
        "run": "run",
        "seconds": {"training": 61.5},
        "heldout": {**summary, "by_domain": {"math": summary}, "routers": {"by_domain": router}},
        "executor": {"calls": 10, "cache_hits": 5, "tokens": 100, "cost_usd": 0.5},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    columns = (
        "step,reward,entropy,kl,wa_grpo/zero_signal_before,wa_grpo/zero_signal_after,domain/math/shape_entropy,"
        "domain/qa/zero_signal,domain/qa/best_shape_missed,train_runtime"
    )
    lines = [f"{step},0.5,{1 / (step + 1)},0.0{step},0.5,0.25,1.5,0.5,0.75," for step in range(1, 12)]
    (folder / "metrics.csv").write_text("\n".join([columns, *lines, "12,,,,,,,,,240.0"]) + "\n")
    write_config(
        folder, "recipes/grpo_math.py", {"sources": ["gsm8k", "mine.jsonl"], "lora_r": 64, "learning_rate": 2e-5}
    )
    (folder / "adapter_config.json").write_text(json.dumps({"r": 64, "peft_version": "0.21.2", "eva_config": None}))
    (folder / "README.md").write_text("# Card\n\n### Framework versions\n\n- TRL: 1.16.1\n- Pytorch: 2.13.0\n")
    (folder / "training_args.bin").write_bytes(b"\x80\x04not to be opened")
    return folder


SIZES = re.compile(r"[\d.,]+ (B|kB|MB)|data-[a-z]+=\"[\d.]+\"")


def html_of(folder: Path) -> str:
    return render(collect(folder))


class Outline(HTMLParser):
    """What a browser would make of the page: elements, their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["report.py", *map(str, arguments)])
    return run_command(report.main)


# What it shows


def test_the_command_writes_one_file_beside_the_run(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(run_dir.iterdir())
    assert command(monkeypatch, run_dir) == 0
    assert set(run_dir.iterdir()) - before == {run_dir / "report.html"}
    assert "report.html" in capsys.readouterr().out
    assert command(monkeypatch, run_dir, "--output", run_dir / "other" / "page.html") == 0
    assert (run_dir / "other" / "page.html").read_text() == (run_dir / "report.html").read_text()


def test_every_part_of_a_complete_run_is_there(run_dir: Path) -> None:
    shown = Outline(html_of(run_dir)).text
    for title in (
        "Before, after, best fixed workflow", "Reward", "Valid workflows", "Tiers", "Entropy of the policy",
        "KL to the reference", "Groups without a signal", "Variety of workflows",
        "Groups without a signal: by domain", "Groups that missed the best design", "Executor tokens", "Executor cost",
        "Operators: math",
        "Best and worst workflows", "How rollouts ended", "Configuration and versions",
    ):  # fmt: skip
        assert title in shown
    assert "Not in this folder" not in shown
    assert "147 rows" in shown
    assert "1.16.1" in shown and "2.13.0" in shown  # of the run, from its card
    assert "r 64" in shown and "eva_config" not in shown  # only what has a value
    assert "sources gsm8k, mine.jsonl lora_r 64 learning_rate 2.0e-05" in shown
    assert "AnswerGenerate -> Review -> Revise" in shown
    assert "the best of each domain" in shown and "+0.250 [+0.125, +0.375]" in shown and "math: Custom" in shown
    assert "1 of 147 rollouts; the commonest reasons. reason rollouts syntax: nothing 1" in shown
    assert "executor calls 5 and 5 from the cache" in shown


def test_a_row_of_the_sample_shows_the_first_lines_of_its_workflow(tmp_path: Path) -> None:
    write_rows(
        tmp_path / "rows.jsonl", [rollout(0, 0, workflow="\n\n".join("  step()" for _ in range(n))) for n in (4, 5)]
    )
    page = html_of(tmp_path)
    four = "\n".join(["  step()"] * 4)
    assert f">{four}</td>" in page and f">{four}\n…</td>" in page


def test_an_evaluation_is_reported_from_its_rows(tmp_path: Path) -> None:
    rows = [rollout(0, index) for index in range(30)]
    for row in rows:
        for key in ("step", "prompt", "adjusted_reward", "advantage"):
            del row[key]
        del row["trace"]["seconds"]
        for its_call in row["trace"]["calls"]:
            del its_call["seconds"]
    write_rows(tmp_path / "rows.jsonl", rows)
    summary = {**summarize_rows(rows), "calls": 105, "cache_hits": 0, "seconds": {"startup": 1.0, "run": 2.0}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    shown = Outline(html_of(tmp_path)).text
    assert "evaluation" in shown and "Mean reward by domain" in shown
    assert "GRPO step" not in shown
    assert "Not in this folder" not in shown
    assert "pass@1" in shown


def test_the_best_and_worst_workflows_are_those_by_mean_reward(tmp_path: Path) -> None:
    rows = [rollout(0, 0, workflow=f"W{n}", reward=0.1 * n, id=f"{n}{i}") for n in range(10) for i in range(5)]
    rows.append(rollout(0, 0, workflow="lucky once", reward=1.0))
    write_rows(tmp_path / "rollouts.jsonl", rows)
    ranked = RowsReader(tmp_path / "rollouts.jsonl").read().ranked("math", 2)
    found = [(verdict, row["workflow"], count.count, round(count.mean, 3)) for verdict, count, row in ranked]
    assert found == [("best", "W9", 5, 0.9), ("best", "W8", 5, 0.8), ("worst", "W0", 5, 0.0), ("worst", "W1", 5, 0.1)]


def test_one_workflow_is_not_both_best_and_worst(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [rollout(0, 0, workflow="the only one") for _ in range(9)])
    assert [verdict for verdict, *_ in RowsReader(tmp_path / "rows.jsonl").read().ranked("math", 2)] == ["best"]


def test_the_interval_of_a_mean_holds_it_and_narrows_with_more_problems() -> None:
    few, many = (bootstrap_mean([0.0, 1.0] * count, seed=0, resamples=500) for count in (5, 500))
    for mean, low, high in (few, many):
        assert low < mean == 0.5 < high
    assert many[2] - many[1] < 0.2 * (few[2] - few[1])
    assert bootstrap_mean([0.7] * 3, seed=0, resamples=100) == pytest.approx((0.7, 0.7, 0.7))


def test_versions_are_read_from_both_kinds_of_card() -> None:
    assert versions_of_card("### Framework versions\n\n- PEFT 0.21.2") == {"peft": "0.21.2"}
    assert versions_of_card("### Framework versions\n\n- TRL: 1.16.0\n- Pytorch: 2.13.0+cpu\n") == {
        "trl": "1.16.0",
        "torch": "2.13.0+cpu",
    }
    assert versions_of_card("- TRL: 1.16.0") == {}


# Traces


def test_a_fan_out_joins_where_its_outputs_are_used() -> None:
    edges = flow(fan_out("What is 0 + 0?"), "0")
    assert [edge.source for edge in edges if edge.target == 5] == [0, 1, 2, 3, 4]
    assert all(Edge(PROBLEM, target, True) in edges for target in range(5))
    assert [edge for edge in edges if edge.target == 6] == [Edge(5, 6, True)]
    assert all(edge.data for edge in edges)


def test_a_text_that_several_calls_returned_came_from_the_latest() -> None:
    code = "def f(x):\n    return x + 1"
    calls = [
        call("CustomCodeGenerate", {"problem": "write f"}, {"response": code}),
        call("Test", {"problem": "write f", "solution": code}, {"result": False, "solution": code}),
        call("Review", {"problem": "write f", "solution": code}, {"feedback": "wrong for x = 3"}),
        call("Revise", {"solution": code, "feedback": "Reviewer says: wrong for x = 3"}, {"solution": "done"}),
    ]
    assert flow(calls, "done") == [
        Edge(PROBLEM, 0, True), Edge(0, 1, True), Edge(1, 2, True), Edge(1, 3, True), Edge(2, 3, True),
        Edge(3, 4, True),
    ]  # fmt: skip


def test_an_output_that_nothing_took_is_followed_by_order_only() -> None:
    calls = [call("Custom", {"input": "q"}, {"response": "draft"}), call("Custom", {"input": "q"}, None, error="x")]
    assert flow(calls, None) == [Edge(PROBLEM, 0, True), Edge(0, 1, False), Edge(1, 2, False)]
    assert flow([], None) == [Edge(PROBLEM, 0, False)]


def test_what_was_in_the_problem_is_no_flow() -> None:
    problem = "Context: Greta Kosley is the mayor."
    calls = [
        call("Custom", {"input": problem}, {"response": "Greta Kosley"}),
        call("Custom", {"input": problem}, {"response": "another one"}),
    ]
    assert Edge(0, 1, True) not in flow(calls, "another one")


def test_a_long_trace_is_cut(tmp_path: Path) -> None:
    row = rollout(0, 0)
    row["trace"]["calls"] = [call("Custom", {"input": "q"}, {"response": "a"})] * 500
    view = trace_view(row)
    assert view is not None
    assert len(view.calls) == MAX_CALLS and view.more == 500 - MAX_CALLS


# Hostile, old, cut off, missing


def test_no_text_of_a_run_becomes_markup(tmp_path: Path) -> None:
    folder = tmp_path / "<img src=x onerror=alert(3)>"
    folder.mkdir()
    rows = []
    for index in range(30):
        row = rollout(index, index, workflow=HOSTILE, question=HOSTILE, id=HOSTILE, source=HOSTILE, outcome=HOSTILE)
        row["trace"] |= {"outcome": HOSTILE, "answer": HOSTILE, "error": {"class": HOSTILE, "message": HOSTILE}}
        row["trace"]["calls"] = [
            call(HOSTILE, {HOSTILE: HOSTILE}, {HOSTILE: HOSTILE}),
            call("Custom", {}, None, error=HOSTILE),
        ]
        rows += [row, rollout(index, index, **{**INVALID, "invalid": HOSTILE, "domain": HOSTILE})]
    write_rows(folder / "rollouts.jsonl", rows)
    write_rows(folder / "heldout.jsonl", [{"phase": HOSTILE, **row} for row in rows])
    baselines = {"baselines": {HOSTILE: 0.5}, "before": 0.1, "after": 0.2, "gain_ci95": [HOSTILE, HOSTILE]}
    summary = {"heldout": baselines, "seconds": {HOSTILE: 1}, "executor": {HOSTILE: HOSTILE}, "prompt_style": HOSTILE}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "adapter_config.json").write_text(json.dumps({HOSTILE: HOSTILE, "peft_version": HOSTILE}))
    write_config(
        folder, "recipes/grpo_math.py", {HOSTILE: HOSTILE, "sources": [HOSTILE], "nested": {HOSTILE: [[HOSTILE]]}}
    )
    page = html_of(folder)
    outline = Outline(page)
    assert not {"img", "iframe", "object", "embed", "link", "base", "form", "a:x"} & {tag for tag, _ in outline.tags}
    assert sum(tag == "script" for tag, _ in outline.tags) == 1
    names = {name for _, attributes in outline.tags for name in attributes}
    assert not [name for name in names if name.startswith("on") or name in ("src", "style", "srcdoc", "action")]
    assert all((attributes.get("href") or "#").startswith("#") for _, attributes in outline.tags)
    assert "alert(1)" in outline.text  # as text
    assert "\x00" not in page and "\u202e" not in page and "\\u202e" in page


def test_the_page_may_load_nothing_and_run_only_its_own_script(run_dir: Path) -> None:
    page = html_of(run_dir)
    policies = [a["content"] for tag, a in Outline(page).tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    assert "default-src 'none'" in (policies[0] or "") and "unsafe" not in (policies[0] or "")
    assert "http://" not in page and "https://" not in page


@pytest.mark.parametrize("name", ["rollouts.jsonl", "metrics.csv", "summary.json", "heldout.jsonl", "rows.jsonl"])
@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b'{"step": 3, "rew', b"\xff\xfe\x00garbage", b"[1, 2]\n" * 3, b"{}\n"]
)
def test_any_known_file_alone_and_in_any_state_gives_a_report(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    shown = Outline(html_of(tmp_path)).text
    assert name in shown
    assert "Not in this folder" in shown


@pytest.mark.parametrize("name", ["rollouts.jsonl", "heldout.jsonl", "summary.json", "metrics.csv", "config.yaml"])
def test_a_run_without_one_of_its_files_says_so(run_dir: Path, name: str) -> None:
    (run_dir / name).unlink()
    page = html_of(run_dir)
    assert f"<code>{name}</code>" in page


def test_a_line_cut_off_is_counted_and_the_rest_is_shown(run_dir: Path) -> None:
    whole = (run_dir / "rollouts.jsonl").read_bytes()
    (run_dir / "rollouts.jsonl").write_bytes(whole[:-200])
    assert "146 rows, 1 unreadable lines" in Outline(html_of(run_dir)).text


def test_a_run_in_parts_has_the_report_of_a_run_in_one_file(run_dir: Path) -> None:
    whole = html_of(run_dir)
    lines = (run_dir / "rollouts.jsonl").read_bytes().splitlines(keepends=True)
    with gzip.open(run_dir / "rollouts-00001.jsonl.gz", "wb") as file:
        file.writelines(lines[:60])
    (run_dir / "rollouts-00002.jsonl").write_bytes(b"".join(lines[60:90]))
    (run_dir / "rollouts.jsonl").write_bytes(b"".join(lines[90:]))
    assert SIZES.sub("", html_of(run_dir)) == SIZES.sub("", whole)
    (run_dir / "rollouts.jsonl").unlink()
    assert "90 rows" in Outline(html_of(run_dir)).text


def test_a_damaged_part_is_one_unreadable_line_and_the_rest_is_shown(run_dir: Path) -> None:
    lines = (run_dir / "rollouts.jsonl").read_bytes().splitlines(keepends=True)
    part = run_dir / "rollouts-00001.jsonl.gz"
    part.write_bytes(gzip.compress(b"".join(lines[:60]))[:-20])
    (run_dir / "rollouts.jsonl").write_bytes(b"".join(lines[60:]))
    read = re.search(r"(\d+) rows, 1 unreadable lines", Outline(html_of(run_dir)).text)
    assert read is not None and len(lines) - 60 <= int(read[1]) < len(lines)


def test_values_of_a_wrong_kind_do_not_stop_a_report(tmp_path: Path) -> None:
    keys = ("step", "id", "source", "domain", "question", "workflow", "invalid", "trace", "outcome", "grade", "reward")
    rows = [rollout(1, 1) | {key: value} for key in keys for value in ODD]
    for key in ("answer", "outcome", "error", "calls", "prompt_tokens", "cost_usd", "seconds"):
        for value in ODD:
            row = rollout(1, 1)
            row["trace"][key] = value
            rows.append(row)
    for key in ("operator", "args", "output", "prompt_tokens", "seconds", "cached", "error"):
        for value in ODD:
            row = rollout(1, 1, workflow=f"{key} {value!r}"[:40])
            row["trace"]["calls"] = [call("Custom", {}, {}) | {key: value}, value]
            rows.append(row)
    write_rows(tmp_path / "rollouts.jsonl", rows)
    assert "Best and worst workflows" in html_of(tmp_path)


def test_a_summary_of_a_wrong_kind_does_not_stop_a_report(tmp_path: Path) -> None:
    keys = ("run", "seconds", "heldout", "executor", "by_domain", "reward", "pass_at_k", "n", "prompt_style")
    inner = ("n", "before", "after", "gain", "gain_ci95", "baselines", "by_domain", "valid_before", "calls", "math")
    router = ("workflows", "reward", "difference", "difference_ci95")
    for value in ODD:
        routers = {"routers": {"single": value, "by_domain": dict.fromkeys(router, value)}}
        odd = [dict.fromkeys(keys, value), {key: dict.fromkeys(inner, value) for key in keys}, {"heldout": routers}]
        for summary in odd:
            (tmp_path / "summary.json").write_text(json.dumps(summary))
            assert "summary.json" in html_of(tmp_path)


LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))


@pytest.mark.parametrize(
    "content",
    [
        b"", b"# nothing\n", b"- a\n- list\n", b"text", b"a: [1, 2", b"a: 1\n---\nb: 2\n", b"a: \xff\xfe\n",
        b"a: \x00\n", LAUGHS.encode(), b"a: &a [*a]\n", b"base: &base {a: 1}\nrun: {<<: *base}\n", b"? [a]\n: b\n",
        b"a: " + b"[" * 60_000, b"a: 1\n" + b"#" * 100_000,
    ],
)  # fmt: skip
def test_settings_that_are_none_or_a_trap_are_ignored_and_the_report_says_so(run_dir: Path, content: bytes) -> None:
    (run_dir / "config.yaml").write_bytes(content)
    shown = Outline(html_of(run_dir)).text
    assert re.search(r"config\.yaml [\d,]+ k?B not plain settings: ignored", shown)
    assert "Settings (config.yaml)" not in shown and "Wall time by phase" in shown


def test_settings_of_any_kind_are_shown_as_they_are_written(run_dir: Path) -> None:
    number = "0x" + "f" * 20_000
    (run_dir / "config.yaml").write_text(
        f"a: {number}\nb: 2001-99-99\nc: {{2001-01-01: 1, no: ~}}\nd: !!python/object/apply:os.getpid []\ne: 1_000\n"
    )
    shown = Outline(html_of(run_dir)).text
    assert "b 2001-99-99 c.2001-01-01 1 c.no ~ e 1_000" in shown
    assert f"a {number[:199]}…" in shown


def test_of_very_many_settings_a_hundred_are_shown(run_dir: Path) -> None:
    (run_dir / "config.yaml").write_text("".join(f"k{n}: {n}\n" for n in range(5_000)))
    shown = Outline(html_of(run_dir)).text
    assert "k99 99" in shown and "k100 100" not in shown
    assert "4,900 more are not shown" in shown


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(run_dir: Path) -> None:
    for name in ("summary.json", "config.yaml", "README.md"):
        (run_dir / name).unlink()
        os.mkfifo(run_dir / name)
    assert "Not in this folder" in Outline(html_of(run_dir)).text


def test_metrics_with_blank_extra_and_missing_cells_are_plotted(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,reward,entropy\n1,0.5,\n2,,0.1,9,9\n3\n,0.7,nan\n4,1.0,inf\n")
    metrics = collect(tmp_path).metrics
    assert metrics is not None
    assert metrics.points("reward") == [(1, 0.5), (4, 0.85)]
    assert metrics.points("entropy") == [(2, 0.1)]
    assert "From metrics.csv: rollouts.jsonl has no steps." in html_of(tmp_path)


def test_a_line_of_many_megabytes_is_skipped(tmp_path: Path) -> None:
    with (tmp_path / "rollouts.jsonl").open("w") as file:
        file.write(json.dumps(rollout(0, 0, completion="x" * (2 * MAX_LINE_BYTES))) + "\n")
        file.write(json.dumps(rollout(1, 1)) + "\n")
    reader = RowsReader(tmp_path / "rollouts.jsonl").read()
    assert (reader.rows, reader.unreadable) == (1, 1)


@pytest.mark.parametrize("kind", ["missing", "empty", "a file", "output is a folder"])
def test_a_folder_that_is_no_run_is_refused_with_what_was_expected(
    kind: str, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a file").write_text("x")
    arguments = [run_dir, "--output", tmp_path] if kind == "output is a folder" else [tmp_path / kind]
    assert command(monkeypatch, *arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error:") and message.count("\n") == 1
    if kind == "empty":
        assert "rollouts.jsonl" in message and "rows.jsonl" in message


def test_invisible_characters_are_spelled_out() -> None:
    assert text("a\u202eb\x07\tc\n", 20) == "a\\u202eb\\u0007\tc\n"
    assert text("abcdef", 4) == "abc…"


def test_a_value_that_is_nested_too_deep_is_left_out() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert text({"a": deep}, 20) == "…"


# Size


@pytest.mark.long
def test_fifty_thousand_rollouts_make_a_small_page_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    whole = [json.dumps(rollout(0, index, workflow="WORKFLOW")) + "\n" for index in (0, 2, 4, 1)]
    with path.open("w") as file:
        for n in range(50_000):  # every second workflow occurs only once
            own = HOSTILE if n % 100 == 1 else f"Custom # {n if n % 2 else n % 64}"
            line = whole[n % 3 if n % 100 else 3].replace('"WORKFLOW"', json.dumps(own))
            file.write(line.replace('"step": 0', f'"step": {n // 32}', 1))
    program = (
        "import sys; from scripts import report; before = open('/proc/self/status').read();"
        f"sys.argv = ['report.py', {str(tmp_path)!r}]; report.main(); print(before, open('/proc/self/status').read())"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    before, after = (1_000 * int(peak) for peak in re.findall(r"VmHWM:\s+(\d+) kB", done.stdout))
    assert after - before < 50_000_000
    run = collect(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert run.rollouts is not None
    assert run.rollouts.rows == 50_000 and run.rollouts.unreadable == 0
    assert len(run.rollouts.steps) <= MAX_BINS
    assert sum(part.all.rollouts for _, part in run.rollouts.steps.items()) == 50_000
    assert run.rollouts.forgotten > 0 and "rare ones are not counted" in page
    assert len(run.rollouts._workflows) <= MAX_WORKFLOWS
    assert len(page.encode()) < 1_000_000


def test_texts_that_are_all_long_and_all_escaped_do_not_make_a_large_page(tmp_path: Path) -> None:
    rows = []
    for n in range(600):
        row = rollout(n, n, workflow='"' * 4_000 + str(n % 20), question='"' * 500, source='"' * 50)
        row["trace"]["calls"] = [call('"' * 20 + str(k), {'"' * 500: '"' * 500}, {'"': '"' * 500}) for k in range(30)]
        rows += [row | {"domain": ("math", "code", "qa", "else")[n % 4]}, row | INVALID | {"invalid": '"' * 400}]
    write_rows(tmp_path / "rollouts.jsonl", rows)
    page = html_of(tmp_path)
    assert len(page.encode()) < 1_000_000
    assert page.count('<details class="workflow"') == 8  # one best and one worst for each domain


# In a browser


BROWSER = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs chromium and chromedriver: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (*BROWSER, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


@pytest.fixture
def browser(chrome: Any) -> Any:
    """The browser as it was when it was started: no page, nothing emulated, no complaint."""
    chrome.get("about:blank")
    chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    chrome.get_log("browser")
    return chrome


def open_report(browser: Any, folder: Path) -> None:
    page = folder / "report.html"
    page.write_text(html_of(folder))
    browser.get(page.as_uri())
    is_there = "return document.readyState === 'complete' && location.href === arguments[0]"
    within(lambda: browser.execute_script(is_there, page.as_uri()))  # on a busy machine `get` may be back before


def emulate(browser: Any, width: int, scheme: str = "light") -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def test_a_browser_shows_every_plot_without_a_complaint(browser: Any, run_dir: Path) -> None:
    emulate(browser, 1280)
    open_report(browser, run_dir)
    assert browser.get_log("browser") == []
    marks = browser.execute_script(
        "return [...document.querySelectorAll('svg')].map(s => [s.getAttribute('aria-label'),"
        " [...s.querySelectorAll('.mark')].filter(m => m.getTotalLength() > 0).length])"
    )
    assert len(marks) > 15
    assert [label for label, count in marks if not count] == []
    assert browser.execute_script("return document.querySelectorAll('.missing').length") == 0


def test_a_click_on_a_heading_sorts_and_a_second_one_turns_it_round(browser: Any, run_dir: Path) -> None:
    open_report(browser, run_dir)
    headings = browser.find_elements("css selector", "#rows th button")
    names = [heading.get_attribute("textContent") for heading in headings]
    for name, of in (("tier", float), ("question", str)):
        column = names.index(name)
        cells = "return [...document.querySelectorAll('#rows tbody tr')].map(r => r.cells[arguments[0]].textContent)"
        values = []
        for _ in range(2):
            browser.execute_script("arguments[0].click()", headings[column])
            values.append([of(cell) for cell in browser.execute_script(cells, column) if cell != "-"])
        if of is float:
            assert values[0] == sorted(values[0]) != values[1] == sorted(values[0], reverse=True)
        assert values[0][0] == values[1][-1] or values[0][0] < values[1][0]
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_page_never_scrolls_sideways(browser: Any, run_dir: Path, width: int) -> None:
    emulate(browser, width)
    open_report(browser, run_dir)
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    # and what is wider can be reached inside its own frame
    wider = browser.execute_script(
        "return [...document.querySelectorAll('table, svg.graph, pre code')].filter(e => e.offsetParent !== null ||"
        " e.namespaceURI.endsWith('svg')).filter(e => e.getBoundingClientRect().right > innerWidth"
        " && !e.closest('.scroll')).length"
    )
    assert wider == 0


def test_dark_mode_is_dark_and_readable(browser: Any, run_dir: Path) -> None:
    def colours() -> list[list[int]]:
        found = browser.execute_script(
            "const b = getComputedStyle(document.body), t = getComputedStyle(document.querySelector('svg .tick'));"
            "return [b.backgroundColor, b.color, t.fill]"
        )
        return [[int(part) for part in re.findall(r"\d+", colour)[:3]] for colour in found]

    emulate(browser, 1280)
    open_report(browser, run_dir)
    paper, ink, tick = colours()
    assert min(paper) > 200 and max(ink) < 100 and max(tick) < 140
    emulate(browser, 1280, "dark")
    paper, ink, tick = colours()
    assert max(paper) < 60 and min(ink) > 200 and min(tick) > 140


def test_hostile_text_runs_nothing_in_a_browser(browser: Any, run_dir: Path) -> None:
    row = rollout(0, 0, workflow=HOSTILE, question=HOSTILE)
    row["trace"]["calls"] = [call(HOSTILE, {"input": HOSTILE}, HOSTILE)]
    write_rows(run_dir / "rollouts.jsonl", [row] * 3)
    open_report(browser, run_dir)
    assert browser.get_log("browser") == []  # nor tried to: the policy would have complained
    assert browser.execute_script("return document.querySelectorAll('img').length") == 0


@pytest.mark.long
def test_a_page_of_fifty_thousand_rollouts_is_light_for_a_browser(browser: Any, tmp_path: Path) -> None:
    lines = [json.dumps(rollout(step, index)) + "\n" for step in range(0, 1600, 4) for index in range(5)]
    with (tmp_path / "rollouts.jsonl").open("w") as file:
        for _ in range(25):
            file.writelines(lines)
    open_report(browser, tmp_path)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.querySelectorAll('*').length") < 10_000  # opens at once


def test_rows_of_trajectories_and_the_episodes_of_a_loop_have_sections_of_their_own(tmp_path: Path) -> None:
    columns = ["step", "loss", "replay/share", "replay/logprob", "replay/clipped", "episode/reward", "episode/pass@2"]
    lines = [",".join(columns), "0,,,,,0.25,0.5", "1,0.1,0.125,-0.9,0.25,,", "2,0.1,0.125,-0.4,0.5,,"]
    (tmp_path / "metrics.csv").write_text("\n".join(lines) + "\n")
    page = render(collect(tmp_path))
    for heading in ("Rows from trajectories", "Log-probability of given rows", "Clipped tokens of given rows"):
        assert heading in page, heading
    for heading in ("Episodes", "pass@k of an episode", "no row was of anybody else"):
        assert heading in page, heading
    (tmp_path / "metrics.csv").write_text("step,loss\n1,0.1\n")
    page = render(collect(tmp_path))
    assert "Rows from trajectories" not in page and "pass@k of an episode" not in page
