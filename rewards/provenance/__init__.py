"""Whose answer is it? What a workflow brings along earns it nothing: see `verdict.py`."""

from rewards.provenance.executors import Exchange, ListeningExecutor
from rewards.provenance.verdict import Provenance

__all__ = ["Exchange", "ListeningExecutor", "Provenance"]
