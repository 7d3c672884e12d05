"""The warm-start corpus teaches what runs: every workflow of it is parsed without a repair, and run."""

import re

import pytest

from aflow_ops.language import parse_workflow
from aflow_ops.operators import OPERATORS
from aflow_ops.runtime import WorkflowRuntime
from data.corpus import CorpusWorkflow, corpus_pairs, load_corpus, task_line, with_task_line
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


def test_pairs_use_each_shape_equally_often_whatever_its_texts() -> None:
    def shape(item: CorpusWorkflow, problem: Problem) -> tuple[str, ...]:
        return parse_workflow(item.text, domain=problem.domain, has_entry_point=False).operators

    problem = problem_for("math")
    pairs = corpus_pairs([problem] * 400, seed=0, forms=("short", "dsl"), shape=shape)
    drawn = [(shape(item, problem), item.name) for _, item in pairs]
    counts = [sum(found == wanted for found, _ in drawn) for wanted in {found for found, _ in drawn}]
    assert max(counts) - min(counts) <= 1
    alone = ("Custom",)
    assert len({name for found, name in drawn if found == alone}) > 1, "the texts of a shape take turns"


def test_other_seeds_pair_otherwise() -> None:
    def names(seed: int) -> list[str]:
        return [item.name for _, item in corpus_pairs([problem_for("math")] * 50, seed=seed)]

    assert names(0) == names(0) != names(1)


@pytest.mark.parametrize(
    ("domain", "words"), [("math", "math: Calculate"), ("code", "code: def"), ("qa", r"qa: \w+ \w+")]
)
def test_the_task_line_is_the_beginning_of_the_question(domain: str, words: str) -> None:
    problem = problem_for(domain)
    line = task_line(problem)
    assert re.fullmatch(words, line)
    assert problem.question.startswith(line.removeprefix(f"{domain}: "))


def test_a_task_line_is_a_comment_before_the_first_decision() -> None:
    for domain in ("math", "qa", "code"):
        problem = problem_for(domain)
        for item in CORPUS:
            if domain in item.domains:
                text = with_task_line(problem, item.text)
                assert f"# {task_line(problem)}" in text.split("\n")[1 if "\n" in item.text else 0]
                plain, noted = (
                    parse_workflow(form, domain=problem.domain, has_entry_point=domain == "code")
                    for form in (item.text, text)
                )
                assert (noted.form, noted.operators, noted.repairs) == (item.form, plain.operators, ())
