"""The parts of `scripts/study_learning.py` and `scripts/study_replay.py`: settings, rows, pages."""
