import asyncio
import importlib
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from aflow_ops.errors import UsageError
from aflow_ops.language import Workflow, parse_workflow
from aflow_ops.operators import OPERATORS
from aflow_ops.search.aflow_folder import read_aflow_folder, write_aflow_folder
from aflow_ops.search.aflow_template import AFlowTemplate, read_template, write_template
from aflow_ops.search.edit_prompt import edit_messages
from aflow_ops.search.expand import Context
from aflow_ops.search.grammar import GrammarProposer
from aflow_ops.search.native import native_files
from aflow_ops.search.node import Node, Validation
from aflow_ops.search.plan import Plan, branch, call, print_plan, refine, vote

PUBLISHED = Path(__file__).parents[1] / "published"


def check(completion: str) -> Workflow:
    return parse_workflow(completion, domain="math", has_entry_point=False)


def scored(identity: int, parent: int | None, workflow: str, reward: float) -> Node:
    validation = Validation(4, 1, reward, reward, 0.0, (0.0, 1.0))
    return Node(identity, parent, identity, "grammar", f"change {identity}", workflow, validation=validation)


def loaded(graph: str, prompt: str) -> Any:
    """Load the files as AFlow does, its own modules replaced by stand-ins that write down their calls."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def operator_class(name: str) -> Any:
        async def call(**arguments: Any) -> dict[str, Any]:
            calls.append((name, arguments))
            return {
                "response": "r",
                "output": "o",
                "thought": "t",
                "result": True,
                "answer": "a",
                "solution": "s",
                "review_result": False,
                "feedback": "f",
            }

        return lambda llm: call

    operators = types.SimpleNamespace(
        **{
            name: operator_class(name)
            for name in (
                "Custom",
                "Programmer",
                "AnswerGenerate",
                "ScEnsemble",
                "MdEnsemble",
                "Review",
                "Revise",
                "Format",
                "Test",
                "CustomCodeGenerate",
            )
        }
    )
    prompts: dict[str, Any] = {}
    exec(prompt, prompts)
    namespace: dict[str, Any] = {
        "operator": operators,
        "prompt_custom": types.SimpleNamespace(**prompts),
        "create_llm_instance": lambda config: types.SimpleNamespace(get_usage_summary=lambda: {"total_cost": 0.25}),
        "DatasetType": str,
        "__name__": "graph",
    }
    kept = [line for line in graph.splitlines() if not re.match(r"(import|from) (workspace|scripts)\.", line)]
    exec("\n".join(kept), namespace)
    return namespace["Workflow"](name="x", llm_config={}, dataset="MATH"), calls


PLANS = [
    call("Custom", instruction="Think."),
    vote("ScEnsemble", call("Programmer"), call("AnswerGenerate")),
    refine("Review", "Revise", 2, call("Format", call("Custom"))),
    branch("words > 60", call("Programmer"), call("AnswerGenerate")),
]


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_short_workflow_becomes_a_class_that_aflow_runs(plan: Plan) -> None:
    workflow = check(print_plan(plan, has_entry_point=False))
    files = native_files(workflow, dataset="MATH", number=3)
    native, calls = loaded(files.graph, files.prompt)
    answer, cost = asyncio.run(native(problem="What is 1 + 1?"))
    assert isinstance(answer, str) and cost == 0.25
    assert calls and all("instruction" in arguments for name, arguments in calls if name == "Custom")
    again = check(files.graph)
    assert (again.form, again.operators) == ("native", workflow.operators)


def test_helpers_keep_their_own_returns_and_prompts_go_along() -> None:
    workflow = check(
        "def double(text):\n    return text * 2\n\nasync def workflow(problem):\n"
        "    def inner():\n        return 1\n    a = await custom(problem)\n    return double(a['response'])"
    )
    native, calls = loaded(native_files(workflow, dataset="MATH", number=1).graph, "")
    assert asyncio.run(native("x")) == ("rr", 0.25)
    assert calls == [("Custom", {"input": "x", "instruction": ""})]


@pytest.mark.parametrize(
    "text",
    [
        "async def step(text):\n    return (await custom(text))['response']\n\n"
        "async def both(text):\n    return await step(await step(text))\n\n"
        "async def workflow(problem):\n    return await both(problem)",
        "async def workflow(problem):\n    self = problem\n    return (await custom(input=self))['response']",
        "async def workflow(self, problem):\n    return (await custom(input=self + problem))['response']",
        "async def workflow(*, problem, depth=1):\n    return (await custom(input=problem))['response'], depth",
        "async def workflow(problem):\n    for step in (custom, answer_generate):\n"
        "        reply = await step(input=problem)\n    return reply['answer']",
    ],
    ids=["helpers", "self", "self passed", "by name", "passed about"],
)
def test_whatever_the_form_of_a_function_its_class_runs(text: str) -> None:
    files = native_files(check(text), dataset="MATH", number=1)
    native, calls = loaded(files.graph, files.prompt)
    answer, cost = asyncio.run(native("x"))
    assert answer in ("r", "a") and cost in (0.25, 1) and calls
    check(files.graph)


@pytest.mark.parametrize("name", ["math", "hotpotqa", "gsm8k"])
def test_a_workspace_is_read_and_written_again(name: str, tmp_path: Path) -> None:
    place = tmp_path / "MATH" / "workflows" / "round_1"
    place.mkdir(parents=True)
    for file in ("graph.py", "prompt.py"):
        (place / file).write_text((PUBLISHED / name / file).read_text())
    second = place.with_name("round_2")
    second.mkdir()
    (second / "graph.py").write_text((place / "graph.py").read_text())
    (second / "experience.json").write_text(json.dumps({"father node": 1, "modification": "vote", "after": 0.7}))
    rows = [{"round": 1, "score": 0.4}, {"round": 1, "score": 0.6}, {"round": 2, "score": 0.7}]
    (place.parent / "results.json").write_text(json.dumps(rows))
    rounds = read_aflow_folder(tmp_path / "MATH")
    assert [(found.number, found.father, found.score) for found in rounds] == [(1, None, 0.5), (2, 1, 0.7)]
    domain: Any = "qa" if name == "hotpotqa" else "math"

    def parse(completion: str) -> Workflow:
        return parse_workflow(completion, domain=domain, has_entry_point=False)

    first = parse(rounds[0].completion)
    nodes = [scored(0, None, first.text, 0.5), scored(2, 0, print_plan(PLANS[1], has_entry_point=False), 0.8)]
    nodes[0] = Node(**{**vars(nodes[0]), "prompts": dict(first.prompts)})
    nodes.insert(1, Node(1, 0, 1, "grammar", "no", "nonsense", status="rejected"))
    out = tmp_path / "out"
    assert write_aflow_folder(nodes, out, dataset="MATH", check=parse, problems=4) == [0, 2]
    again = read_aflow_folder(out)
    assert [(found.number, found.father, found.score) for found in again] == [(1, None, 0.5), (2, 1, 0.8)]
    assert parse(again[0].completion).operators == first.operators
    assert parse(again[0].completion).prompts == first.prompts


TABLE = {
    "Custom": {"description": "Writes anything.", "interface": "custom(input: str, instruction: str) -> dict"},
    "Programmer": {"description": "Writes code and runs it.", "interface": "programmer(problem: str) -> dict"},
    "Oracle": {"description": "Knows it.", "interface": "oracle(problem: str) -> dict"},
}


def test_the_template_says_what_is_proposed_and_the_optimizer_is_told_of(tmp_path: Path) -> None:
    folder = tmp_path / "MATH" / "workflows" / "template"
    assert read_template(tmp_path) is None
    folder.mkdir(parents=True)
    for name, text in (("operator.json", json.dumps(TABLE)), ("operator.py", "raise SystemExit\n")):
        (folder / name).write_text(text)
    template = read_template(tmp_path / "MATH")
    assert template is not None and template.unknown == ["Oracle"]
    offered = {"Custom": "Writes anything.", "Programmer": "Writes code and runs it."}
    assert template.offered == offered
    root = scored(0, None, print_plan(PLANS[0], has_entry_point=False), 0.5)
    told = edit_messages(Context(root, 0.5), [("math", False)], offered=offered)[0]["content"]
    assert "Writes code and runs it." in told and "sc_ensemble" not in told and "oracle" not in told
    proposer = GrammarProposer([("math", False)], 0, offered=offered)
    for sample in range(30):
        proposal = asyncio.run(proposer.propose(Context(root, 0.5, sample=sample), []))
        assert set(check(proposal.completion).operators) <= set(offered)
    with pytest.raises(UsageError, match="none of the operators offered \\(ScEnsemble\\) answers such problems"):
        GrammarProposer([("math", False)], 0, offered=["ScEnsemble"])


@pytest.mark.parametrize("text", ["[]", '{"Custom": "writes"}', "{", "[" * 100_000], ids=lambda text: text[:9])
def test_a_template_that_is_none_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "template").mkdir()
    (tmp_path / "template" / "operator.json").write_text(text)
    with pytest.raises(UsageError, match=r"operator\.json is no (table of operators|JSON)"):
        read_template(tmp_path)


@pytest.mark.parametrize("started", [False, True], ids=["of its own", "from a template"])
def test_what_is_written_is_loaded_as_aflow_loads_it(
    started: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflows = tmp_path / "workspace" / "MATH" / "workflows"
    given = {"operator.json": json.dumps(TABLE), "operator.py": "class Custom:\n    mine = True\n"}
    template = AFlowTemplate({"Custom": ""}, given) if started else None
    nodes = [scored(number, None, print_plan(plan, has_entry_point=False), 0.5) for number, plan in enumerate(PLANS)]
    write_aflow_folder(nodes, workflows, dataset="MATH", check=check, problems=4, template=template)
    table = json.loads((workflows / "template" / "operator.json").read_text())
    assert {"Programmer", "ScEnsemble", "Review"} < set(table)
    assert all(set(row) == {"description", "interface"} for row in table.values())
    assert table["Custom"] == (TABLE["Custom"] if started else table["Custom"]) and ("Oracle" in table) == started
    assert table["Revise"]["interface"] == (
        "revise(problem: str, solution: str, feedback: str) -> dict with 'solution'"
    )
    classes = {name: type(name, (), {"mine": False}) for name in table if name != "Oracle"}
    stand_ins: dict[str, dict[str, Any]] = {
        "scripts": {},
        "scripts.operators": classes,
        "scripts.async_llm": {"create_llm_instance": None},
        "scripts.evaluator": {"DatasetType": str},
    }
    for name, names in stand_ins.items():
        module = types.ModuleType(name)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        for number in range(1, len(PLANS) + 1):
            graph = importlib.import_module(f"workspace.MATH.workflows.round_{number}.graph")
            assert graph.Workflow
            used = check((workflows / f"round_{number}" / "graph.py").read_text()).operators
            assert all(hasattr(graph.operator, name) for name in used)
        assert graph.operator.Custom.mine == started
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "workspace"]:
            del sys.modules[name]
    before = {path: path.read_bytes() for path in (workflows / "template").iterdir() if path.is_file()}
    write_aflow_folder(nodes, workflows, dataset="MATH", check=check, problems=4)
    assert {path: path.read_bytes() for path in before} == before


def test_an_operator_that_aflow_has_not_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPERATORS, "Debate", OPERATORS["Custom"])
    assert write_template(tmp_path, {"Debate", "Custom"}) == ["Debate"]
    text = (tmp_path / "operator.py").read_text()
    assert "import Custom\n" in text and "Debate" in (tmp_path / "operator.json").read_text()
    assert (
        write_template(tmp_path, {"Debate", "Custom"}) == ["Debate"] and (tmp_path / "operator.py").read_text() == text
    )


def test_what_is_no_workspace_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no round_N folder"):
        read_aflow_folder(tmp_path)
    for number in (1, 2):  # AFlow was stopped while it wrote the second one
        (tmp_path / f"round_{number}").mkdir()
    with pytest.raises(UsageError, match=r"no round_N folder with a graph\.py"):
        read_aflow_folder(tmp_path)
    (tmp_path / "round_1" / "graph.py").write_text("x")
    assert [found.number for found in read_aflow_folder(tmp_path)] == [1]
    (tmp_path / "results.json").write_text("[")
    with pytest.raises(UsageError, match=r"results\.json is no JSON"):
        read_aflow_folder(tmp_path)
