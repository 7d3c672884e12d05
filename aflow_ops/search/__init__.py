"""Workflow search: AFlow's Monte Carlo tree search over workflows, in three pure parts: select, expand, evaluate.

The search knows nothing of rewards: it is handed a callable that runs one workflow on one problem. Its only state is a
list of nodes, kept in a file that is only ever appended to.
"""

from aflow_ops.search.node import Node, Sample, Spend, Validation

__all__ = ["Node", "Sample", "Spend", "Validation"]
