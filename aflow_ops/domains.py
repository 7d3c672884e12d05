"""What the policy's prompt says of each domain; `data/domains.py` lists the domains."""

from dataclasses import dataclass

from data.problem import DOMAINS, Domain, ProblemView


@dataclass(frozen=True)
class DomainPrompt:
    """The parts of the policy's prompt that depend on the domain.

    Args:
        about (`str`): ends the sentence "`problem` is the problem's text": what it holds, and what to return.
        example_problem (`str`): ends "Example, for": a problem in a few words.
        example (`str`): a good workflow for it, in the short form.
        sample (`ProblemView`): a small problem, to try a policy with.
        without_function (`DomainPrompt`, *optional*): for a problem that names no function, where that differs.
    """

    about: str
    example_problem: str
    example: str
    sample: ProblemView
    without_function: "DomainPrompt | None" = None


_MATH = DomainPrompt(
    about="",
    example_problem='"A tank holds 240 litres and loses 3.5 litres an hour. How much is left after 16 hours?"',
    example="""\
async def workflow(problem):
    computed = await programmer(problem=problem)
    reasoned = await custom(input=problem, instruction="Solve step by step, then state the final number.")
    best = await sc_ensemble(solutions=[computed["output"], reasoned["response"]], problem=problem)
    return best["response"]""",
    sample=ProblemView("What is 12 + 30 * 2?", "math"),
)

_QA = DomainPrompt(
    about=" and ends with the question",
    example_problem='a passage about two lighthouses and "Which of them was built first?"',
    example="""\
async def workflow(problem):
    draft = await answer_generate(input=problem)
    check = await review(problem=problem, solution=draft["answer"])
    if check["review_result"]:
        return draft["answer"]
    better = await revise(problem=problem, solution=draft["answer"], feedback=check["feedback"])
    return better["solution"]""",
    sample=ProblemView("In which country does Mila live?", "qa", "Mila lives in Quorby. Quorby lies in Estria."),
)

_PROGRAM = DomainPrompt(
    about="",
    example_problem='the task "Write a program that prints the first ten squares."',
    example="""\
async def workflow(problem):
    draft = await custom(input=problem, instruction="Write the program. Give only code.")
    check = await review(problem=problem, solution=draft["response"])
    better = await revise(problem=problem, solution=draft["response"], feedback=check["feedback"])
    return better["solution"]""",
    sample=ProblemView("Write a program that prints the first ten squares.", "code"),
)

_CODE = DomainPrompt(
    about=", `entry_point` the name of the function to write; return the function's code",
    example_problem="a function `longest_run(items)` that returns the length of the longest run of equal items",
    example="""\
async def workflow(problem, entry_point):
    code = await custom_code_generate(problem=problem, entry_point=entry_point, instruction="Mind empty input.")
    tested = await test(problem=problem, solution=code["response"], entry_point=entry_point)
    return tested["solution"]""",
    sample=ProblemView("Write a function double(x) that returns twice x.", "code", entry_point="double"),
    without_function=_PROGRAM,
)

_SWE = DomainPrompt(
    about=", a package and an issue; return the edits that mend it, as a unified diff or search/replace blocks",
    example_problem="a package whose `last_items` returns one item too few",
    example="""\
async def workflow(problem):
    cause = await custom(input=problem, instruction="Which line is wrong, and why?")
    draft = await custom(input=problem + cause["response"], instruction="Write the change as a unified diff.")
    check = await review(problem=problem, solution=draft["response"])
    better = await revise(problem=problem, solution=draft["response"], feedback=check["feedback"])
    return better["solution"]""",
    sample=ProblemView("`double(2)` returns 3, not 4.", "swe", "### maths.py\ndef double(x):\n    return x + 1"),
)

DOMAIN_PROMPTS: dict[Domain, DomainPrompt] = {"math": _MATH, "qa": _QA, "code": _CODE, "swe": _SWE}


def add_domain_prompt(name: Domain, prompt: DomainPrompt) -> None:
    """Say what the policy's prompt tells of a domain.

    Raises:
        ValueError: another prompt is known for it.
    """
    if DOMAIN_PROMPTS.setdefault(name, prompt) != prompt:
        raise ValueError(f"there is a prompt for the domain {name!r} already")


def domain_prompt(name: Domain) -> DomainPrompt:
    """Return what the prompt says of a domain.

    Raises:
        ValueError: nothing is known of it; lists the domains that have a prompt.
    """
    if name not in DOMAIN_PROMPTS:
        known = [domain for domain in DOMAINS if domain in DOMAIN_PROMPTS]
        raise ValueError(f"the domain {name!r} has no prompt; there is one for {', '.join(known)}")
    return DOMAIN_PROMPTS[name]
