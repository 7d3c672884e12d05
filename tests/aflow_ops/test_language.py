import ast
import textwrap
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aflow_ops.errors import WorkflowError
from aflow_ops.language import Workflow, parse_workflow
from aflow_ops.operators import OPERATORS
from data.corpus import load_corpus
from tests.patience import PATIENCE

PLAIN = 'async def workflow(problem):\n    result = await custom(input=problem)\n    return result["response"]'


def parse(text: str, domain: str = "math") -> Workflow:
    return parse_workflow(text, domain=domain, has_entry_point=domain == "code")  # type: ignore[arg-type]


def rejected(text: str, domain: str = "math") -> WorkflowError:
    with pytest.raises(WorkflowError) as caught:
        parse(text, domain)
    return caught.value


@pytest.mark.parametrize(
    "wrapped",
    [
        PLAIN,
        f"```python\n{PLAIN}\n```",
        f"```\n{PLAIN}\n```",
        f"Sure! Here it is:\n\n```python\n{PLAIN}\n```\nIt asks the model once.",
        f"<workflow>\n{PLAIN}\n</workflow>",
        f"<graph>{PLAIN}</graph>",
        f"```python\n{PLAIN}",
        f"Here is the workflow.\n{PLAIN}",
        PLAIN.replace("\n", "\r\n"),
    ],
)
def test_a_workflow_is_found_in_whatever_surrounds_it(wrapped: str) -> None:
    workflow = parse(wrapped)
    assert workflow.operators == ("Custom",)
    assert workflow.form == "short"


REPAIRS = [
    ("awaited", PLAIN.replace("await ", "")),
    ("spelled", PLAIN.replace("custom(", "Custom(")),
    ("returned", PLAIN.rsplit("\n", 1)[0]),
    ("indented", "async def workflow(problem):\nresult = await custom(input=problem)\nreturn result['response']"),
]


@pytest.mark.parametrize(("what", "broken"), REPAIRS, ids=[what for what, _ in REPAIRS])
def test_what_is_unambiguous_is_repaired_and_recorded(what: str, broken: str) -> None:
    workflow = parse(broken)
    assert any(what in repair for repair in workflow.repairs), workflow.repairs
    again = parse(workflow.text)
    assert again.repairs == ()
    assert again.operators == ("Custom",)


def test_a_right_workflow_is_left_as_it_is() -> None:
    workflow = parse(PLAIN)
    assert workflow.text == PLAIN
    assert workflow.repairs == ()


TEXTS = {
    "a tab in a text": '"a\tb".split("\t")',
    "a tab at the beginning of a line": '"""a\n\tb"""',
    "spaces at the end of a line": '"""a  \nb"""',
    "a space that does not break": '"""a\n\u00a0b"""',
    "tags of prompts": '"<prompt>" + problem + "</prompt>"',
    "a tag of prompts that stays open": '"Begin with <prompt>"',
}


