"""Fixed workflows to compare with: one around each operator, and the baselines that papers report."""

from aflow_ops.operators import OPERATORS
from aflow_ops.operators.code import CustomCodeGenerate
from aflow_ops.search.plan import least_plan, print_plan
from data.problem import Domain

# The least workflow around each operator, and two composite ones. Operators that need a draft get one from Custom.
# Where an operator does not fit the domain its workflow is invalid there and scores 0, as the policy's would.
FIXED_BASELINES: dict[str, str] = {
    "Custom": """\
async def workflow(problem):
    draft = await custom(input=problem, instruction="")
    return draft["response"]""",
    "AnswerGenerate": """\
async def workflow(problem):
    result = await answer_generate(input=problem)
    return result["answer"]""",
    "CustomCodeGenerate": """\
async def workflow(problem, entry_point):
    code = await custom_code_generate(problem=problem, entry_point=entry_point, instruction="")
    return code["response"]""",
    "Programmer": """\
async def workflow(problem):
    result = await programmer(problem=problem)
    return result["output"]""",
    "Test": """\
async def workflow(problem, entry_point):
    draft = await custom(input=problem, instruction="")
    tested = await test(problem=problem, solution=draft["response"], entry_point=entry_point)
    return tested["solution"]""",
    "Review": """\
async def workflow(problem):
    draft = await custom(input=problem, instruction="")
    check = await review(problem=problem, solution=draft["response"])
    return draft["response"] if check["review_result"] else check["feedback"]""",
    "Revise": """\
async def workflow(problem):
    draft = await custom(input=problem, instruction="")
    better = await revise(problem=problem, solution=draft["response"], feedback="Check every step.")
    return better["solution"]""",
    "ScEnsemble": """\
async def workflow(problem):
    drafts = [(await custom(input=problem, instruction=""))["response"] for _ in range(3)]
    best = await sc_ensemble(solutions=drafts, problem=problem)
    return best["response"]""",
    "MdEnsemble": """\
async def workflow(problem):
    drafts = [(await custom(input=problem, instruction=""))["response"] for _ in range(3)]
    best = await md_ensemble(solutions=drafts, problem=problem)
    return best["solution"]""",
    "Format": """\
async def workflow(problem):
    draft = await custom(input=problem, instruction="")
    answer = await format(problem=problem, solution=draft["response"])
    return answer["solution"]""",
    "Programmer + AnswerGenerate -> ScEnsemble": """\
async def workflow(problem):
    computed = await programmer(problem=problem)
    answered = await answer_generate(input=problem)
    best = await sc_ensemble(solutions=[computed["output"], answered["answer"]], problem=problem)
    return best["response"]""",
    "AnswerGenerate -> Review -> Revise": """\
async def workflow(problem):
    draft = await answer_generate(input=problem)
    check = await review(problem=problem, solution=draft["answer"])
    better = await revise(problem=problem, solution=draft["answer"], feedback=check["feedback"])
    return better["solution"]""",
}


def fixed_workflows() -> dict[str, str]:
    """Return the fixed workflows by name: the twelve, and the least one around each further registered operator."""
    found = dict(FIXED_BASELINES)
    for name, operator in OPERATORS.items():
        plan = None if name in found else least_plan(operator)
        if plan is not None:
            found[name] = print_plan(plan, has_entry_point=operator.needs_entry_point)
    return found


_IO = """\
async def workflow(problem):
    answer = await custom(input=problem, instruction="Answer directly. Give only the final answer.")
    return answer["response"]"""

_IO_CODE = """\
async def workflow(problem, entry_point):
    code = await custom_code_generate(problem=problem, entry_point=entry_point, instruction="Give only the code.")
    return code["response"]"""

_COT = """\
async def workflow(problem):
    thought = await custom(
        input=problem, instruction="Reason step by step. End with one line: The answer is, and the final answer."
    )
    return thought["response"]"""

