"""Workflows that no plan printed, as steps of the grammar's plans."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from aflow_ops.language import parse_workflow
from aflow_ops.search.expand import Context, as_completion
from aflow_ops.search.given import instructed, parameters_of, read_given
from aflow_ops.search.grammar import GrammarProposer
from aflow_ops.search.native import native_files
from aflow_ops.search.node import Node
from aflow_ops.search.plan import branch, call, given, print_plan, read_plan, vote
from tests.aflow_ops.search.test_search_aflow_folder import loaded

PUBLISHED = Path(__file__).parents[1] / "published"
SHORT = (
    "def double(text: str) -> str:\n    return text + GLUE + text\n\nGLUE = ' '\nUNUSED = 1\n\n"
    "async def workflow(problem: str):\n"
    "    found = await custom(input=double(problem), instruction='Think.')\n    return found['response'], 0"
)
NATIVE = (
    "import workspace.MATH.workflows.template.operator as operator\n"
    "import workspace.MATH.workflows.round_1.prompt as prompt_custom\n\n"
    "class Workflow:\n    def __init__(self, name, llm_config, dataset):\n"
    "        self.llm = create_llm_instance(llm_config)\n        self.ask = operator.Custom(self.llm)\n"
    "    async def __call__(self, problem: str):\n"
    "        found = await self.ask(input=problem, instruction=prompt_custom.SOLVE)\n"
    "        return found['response'], self.llm.get_usage_summary()['total_cost']"
)


def source_of(workflow: str, **prompts: Any) -> str:
    source = read_given(workflow, prompts, has_entry_point=False)
    assert source is not None
    return source


def answers(text: str) -> tuple[str, list[dict[str, Any]]]:
    """Run a printed workflow of ours with operators that write down their calls."""
    calls: list[dict[str, Any]] = []

    async def custom(**arguments: Any) -> dict[str, Any]:
        calls.append(arguments)
        return {"response": f"r{len(calls)}"}

    async def sc_ensemble(solutions: list[str], problem: str) -> dict[str, Any]:
        return {"response": "+".join(solutions)}

    space: dict[str, Any] = {"custom": custom, "sc_ensemble": sc_ensemble}
    exec(text, space)
    return asyncio.run(space["workflow"]("What?")), calls


@pytest.mark.parametrize(
    ("workflow", "asked"),
    [(SHORT, {"input": "What? What?", "instruction": "Think."}), (NATIVE, {"input": "What?", "instruction": "Solve."})],
    ids=["short", "native"],
)
def test_a_workflow_of_any_form_is_a_step_of_a_plan_that_runs_and_is_read_back(
    workflow: str, asked: dict[str, str]
) -> None:
    step = given(source_of(workflow, SOLVE="Solve."))
    plan = vote("ScEnsemble", step, step, branch("words > 0", step, call("Custom")))
    text = print_plan(plan, has_entry_point=False)
    assert read_plan(text) == plan and text.count("async def given_1(") == 1
    checked = parse_workflow(text, domain="math", has_entry_point=False)
    assert set(checked.operators) == {"Custom", "ScEnsemble"} and checked.repairs == ()
    answer, calls = answers(text)
    assert answer == "r1+r2+r3" and calls == [asked] * 3
    files = native_files(checked, dataset="MATH", number=1)
    native, calls_there = loaded(files.graph, files.prompt)
    assert asyncio.run(native("What?"))[0] == "r" and calls_there[0] == (
        "Custom",
        {**asked, "input": calls[0]["input"]},
    )


@pytest.mark.parametrize("name", ["math", "gsm8k", "hotpotqa"])
def test_published_workflows_are_steps(name: str) -> None:
    graph, prompt = ((PUBLISHED / name / file).read_text() for file in ("graph.py", "prompt.py"))
    domain: Any = "qa" if name == "hotpotqa" else "math"
    prompts: dict[str, Any] = {}
    exec(prompt, prompts)  # our own copy
    texts = {key: value for key, value in prompts.items() if isinstance(value, str) and key.isupper()}
    workflow = parse_workflow(as_completion(graph, texts), domain=domain, has_entry_point=False)
    plan = vote("ScEnsemble", given(source_of(workflow.text, **workflow.prompts)), call("Custom"))
    found = parse_workflow(print_plan(plan, has_entry_point=False), domain=domain, has_entry_point=False)
    assert set(workflow.operators) <= set(found.operators)


@pytest.mark.parametrize(
    "workflow",
    [
        "[Custom, Custom] -> ScEnsemble",
        "Custom -> Review ? Revise : done",
    ],
)
def test_a_line_of_dsl_is_a_step(workflow: str) -> None:
    plan = vote("ScEnsemble", given(source_of(workflow)), call("Custom"))
    parse_workflow(print_plan(plan, has_entry_point=False), domain="math", has_entry_point=False)


@pytest.mark.parametrize(
    "workflow",
    [
        "no workflow at all",
        "async def workflow(problem):\n    custom = 1\n    return str(custom)",
        "async def workflow(problem):\n    return await workflow(problem)",
        "async def workflow(problem):\n    import re\n    return re.sub('a', 'b', problem)",
        "async def workflow(problem, depth=1):\n    return (await custom(problem))['response']",
        "async def workflow(problem, entry_point):\n    return (await custom(problem))['response']",
        NATIVE.replace("    async def __call__", "    def helper(self):\n        return 1\n    async def __call__"),
        NATIVE.replace("return found", "print(self.name)\n        return found"),
        SHORT + "\n# " + "x" * 4_000 + "\n" + "UNUSED = 'y'\n" * 300,
    ],
)
def test_what_cannot_stand_in_another_workflow_is_left_alone(workflow: str) -> None:
    found = read_given(workflow, {"SOLVE": "Solve."}, has_entry_point=False)
    assert found is None or workflow.startswith(SHORT)


def test_a_head_that_holds_other_code_is_not_read() -> None:
    for source in ("import os\nasync def given(problem):\n    return os.getcwd()", "x = 1", "async def given(problem"):
        assert parameters_of(source) == []
        assert read_plan(f"# plan: {given(source).written}\nasync def workflow(problem):\n    return 1") is None


async def test_the_grammar_modifies_what_it_did_not_print() -> None:
    root = Node(0, None, 0, "root", "", NATIVE, {"SOLVE": "Solve."}, per_problem={"p": (0.5,)})
    proposer, kept, said = GrammarProposer([("math", False)], 0), 0, set()
    for sample in range(40):
        proposal = await proposer.propose(Context(root, 0.5, sample=sample), [])
        text = parse_workflow(proposal.completion, domain="math", has_entry_point=False).text
        kept += "async def given_1(" in text
        said.add(proposal.modification)
        assert "async def" not in proposal.modification and read_plan(text) is not None
    assert kept >= 8 and any("the given workflow" in each for each in said)
    source = source_of(NATIVE, SOLVE="Solve.")
    assert "'Other.'" in instructed(source, lambda names: names[-1], ("Other.",))
