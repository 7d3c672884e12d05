"""The executor: the frozen LLM that answers inside the operators."""
