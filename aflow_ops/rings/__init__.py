"""The two interpreters of workflow code, and what is the same for both: the door, the limits, the deadline, the trace.

`first.py` is Monty: fast to start, and a part of Python. `second.py` is CPython in the sandbox: slower to start, and
all of Python. `choice.py` says from the source which one a workflow needs; `make bench` has what both cost.
"""
