"""Workflows in the forms in which models and AFlow's relatives write them run; what can never run is told why."""

import pytest

from aflow_ops.errors import WorkflowError
from aflow_ops.language import parse_workflow, prompt_constants
from aflow_ops.language.fstrings import plain_fstrings
from aflow_ops.runtime import WorkflowRuntime
from data.problem import ProblemView
from tests.stub_endpoint import StubEndpoint

VIEW = ProblemView("Which city?", "qa")
IMPORTS = "import workspace.MATH.workflows.template.operator as operator\n"


def native(body: str, imports: str = IMPORTS, built: str = "operator.Custom(self.llm)", init: str = "pass") -> str:
    """A class with `custom` and `vote`; `body` ends with a return."""
    return (
        f"{imports}class Workflow:\n"
        f"    def __init__(self, name, llm_config, dataset):\n        {init}\n"
        f"        self.llm = create_llm_instance(llm_config)\n        self.custom = {built}\n"
        "        self.vote = operator.ScEnsemble(self.llm)\n"
        f"    async def __call__(self, problem):\n        {body}\n"
    )


ASK = "return (await self.custom(input=problem, instruction=''))['response'], 0"
SCOREFLOW = (
    "import ScoreFlow.scripts.operator as operator\nfrom metagpt.provider.llm_provider_registry import create\n"
    "class Workflow:\n    def __init__(self, config, problem):\n        self.problem = problem\n"
    "        self.llm = create(config)\n        self.custom = operator.Custom(self.llm, self.problem)\n"
    "        self.review = operator.Review(self.llm, self.problem)\n"
    "    async def run_workflow(self):\n        draft = await self.custom(instruction='Solve.')\n"
    "        return await self.review(pre_solution=draft.strip())\n"
)
SOLVE_GRAPH = (
    "class SolveGraph:\n    def __init__(self, name, llm_config, dataset):\n"
    "        self.generate = operator.Generate(create_llm_instance(llm_config))\n"
    "    async def __call__(self, problem):\n        return (await self.generate(problem=problem))['solution'], 0\n"
)
FORMS = {
    "a vote without the problem": native("return (await self.vote(solutions=['a', 'b']))['response'], 0"),
    "await of an item": native("return await self.custom(input=problem)['response'], 0"),
    "await of an item's method": native("return await self.custom(input=problem)['response'].strip(), 0"),
    "an alias": native(ASK, "import a.workflows.template.operator as op\n", "op.Custom(self.llm)"),
    "a class": native(ASK, "from x.template.operator import Custom as C, ScEnsemble\n", "C(self.llm)"),
    "all classes": native(ASK, "from x.template.operator import *\n", "Custom(self.llm)"),
    "a relative import": native(ASK, "from ..template import operator\nfrom . import prompt as prompt_custom\n"),
    "no alias": native(ASK, "import my.workflows.operator\n", "my.workflows.operator.Custom(self.llm)"),
    "an import in __init__": native(ASK, "", init="from scripts.async_llm import create_llm_instance"),
    "a problem by keyword only": native(ASK).replace("(self, problem)", "(self, *, problem)"),
    "a further argument": native(ASK.replace("instruction=''", "temperature=0.2")),
    "a dict of its own": native(
        "r = await self.custom(input=problem)\n        return {'answer': r['response'], 'n': 1}"
    ),
    "a list": native("r = await self.custom(input=problem)\n        return [r['response']]"),
    "the language model": native("return await self.llm(problem), self.llm.usage_tracker.total_tokens"),
    "its class": native("return await AsyncLLM('m')(problem)", "from scripts.async_llm import AsyncLLM\n" + IMPORTS),
    "quotes in an f-string": native('r = await self.custom(input=problem)\n        return f"{r["response"]}", 0'),
    "ScoreFlow": SCOREFLOW,
    "SolveGraph": SOLVE_GRAPH,
}


@pytest.mark.parametrize("name", FORMS)
async def test_it_runs(runtime: WorkflowRuntime, stub: StubEndpoint, name: str) -> None:
    workflow = parse_workflow(FORMS[name], domain="qa", has_entry_point=False)
    trace = await runtime.run(workflow, VIEW)
    assert trace.outcome == "ok", trace.error
    assert trace.answer is not None
    assert trace.calls


def test_a_prompt_file_is_read_without_running_it() -> None:
    source = (
        "import textwrap\nROLE: str = 'You'\nA = 'Solve ' + 'it.'\nB = \"\"\"\n x\n\"\"\".strip()\nC = f'{ROLE}, {A}'\n"
        "D = ['a', 'b']\nE = D[1]\nF = ('p '\n 'q')\nA += '!'\n"
        "G = textwrap.dedent(' z')\nH = open('/etc/passwd').read()\n"
        "I = '{:>999999999}'.format(1)\n" + "L = '" + "x" * 20_000 + "'\n"
    )
    found = prompt_constants(source)
    assert found.pop("L") == "x" * 20_000
    assert found == {
        "ROLE": "You", "A": "Solve it.!", "B": "x", "C": "You, Solve it.", "D": ["a", "b"], "E": "b",
        "F": "p q", "G": "z",
    }  # fmt: skip


def test_a_prompt_that_no_file_defines_is_told_with_its_name() -> None:
    with pytest.raises(WorkflowError, match=r"prompt_custom.ASK.*defines A"):
        text = native("return await self.custom(input=problem, instruction=prompt_custom.ASK)")
        parse_workflow(text, domain="qa", has_entry_point=False, prompts={"A": "x"})


@pytest.mark.parametrize("module", ["os", "sys", "os.path", "subprocess", "socket", "pathlib", "numpy", "importlib"])
def test_other_modules_stay_out(module: str) -> None:
    with pytest.raises(WorkflowError, match="may only import"):
        parse_workflow(native(ASK, f"import {module}\n"), domain="qa", has_entry_point=False)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ('f"{d["k"]}"', "v"),
        ('f"{{}} {d["k"]!r:>{5}}"', "{}   'v'"),
        ('"{" f"{d["k"]}"', "{v"),
        ('f"{"-".join(["a", "b"])}"', "a-b"),
        ("f'{1 != 2}'", "True"),
    ],
)
def test_f_strings_mean_the_same_on_every_python(source: str, value: str) -> None:
    assert eval(plain_fstrings(source), {"d": {"k": "v"}}) == value