@pytest.mark.parametrize("indent", ["    ", "\t"], ids=["spaces", "tabs"])
@pytest.mark.parametrize("around", ["{}", "```python\n{}\n```", "<graph>\n{}\n</graph>"], ids=["bare", "fence", "tag"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_texts_of_a_right_workflow_stay_as_they_are(text: str, around: str, indent: str) -> None:
    source = f"async def workflow(problem):\n{indent}reply = await custom(input={text})\n{indent}return reply"
    assert ast.dump(ast.parse(parse(around.format(source)).source)) == ast.dump(ast.parse(source))


def test_spaces_and_tabs_between_the_words_of_a_workflow_are_mended() -> None:
    assert parse(PLAIN.replace("\n", "  \n").replace("    ", "\t")).source == PLAIN
    assert parse(f"{PLAIN}\n<prompt>\nSOLVE = 'x'\n</prompt>").source == PLAIN


@pytest.mark.parametrize(
    ("text", "domain", "stage", "reason"),
    [
        ("", "math", "find", "no workflow"),
        ("def f(:\n  async def workflow(problem):", "math", "syntax", "line"),
        (PLAIN.replace("custom(", "oracle("), "math", "check", "oracle"),
        (PLAIN.replace("input=problem", ""), "math", "check", "without 'input'"),
        (PLAIN.replace("input=problem", "inputs=problem"), "math", "check", "no argument 'inputs'"),
        (PLAIN.replace("input=problem", "problem, '', 3"), "math", "check", "takes 2 arguments, not 3"),
        (PLAIN.replace("input=problem", "problem, input=problem"), "math", "check", "twice"),
        ("async def workflow(problem):\n    pass", "math", "check", "never returns"),
        (PLAIN.replace("(problem)", "()"), "math", "check", "first argument"),
        ("import os\n" + PLAIN, "math", "check", "'os'"),
        (
            "async def workflow(problem):\n    return await test(problem=problem, solution='', entry_point='f')",
            "math",
            "check",
            "Test needs an entry point",
        ),
        ("CustomCodeGenerate -> Test", "qa", "check", "entry point"),
        ("Custom -> Oracle", "math", "check", "Oracle"),
        ("Custom ->", "math", "syntax", "end of the pipeline"),
        ("(Review -> Revise) * 1000", "math", "check", "1000"),
    ],
)
def test_errors_name_the_stage_and_the_offender(text: str, domain: str, stage: str, reason: str) -> None:
    error = rejected(text, domain)
    assert error.stage == stage
    assert reason in error.reason


DSL = [
    ("Custom", ("Custom",)),
    ("Custom -> Format", ("Custom", "Format")),
    ("[Custom, Custom, Programmer] -> ScEnsemble", ("Custom", "Custom", "Programmer", "ScEnsemble")),
    ("AnswerGenerate -> Review ? Revise : done", ("AnswerGenerate", "Review", "Revise")),
    ("```\nprogrammer -> format\n```", ("Programmer", "Format")),
    ("<workflow>Custom → Format</workflow>", ("Custom", "Format")),
]


@pytest.mark.parametrize(("text", "operators"), DSL, ids=[text for text, _ in DSL])
def test_dsl_compiles_to_the_short_form(text: str, operators: tuple[str, ...]) -> None:
    workflow = parse(text)
    assert workflow.form == "dsl"
    assert workflow.operators == operators
    assert parse(workflow.source).operators == operators
    assert workflow.source.startswith("async def workflow(problem")


NATIVE = textwrap.dedent(
    '''
    from typing import Literal
    import workspace.MADE.workflows.template.operator as operator
    import workspace.MADE.workflows.round_1.prompt as prompt_custom
    from scripts.async_llm import create_llm_instance
    from scripts.evaluator import DatasetType

    class Workflow:
        def __init__(self, name: str, llm_config, dataset: DatasetType) -> None:
            self.name = name
            self.dataset = dataset
            self.llm = create_llm_instance(llm_config)
            self.custom = operator.Custom(self.llm)

        async def __call__(self, problem: str):
            """Implementation of the workflow"""
            solution = await self.custom(input=problem, instruction=prompt_custom.SOLVE)
            return solution["response"], self.llm.get_usage_summary()["total_cost"]
    '''
)


def test_aflows_own_form_is_understood_with_its_prompt_block() -> None:
    workflow = parse(f"<graph>{NATIVE}</graph>\n<prompt>SOLVE = 'Think hard.'</prompt>")
    assert workflow.form == "native"
    assert workflow.operators == ("Custom",)
    assert workflow.prompts == {"SOLVE": "Think hard."}


@given(st.text(max_size=400))
@settings(max_examples=300, deadline=None)
@example("async def workflow(problem):\n\x0c    return problem")
@example("class Workflow:\n    async def __call__(self, problem):\n        return self.llm\n")
def test_any_text_gives_a_workflow_or_a_workflow_error(text: str) -> None:
    try:
        parse(text)
    except WorkflowError as error:
        assert error.stage in ("find", "syntax", "check")
        assert error.reason


SIGNS = [
    "->",
    "[",
    "]",
    "(",
    ")",
    ",",
    "?",
    ":",
    "*",
    " = ",
    "{",
    "}",
    '["response"]',
    "```",
    "\n    ",
    "\t",
    "2",
    "99",
]
WORDS = ["await ", "return ", "yield ", "lambda x: ", "for x in ", "if ", "result", "self.", "done", "import re\n"]
LINES = [
    "async def workflow(problem):\n    ",
    "custom(input=problem)",
    "class Workflow:\n",
    "    def __init__(self):\n",
]
TOKENS = st.sampled_from([*OPERATORS, *SIGNS, *WORDS, *LINES])


@given(st.lists(TOKENS, max_size=25).map("".join))
@settings(max_examples=500, deadline=None)
def test_any_mixture_of_the_languages_own_words_is_decided(text: str) -> None:
    try:
        workflow = parse(text)
    except WorkflowError:
        return
    assert parse(workflow.text).operators == workflow.operators


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_corpus_workflow_is_decided(data: st.DataObject) -> None:
    item = data.draw(st.sampled_from(load_corpus()))
    start = data.draw(st.integers(0, len(item.text)))
    end = data.draw(st.integers(start, min(len(item.text), start + 12)))
    text = item.text[:start] + data.draw(st.text(max_size=4)) + item.text[end:]
    try:
        parse(text, item.domains[0])
    except WorkflowError as error:
        assert error.reason


@pytest.mark.parametrize(
    "text", ["(" * 2**20, "[Custom," * 2**17, "```python\n" * 2**16, "async def workflow(" * 2**15]
)
def test_a_megabyte_is_decided_quickly(text: str) -> None:
    start = time.monotonic()
    rejected(text)
    assert time.monotonic() - start < PATIENCE  # a guard against quadratic scanning, not a benchmark
