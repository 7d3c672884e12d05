"""Rewards of the multi-agent recipes: what each agent's own part was worth, in [0, 1], as plain functions."""
