"""What `scripts/search.py` wires together: problems, runs, controls, results."""
