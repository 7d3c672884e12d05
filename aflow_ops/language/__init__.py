"""The workflow language: find a workflow in a completion, repair what is unambiguous, check it."""

from aflow_ops.language.constants import prompt_constants
from aflow_ops.language.parse import parse_workflow
from aflow_ops.language.prompt_code import prompt_definitions
from aflow_ops.language.workflow import Form, Workflow

__all__ = ["Form", "Workflow", "parse_workflow", "prompt_constants", "prompt_definitions"]
