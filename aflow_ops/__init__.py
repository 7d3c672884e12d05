"""The workflow language, its runtime, the operators, the executor and the sandboxes."""
