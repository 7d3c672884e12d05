"""Recipes: one runnable file per domain, all on one trainer class."""