_COT_CODE = """\
async def workflow(problem, entry_point):
    code = await custom_code_generate(
        problem=problem, entry_point=entry_point, instruction="Reason step by step in comments, then write the code."
    )
    return code["response"]"""

_COT_SC = """\
async def workflow(problem):
    ask = "Reason step by step. End with one line: The answer is, and the final answer."
    thoughts = await asyncio.gather(*[custom(input=problem, instruction=ask) for _ in range(5)])
    best = await sc_ensemble(solutions=[thought["response"] for thought in thoughts], problem=problem)
    return best["response"]"""

_COT_SC_CODE = """\
async def workflow(problem, entry_point):
    ask = "Reason step by step in comments, then write the code."
    codes = await asyncio.gather(
        *[custom_code_generate(problem=problem, entry_point=entry_point, instruction=ask) for _ in range(5)]
    )
    best = await sc_ensemble(solutions=[code["response"] for code in codes], problem=problem)
    return best["response"]"""

_REFINE = """\
    for _ in range(2):
        check = await review(problem=problem, solution=solution)
        if check["review_result"]:
            break
        better = await revise(problem=problem, solution=solution, feedback=check["feedback"])
        solution = better["solution"]
    return solution"""

_SELF_REFINE = f"""\
async def workflow(problem):
    solution = (await custom(input=problem, instruction="Reason step by step."))["response"]
{_REFINE}"""

_SELF_REFINE_CODE = f"""\
async def workflow(problem, entry_point):
    code = await custom_code_generate(problem=problem, entry_point=entry_point, instruction="")
    solution = code["response"]
{_REFINE}"""

_PROGRAMMER = """\
async def workflow(problem):
    computed = await programmer(problem=problem)
    return computed["output"]"""

_ROUND_1 = """\
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.name, self.dataset = name, dataset
        self.llm = create_llm_instance(llm_config)
        self.custom = operator.Custom(self.llm)

    async def __call__(self, problem):
        solution = await self.custom(input=problem, instruction="")
        return solution["response"], self.llm.get_usage_summary()["total_cost"]"""

_ROUND_1_CODE = """\
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.name, self.dataset = name, dataset
        self.llm = create_llm_instance(llm_config)
        self.custom_code_generate = operator.CustomCodeGenerate(self.llm)

    async def __call__(self, problem, entry_point):
        solution = await self.custom_code_generate(problem=problem, entry_point=entry_point, instruction="")
        return solution["response"], self.llm.get_usage_summary()["total_cost"]"""

# Name -> (workflow for math and qa, workflow for code with an entry point). Input-output prompting; chain of thought
# (arXiv:2201.11903); its self-consistency over five samples (arXiv:2203.11171); Self-Refine with two rounds
# (arXiv:2303.17651); the Programmer operator alone, as a program of thoughts (arXiv:2211.12588; it does not write
# functions, so on code it is input-output); and the workflow that AFlow's search starts from (arXiv:2410.10762).
PUBLISHED_BASELINES: dict[str, tuple[str, str]] = {
    "io": (_IO, _IO_CODE),
    "cot": (_COT, _COT_CODE),
    "cot_sc": (_COT_SC, _COT_SC_CODE),
    "self_refine": (_SELF_REFINE, _SELF_REFINE_CODE),
    "programmer": (_PROGRAMMER, _IO_CODE),
    "aflow_round_1": (_ROUND_1, _ROUND_1_CODE),
}


def published_baseline(name: str, domain: Domain, has_entry_point: bool) -> str:
    """Return the workflow of a published baseline for a kind of problem.

    Args:
        name (`str`): a key of `PUBLISHED_BASELINES`.
        domain (`str`): of the problem.
        has_entry_point (`bool`): whether the problem names a function; code without one is a whole program.
    """
    plain, code = PUBLISHED_BASELINES[name]
    return code if CustomCodeGenerate.misfit(domain, has_entry_point) is None else plain
