"""The workflow language: find a workflow in a completion, check it, repair what is unambiguous."""
