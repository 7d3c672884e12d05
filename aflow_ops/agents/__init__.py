"""Agents: episodes, roles and the tools that agents use."""
