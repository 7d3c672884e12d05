"""Policies: loading them, sampling from them, building tiny ones and warm-starting them."""
