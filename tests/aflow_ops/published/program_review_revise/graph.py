from typing import Literal
import workspace.GSM8K.workflows.template.operator as operator
import workspace.GSM8K.workflows.round_1.prompt as prompt_custom
from scripts.async_llm import create_llm_instance
from scripts.evaluator import DatasetType

DatasetType = Literal["HumanEval", "MBPP", "GSM8K", "MATH", "HotpotQA", "DROP"]

class Workflow:
    def __init__(
        self,
        name: str,
        llm_config,
        dataset: DatasetType,
    ) -> None:
        self.name = name
        self.dataset = dataset
        self.llm = create_llm_instance(llm_config)
        self.programmer = operator.Programmer(self.llm)
        self.review = operator.Review(self.llm)
        self.revise = operator.Revise(self.llm)

    async def __call__(self, problem: str):
        code_result = await self.programmer(problem=problem, analysis='None')
        solution = code_result['output'] or 'none'
        feedback = await self.review(problem=problem, solution=solution)
        if not feedback['review_result']:
            revised = await self.revise(problem=problem, solution=solution, feedback=feedback['feedback'])
            solution = revised['solution']
        return solution, self.llm.get_usage_summary()["total_cost"]
