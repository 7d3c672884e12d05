"""An operator of one's own is one class: prompt, checker, all three forms, runtime and commands know it by that."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aflow_ops.errors import UsageError, WorkflowError
from aflow_ops.language import parse_workflow
from aflow_ops.language.dsl import Call, parse_dsl, print_dsl
from aflow_ops.named import named_object
from aflow_ops.operators import OPERATORS, Operator, fitting_operators, load_operators, register_operator, spelled
from aflow_ops.operators.generate import Custom
from aflow_ops.policy_prompt import policy_messages
from aflow_ops.runtime import WorkflowRuntime
from data.problem import ProblemView
from tests.commands import fails, run
from tests.stub_endpoint import StubEndpoint

VIEW = ProblemView("What is 6 * 7?", "math")


class LLMDebate(Operator):
    """Let two sides argue over a draft."""

    summary = "lets two sides argue and keeps the better answer"
    returns = ("settled", "argument", "verdict_text")
    main = "verdict_text"
    verdict = "settled"
    draft = "claim"
    prompts: ClassVar = {"debate": {"system": "You argue.", "user": "$problem\n\nClaim: $claim", "max_tokens": 64}}

    async def __call__(self, problem: str, claim: str, rounds: int = 2) -> dict[str, Any]:
        """Return whether it is settled, the argument and the better answer."""
        reply = await self.ask("debate", problem=problem, claim=claim)
        return {"settled": rounds > 1, "argument": reply, "verdict_text": f"{reply} after {rounds}"}


class Pool(Operator):
    """Join several solutions."""

    summary = "joins several solutions"
    returns = ("joined",)
    main = "joined"

    async def __call__(self, options: list[str], question: str) -> dict[str, Any]:
        """Return them in one text."""
        return {"joined": " | ".join(options)}


@pytest.fixture
def own() -> Iterator[None]:
    before = dict(OPERATORS)
    register_operator(LLMDebate)
    register_operator(Pool)
    yield
    OPERATORS.clear()
    OPERATORS.update(before)


NATIVE = """\
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)
        self.debate = operator.LLMDebate(self.llm)

    async def __call__(self, problem):
        result = await self.debate(problem=problem, claim="41")
        return result["verdict_text"]"""
FORMS = {
    "short": 'async def workflow(problem):\n    return await llm_debate(problem=problem, claim="41")',
    "other spelling": 'async def workflow(problem):\n    return await LLM_Debate(problem=problem, claim="41")',
    "native": NATIVE,
    "dsl": "Custom -> LLMDebate",
    "dsl, a check": "Custom -> llm_debate ? LLMDebate : done",
    "dsl, a loop": "Custom -> (LLMDebate -> Custom) * 3",
    "dsl, an ensemble": "[LLMDebate, LLMDebate] -> Pool",
}


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("form", FORMS)
async def test_every_form_runs_it(form: str, runtime: WorkflowRuntime, stub: StubEndpoint) -> None:
    stub.answer = lambda messages: "42"
    workflow = parse_workflow(FORMS[form], domain="math", has_entry_point=False)
    trace = await runtime.run(workflow, VIEW)
    assert (trace.outcome, trace.error) == ("ok", None)
    assert "LLMDebate" in workflow.operators
    assert trace.answer == ("42 after 2 | 42 after 2" if "ensemble" in form else "42 after 2")
    debates = [call for call in trace.calls if call.operator == "LLMDebate"]
    assert debates and all(call.prompt_tokens > 0 for call in debates)
    assert any(request["messages"][0]["content"] == "You argue." for request in stub.requests)


@pytest.mark.usefixtures("own")
def test_the_prompt_and_the_checker_know_it() -> None:
    prompt = policy_messages(VIEW)[0]["content"]
    line = '- llm_debate(problem, claim, rounds=2) -> {"settled", "argument", "verdict_text"}: lets two sides argue'
    assert line in prompt
    assert LLMDebate in fitting_operators("math", False)
    with pytest.raises(WorkflowError, match="LLMDebate is called without 'claim'"):
        # the problem is filled in, as for every operator
        parse_workflow(
            "async def workflow(problem):\n    return await llm_debate()", domain="math", has_entry_point=False
        )
    with pytest.raises(WorkflowError, match="only Test or Review or LLMDebate can stand before"):
        parse_workflow("Custom -> Pool ? Custom : done", domain="math", has_entry_point=False)


def test_without_it_nobody_knows_it() -> None:
    with pytest.raises(WorkflowError, match="unknown operator 'LLMDebate'"):
        parse_workflow("Custom -> LLMDebate", domain="math", has_entry_point=False)


# Every operator that is registered


@pytest.mark.usefixtures("own")
def test_every_operators_dsl_spelling_comes_back() -> None:
    for name, operator in OPERATORS.items():
        for spelling in (name, operator.snake_name(), name.lower(), name[0].lower() + name[1:]):
            assert parse_dsl(spelling) == Call(name) == parse_dsl(print_dsl(Call(name)))
        domain = operator.domains[0] if operator.domains else "math"
        workflow = parse_workflow(f"Custom -> {name}", domain=domain, has_entry_point=operator.needs_entry_point)
        assert workflow.operators == ("Custom", name)
        again = parse_workflow(workflow.source, domain=domain, has_entry_point=operator.needs_entry_point)
        assert (again.operators, again.repairs) == (workflow.operators, ())


def made(name: str, **attributes: Any) -> Any:
    async def call(self: Any, problem: str, solution: str = "") -> dict[str, Any]:
        return {"text": problem}

    body = {"__doc__": "One.", "summary": "does it", "returns": ("text",), "main": "text", "__call__": call}
    return type(name, (Operator,), {**body, **attributes})


@given(st.from_regex(r"[A-Z][A-Za-z0-9]{0,12}", fullmatch=True))
@example("PY")  # a fence's language too
def test_any_name_that_registers_round_trips(name: str) -> None:
    before = dict(OPERATORS)
    try:
        register_operator(made(name))
    except UsageError:
        assert before == OPERATORS
        return
    try:
        snake = OPERATORS[name].snake_name()
        assert spelled(snake) == spelled(name) == name
        for text in (
            name,
            f"Custom -> {snake}",
            f"async def workflow(problem):\n    return await {snake}(problem=problem)",
        ):
            workflow = parse_workflow(text, domain="math", has_entry_point=False)
            assert workflow.operators[-1] == name
            assert set(workflow.repairs) <= {"spelled the operators by their class names"}
    finally:
        del OPERATORS[name]


# What is no operator


async def _no_types(self: Any, problem, other=1) -> dict[str, Any]:  # type: ignore[no-untyped-def]
    return {}


async def _open(self: Any, *texts: str) -> dict[str, Any]:
    return {}


async def _entry(self: Any, problem: str, entry_point: str) -> dict[str, Any]:
    return {}


def _blocking(self: Any, problem: str) -> dict[str, Any]:
    return {}


@pytest.mark.parametrize(
    ("operator", "reason"),
    [
        (int, "does not inherit"),
        (made("debate"), "capital letter"),
        (made("Two_Words"), "capital letter"),
        (made("Import"), "'import', which means something else"),
        (made("Problem"), "means something else"),
        (made("Sum"), "'sum', which means something else"),
        (made("Plain", __doc__=None), "no docstring"),
        (made("Plain", summary=""), "`summary`"),
        (made("Plain", returns=("two words",)), "`returns`"),
        (made("Plain", main="answer"), "`main`"),
        (made("Plain", verdict="fine"), "`verdict`"),
        (made("Plain", __call__=_blocking), "async def __call__"),
        (made("Plain", __call__=_no_types), "argument 'problem' must be"),
        (made("Plain", __call__=_open), "argument 'texts' must be an ordinary one"),
        (made("Plain", __call__=_entry), "needs_entry_point"),
        (made("Plain", prompts={"it": {"user": "costs $5", "max_tokens": 3}}), "prompt 'it'"),
        (made("Plain", prompts={"it": {"user": "x"}}), "max_tokens"),
        (made("SCEnsemble"), "there is an operator ScEnsemble already"),
        (made("Plain", returns=("thought", "answer"), main="thought"), "keys of AnswerGenerate"),
    ],
)
def test_a_class_that_is_no_operator_is_told_why(operator: Any, reason: str) -> None:
    before = dict(OPERATORS)
    with pytest.raises(UsageError, match=reason):
        register_operator(operator)
    assert before == OPERATORS


def test_the_same_class_twice_is_one_operator() -> None:
    before = list(OPERATORS)
    assert register_operator(Custom) is Custom
    assert list(OPERATORS) == before


@pytest.mark.parametrize("output", ["text", {"text": 1, "more": 2}, {}, {"text": object()}])
async def test_an_operator_that_breaks_its_word_is_not_the_policys_fault(output: Any, runtime: WorkflowRuntime) -> None:
    async def call(self: Any, problem: str) -> Any:
        return output

    register_operator(made("Sloppy", __call__=call))
    try:
        trace = await runtime.run(parse_workflow("Sloppy", domain="math", has_entry_point=False), VIEW)
    finally:
        del OPERATORS["Sloppy"]
    assert trace.outcome == "infra_error"
    assert trace.error is not None and "Sloppy" in trace.error.message


async def test_what_no_pipeline_has_is_said(runtime: WorkflowRuntime) -> None:
    async def call(self: Any, problem: str, language: str) -> Any:
        return {"text": language}

    register_operator(made("Translate", __call__=call))
    try:
        with pytest.raises(WorkflowError, match=r"Translate cannot stand in a pipeline.*'language'"):
            parse_workflow("Custom -> Translate", domain="math", has_entry_point=False)
        text = "async def workflow(problem):\n    return await translate(problem=problem, language='Latin')"
        workflow = parse_workflow(text, domain="math", has_entry_point=False)
        assert (await runtime.run(workflow, VIEW)).answer == "Latin"
    finally:
        del OPERATORS["Translate"]


# Outside the repository

FILE = '''
from aflow_ops.operators import Operator, register_operator

@register_operator
class Shout(Operator):
    """Repeat the problem in capitals."""

    summary = "repeats a text in capital letters"
    returns = ("text",)
    main = "text"

    async def __call__(self, problem: str) -> dict:
        """Return the text in capitals."""
        return {"text": problem.upper()}
'''


def test_operators_are_loaded_from_a_file_once(tmp_path: Path) -> None:
    file = tmp_path / "shouting.py"
    file.write_text(FILE)
    try:
        load_operators([str(file)])
        load_operators([f"{file}:Shout", str(file)])
        assert named_object(f"{file}:Shout") is OPERATORS["Shout"]
    finally:
        del OPERATORS["Shout"], sys.modules["shouting"]


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("no_such_package.ops", "no module 'no_such_package'"),
        ("no_such_file.py", "no such file"),
        ("json", "none is registered there"),
        ("json:Debate", "json has no 'Debate'"),
        ("json:JSONDecoder", "no operator"),
        ("a..b", "no module"),
        ("", "no module's name"),
    ],
)
def test_what_cannot_be_loaded_is_said(where: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        load_operators([where])


def test_a_command_runs_an_operator_from_a_file(tmp_path: Path, stub: StubEndpoint) -> None:
    (tmp_path / "shouting.py").write_text(FILE)
    (tmp_path / "w.dsl").write_text("Shout")
    command = ["scripts/run_workflow.py", tmp_path / "w.dsl", "--question", "hey", "--executor_base_url", stub.url]
    fails(run(*command), 2, "is not a workflow")
    try:
        done = run(*command, "--operators", tmp_path / "shouting.py")
    finally:
        OPERATORS.pop("Shout", None)
        sys.modules.pop("shouting", None)
    assert done.returncode == 0, done.stderr
    assert "answer: HEY" in done.stdout


async def test_the_readmes_operator_works(runtime: WorkflowRuntime, stub: StubEndpoint) -> None:
    text = Path("aflow_ops/README.md").read_text(encoding="utf-8").split("## An operator of your own")[1]
    program = text.split("```python\n")[1].split("```")[0]
    stub.answer = lambda messages: "It is even.\n42"
    try:
        exec(compile(program, "README", "exec"), {"__name__": "readme"})
        trace = await runtime.run(parse_workflow("Custom -> Debate", domain="math", has_entry_point=False), VIEW)
    finally:
        OPERATORS.pop("Debate", None)
    assert (trace.outcome, trace.answer) == ("ok", "42")
