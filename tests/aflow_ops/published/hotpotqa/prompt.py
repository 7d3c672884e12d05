# prompts of the workflow beside this file
SOLVE_PROMPT = """
Think of $5 {braces}, step by step.
"""
