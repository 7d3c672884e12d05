import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_ops.language import parse_workflow
from aflow_ops.operators import OPERATORS, fitting_operators
from aflow_ops.operators.parsing import extract_code, extract_letter, extract_tag, extract_verdict, keep_definitions
from aflow_ops.operators.prompt import PROMPT_SETS, load_prompts, shorten
from aflow_ops.policy_prompt import describe_operator, policy_messages
from aflow_ops.runtime import WorkflowRuntime
from aflow_ops.trace import Trace
from data.problem import ProblemView
from tests.stub_endpoint import Messages, StubEndpoint

MATH = ProblemView("What is 6 * 7?", "math")
CODE = ProblemView(
    "def double(x):\n    '''Return twice x.'''",
    "code",
    entry_point="double",
    public_tests=("assert double(2) == 4", "assert double(5) == 10"),
)


async def run(runtime: WorkflowRuntime, body: str, view: ProblemView = MATH) -> Trace:
    parameters = "problem, entry_point" if view.entry_point else "problem"
    lines = "\n".join("    " + line for line in body.split("\n"))
    workflow = parse_workflow(
        f"async def workflow({parameters}):\n{lines}", domain=view.domain, has_entry_point=bool(view.entry_point)
    )
    return await runtime.run(workflow, view)


async def test_custom_sends_instruction_and_input(runtime: WorkflowRuntime, stub: StubEndpoint) -> None:
    trace = await run(runtime, 'return (await custom(input=problem, instruction="Be brief. $HOME {x}"))["response"]')
    assert trace.answer == "42"
    sent = stub.requests[0]["messages"][-1]["content"]
    assert "Be brief. $HOME {x}" in sent and "What is 6 * 7?" in sent


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("<thought>6 * 7</thought><answer>42</answer>", "42"),
        ("<thought>6 * 7</thought>\n<answer>42", "42"),
        ("So we multiply.\n42", "42"),
        ("<ANSWER>42</ANSWER>", "42"),
    ],
)
async def test_answer_generate_reads_sloppy_replies(
    runtime: WorkflowRuntime, stub: StubEndpoint, reply: str, answer: str
) -> None:
    stub.answer = lambda messages: reply
    trace = await run(runtime, 'return (await answer_generate(input=problem))["answer"]')
    assert trace.answer == answer


async def test_programmer_returns_what_solve_computed(runtime: WorkflowRuntime, stub: StubEndpoint) -> None:
    stub.answer = lambda messages: "Here:\n```python\ndef solve():\n    print('noise')\n    return 6 * 7\n```\nDone."
    trace = await run(runtime, 'return (await programmer(problem=problem))["output"]')
    assert trace.answer == "42"


async def test_programmer_retries_with_the_error_at_most_three_times(
    runtime: WorkflowRuntime, stub: StubEndpoint
) -> None:
    def answer(messages: Messages) -> str:
        return f"```python\ndef solve():\n    return 1 / 0  # attempt {len(stub.requests)}\n```"

    stub.answer = answer
    trace = await run(runtime, 'return (await programmer(problem=problem))["output"] or "nothing"')
    assert trace.answer == "nothing"
    assert len(stub.requests) == 3
    assert "ZeroDivisionError" in stub.requests[1]["messages"][-1]["content"]
    assert len(trace.calls) == 1
    assert trace.calls[0].completion_tokens > 0


async def test_code_that_the_executor_wrote_cannot_leave_the_sandbox(
    runtime: WorkflowRuntime, stub: StubEndpoint
) -> None:
    stub.answer = lambda messages: (
        "import os\ndef solve():\n    return os.environ.get('OPENAI_API_KEY') or open('/etc/passwd').read()"
    )
    trace = await run(runtime, 'return (await programmer(problem=problem))["output"] or "nothing"')
    assert trace.answer == "nothing"


async def test_test_repairs_a_solution_until_the_public_tests_pass(
    runtime: WorkflowRuntime, stub: StubEndpoint
) -> None:
    stub.answer = lambda messages: "```python\ndef double(x):\n    return x * 2\n```"
    body = (
        'result = await test(problem=problem, solution="def double(x):\\n    return x + 2", entry_point=entry_point)\n'
        'return str(result["result"]) + result["solution"]'
    )
    trace = await run(runtime, body, CODE)
    assert trace.answer == "Truedef double(x):\n    return x * 2"
    assert "assert double(5) == 10" in stub.requests[0]["messages"][-1]["content"]


async def test_test_asks_nobody_when_the_tests_pass(runtime: WorkflowRuntime, stub: StubEndpoint) -> None:
    body = (
        'result = await test(problem=problem, solution="def double(x):\\n    return 2 * x", entry_point=entry_point)\n'
        'return str(result["result"])'
    )
    assert (await run(runtime, body, CODE)).answer == "True"
    assert stub.requests == []


async def test_custom_code_generate_gives_the_function_its_name(runtime: WorkflowRuntime, stub: StubEndpoint) -> None:
    stub.answer = lambda messages: "def twice(x):\n    return x * 2\n\nprint(twice(3))"
    body = 'return (await custom_code_generate(problem=problem, entry_point=entry_point))["response"]'
    answer = (await run(runtime, body, CODE)).answer
    assert answer is not None
    assert "double = twice" in answer
    assert "print" not in answer


async def test_sc_ensemble_takes_a_majority_without_asking(runtime: WorkflowRuntime, stub: StubEndpoint) -> None:
    trace = await run(runtime, 'return (await sc_ensemble(solutions=["1", "42", "42"], problem=problem))["response"]')
    assert trace.answer == "42"
    assert stub.requests == []


