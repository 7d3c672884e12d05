"""What is remembered of a text is what it would be found to be again: no verdict, prompt or answer of another."""

import pytest

from aflow_ops.errors import WorkflowError
from aflow_ops.language import parse_workflow
from aflow_ops.operators import OPERATORS, Operator, register_operator
from aflow_ops.runtime import WorkflowRuntime
from data.problem import ProblemView
from tests.stub_endpoint import StubEndpoint

TEXT = "async def workflow(problem):\n    return (await shout_again(problem=problem))['text']"
NATIVE = """\
import prompt_custom
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)
        self.custom = operator.Custom(self.llm)
    async def __call__(self, problem):
        return (await self.custom(input=problem, instruction=prompt_custom.ASK))["response"]"""


def parsed(text: str, domain: str = "math", **more: object) -> object:
    return parse_workflow(text, domain=domain, has_entry_point=False, **more)  # type: ignore[arg-type]


def test_a_text_is_parsed_once_for_each_kind_of_problem() -> None:
    text = "async def workflow(problem):\n    return (await custom(input=problem))['response']"
    assert parsed(text) is parsed(text)
    assert parsed(text, prompts={}) is not parsed(text)
    code = text.replace("custom(input=problem)", "custom_code_generate(problem=problem, entry_point='f')")
    for _ in range(2):
        assert parse_workflow(code, domain="code", has_entry_point=True).operators == ("CustomCodeGenerate",)
        with pytest.raises(WorkflowError):
            parsed(code)


def test_an_operator_that_comes_or_goes_changes_the_verdict() -> None:
    with pytest.raises(WorkflowError):
        parsed(TEXT)

    class ShoutAgain(Operator):
        """Says it louder."""

        summary = "says it louder"
        returns = ("text",)
        main = "text"

        async def __call__(self, problem: str) -> dict[str, str]:
            """Say it."""
            return {"text": problem.upper()}

    register_operator(ShoutAgain)
    try:
        assert parsed(TEXT) is parsed(TEXT)
    finally:
        del OPERATORS["ShoutAgain"]
    with pytest.raises(WorkflowError):
        parsed(TEXT)


async def test_equal_sources_are_run_with_their_own_prompts_problems_and_seeds(
    runtime: WorkflowRuntime, stub: StubEndpoint
) -> None:
    stub.answer = lambda messages: messages[-1]["content"]
    for ask in ("Say A: ", "Say B: "):
        workflow = parsed(NATIVE, prompts={"ASK": ask})
        for question in ("one?", "two?"):
            trace = await runtime.run(workflow, ProblemView(question, "math"))  # type: ignore[arg-type]
            assert trace.answer is not None and ask.strip() in trace.answer and question in trace.answer
    dice = parsed("async def workflow(problem):\n    import random\n    return str(random.random())")
    answers = [(await runtime.run(dice, ProblemView("?", "math"), repeat=n)).answer for n in (0, 1, 0)]  # type: ignore[arg-type]
    assert answers[0] == answers[2] != answers[1]
