"""The warm-start corpus teaches what runs: every workflow of it is parsed without a repair, and run."""

import pytest

from aflow_ops.language import parse_workflow
from aflow_ops.operators import OPERATORS
from aflow_ops.runtime import WorkflowRuntime
from data.corpus import CorpusWorkflow, corpus_pairs, load_corpus
from data.problem import DataError, Problem
from data.registry import load_problems
from tests.stub_endpoint import Messages, StubEndpoint

CORPUS = load_corpus()


def problem_for(domain: str) -> Problem:
    return load_problems(
        {"math": "arithmetic", "qa": "invented_facts", "code": "small_functions"}[domain], "train", 1, 0
    )[0]


def test_the_corpus_is_varied() -> None:
    assert len({item.text for item in CORPUS}) >= 40
    assert len({item.name for item in CORPUS}) == len(CORPUS)
    assert {item.form for item in CORPUS} == {"short", "dsl", "native"}
    used = {name for item in CORPUS for name in parsed_operators(item)}
    assert used == set(OPERATORS)
    for word in ("for ", "if ", "gather", "ensemble"):
        assert any(word in item.text for item in CORPUS), word


def parsed_operators(item: CorpusWorkflow) -> tuple[str, ...]:
    domain = item.domains[-1]
    return parse_workflow(item.text, domain=domain, has_entry_point=domain == "code").operators


@pytest.mark.parametrize("item", CORPUS, ids=lambda item: item.name)
async def test_every_workflow_runs_in_every_domain_it_is_for(
    item: CorpusWorkflow, runtime: WorkflowRuntime, stub: StubEndpoint
) -> None:
    stub.answer = plausible
    for domain in item.domains:
        problem = problem_for(domain)
        workflow = parse_workflow(item.text, domain=domain, has_entry_point=domain == "code")
        assert workflow.form == item.form
        assert workflow.repairs == ()
        trace = await runtime.run(workflow, problem.view)
        assert trace.outcome == "ok", trace.error
        assert trace.calls


def plausible(messages: Messages) -> str:
    text = messages[0]["content"].lower()
    if "solve()" in text:
        return "```python\ndef solve():\n    return 42\n```"
    if "python" in text:
        return "```python\ndef f(x):\n    return x\n```"
    return "<thought>t</thought><answer>42</answer> A"


def test_pairs_use_each_workflow_equally_often() -> None:
    problems = [problem_for("math")] * 300
    names = [workflow.name for _, workflow in corpus_pairs(problems, seed=0, forms=("short",))]
    counts = [names.count(name) for name in set(names)]
    assert max(counts) - min(counts) <= 1


def test_a_form_without_workflows_is_refused() -> None:
    with pytest.raises(DataError, match="math"):
        list(corpus_pairs([problem_for("math")], seed=0, forms=("haiku",)))