@pytest.mark.parametrize("reply", ["B", "B.", "<letter>B</letter>", "The answer is B", "I choose (B)."])
async def test_sc_ensemble_reads_the_letter(runtime: WorkflowRuntime, stub: StubEndpoint, reply: str) -> None:
    stub.answer = lambda messages: reply
    trace = await run(runtime, 'return (await sc_ensemble(solutions=["1", "42"], problem=problem))["response"]')
    assert trace.answer == "42"


async def test_md_ensemble_counts_votes_over_shuffled_orders(runtime: WorkflowRuntime, stub: StubEndpoint) -> None:
    def votes_for_42(messages: Messages) -> str:
        lines = messages[-1]["content"].split("\n")
        return lines[lines.index("42") - 1].rstrip(":")

    stub.answer = votes_for_42
    trace = await run(runtime, 'return (await md_ensemble(solutions=["1", "42", "7"], problem=problem))["solution"]')
    assert trace.answer == "42"


async def test_review_and_revise(runtime: WorkflowRuntime, stub: StubEndpoint) -> None:
    def answer(messages: Messages) -> str:
        if "<verdict>" in messages[0]["content"]:
            return "<verdict>incorrect</verdict><feedback>Multiply.</feedback>"
        assert "Multiply." in messages[-1]["content"]
        return "<solution>42</solution>"

    stub.answer = answer
    body = (
        'check = await review(problem=problem, solution="13")\n'
        "assert check['review_result'] is False\n"
        'return (await revise(problem=problem, solution="13", feedback=check["feedback"]))["solution"]'
    )
    trace = await run(runtime, body)
    assert trace.answer == "42"
    assert [call.operator for call in trace.calls] == ["Review", "Revise"]


async def test_format_extracts_the_answer(runtime: WorkflowRuntime, stub: StubEndpoint) -> None:
    stub.answer = lambda messages: "<answer>42</answer>"
    trace = await run(runtime, 'return (await format(problem=problem, solution="It is 42, I think."))["solution"]')
    assert trace.answer == "42"


async def test_executor_text_is_never_a_template(runtime: WorkflowRuntime, stub: StubEndpoint) -> None:
    stub.answer = lambda messages: "$problem ${solution} {problem} %s"
    body = (
        "draft = await custom(input=problem)\n"
        'return (await revise(problem=problem, solution=draft["response"], feedback="$feedback"))["solution"]'
    )
    await run(runtime, body)
    assert "$problem ${solution} {problem} %s" in stub.requests[1]["messages"][-1]["content"]


# Reading what executors write


@given(st.text(max_size=300))
def test_no_reply_breaks_the_readers(text: str) -> None:
    extract_tag(text, "answer")
    extract_verdict(text)
    extract_letter(text, 5)
    keep_definitions(extract_code(text, "f"))


@given(st.text(alphabet="`\n abcdef():=python#", max_size=200))
def test_extracted_code_always_parses(text: str) -> None:
    compile(extract_code(text), "<test>", "exec")


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("```python\ndef f():\n    return 1\n```", "def f():\n    return 1"),
        ("def f():\n    return 1\n```", "def f():\n    return 1"),
        ("```python\ndef f():\n    return 1\n\ndef g(:\n", "def f():\n    return 1"),
        ("Sure:\ndef f():\n    return 1\nHope this helps!", "def f():\n    return 1"),
        ("```\nx = 1\n```\n```python\ndef f():\n    return 2\n```", "def f():\n    return 2"),
        ("no code at all", ""),
    ],
)
def test_code_is_found_in_prose(reply: str, code: str) -> None:
    assert extract_code(reply, "f").strip() == code


@pytest.mark.parametrize(
    ("text", "verdict"),
    [("correct", True), ("incorrect", False), ("It is not correct.", False), ("Yes, right", True), ("hmm", None)],
)
def test_verdicts(text: str, verdict: bool | None) -> None:
    assert extract_verdict(text) is verdict


@given(st.text(max_size=500), st.integers(10, 100))
def test_shortened_text_fits(text: str, limit: int) -> None:
    assert len(shorten(text, limit)) <= limit or len(text) <= limit


# Prompts


def test_both_prompt_sets_have_the_same_prompts() -> None:
    standard, small = (set(load_prompts(name)) for name in PROMPT_SETS)
    assert standard == small


@pytest.mark.parametrize("domain", ["math", "qa", "code"])
def test_the_policy_prompt_lists_exactly_the_fitting_operators(domain: str) -> None:
    view = CODE if domain == "code" else ProblemView("What?", domain)  # type: ignore[arg-type]
    text = policy_messages(view)[0]["content"]
    fitting = fitting_operators(view.domain, view.entry_point is not None)
    for operator in OPERATORS.values():
        assert (describe_operator(operator) in text) == (operator in fitting)
    example = text.split("```python\n")[1].split("```")[0]
    assert parse_workflow(example, domain=view.domain, has_entry_point=view.entry_point is not None).repairs == ()


def test_code_without_an_entry_point_has_an_example_that_fits() -> None:
    text = policy_messages(ProblemView("Write a program.", "code"))[0]["content"]
    assert "custom_code_generate" not in text
    parse_workflow(text.split("```python\n")[1].split("```")[0], domain="code", has_entry_point=False)


def test_the_brief_prompt_leaves_the_passage_to_the_executor() -> None:
    view = ProblemView("Who lives there?", "qa", context="Mila Torvan lives in Quorby.")
    brief, full = (policy_messages(view, style)[1]["content"] for style in ("brief", "full"))  # type: ignore[arg-type]
    assert brief == "Who lives there?"
    assert "Quorby" in full


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match="verbose"):
        policy_messages(MATH, "verbose")  # type: ignore[arg-type]
