"""What evaluate.py takes a workflow file for."""

from pathlib import Path

from aflow_ops.language import parse_workflow
from data.problem import Problem
from scripts.evaluating.candidates import PolicySettings, candidates

GRAPH = (
    "class Workflow:\n    def __init__(self, name, llm_config, dataset):\n"
    "        self.llm = create_llm_instance(llm_config)\n"
    "    async def __call__(self, problem):\n        return await self.llm(prompt_custom.ask(problem)), 0\n"
)


def test_the_prompts_beside_a_graph_belong_to_it(tmp_path: Path) -> None:
    (tmp_path / "graph.py").write_text(GRAPH)
    (tmp_path / "prompt.py").write_text('END = "Be brief."\ndef ask(problem):\n    return problem + END\n')
    (candidate,) = candidates(tmp_path, None, PolicySettings(None, None, None, 0.0, 1, None, 0))
    assert candidate.text is not None
    problem = Problem.from_row({"question": "What is 1 + 1?", "answer": "2", "source": "math"})
    workflow = parse_workflow(candidate.text(problem), domain="math", has_entry_point=False)
    assert workflow.prompts == {"END": "Be brief."}
    assert "def ask" in workflow.text
