"""What runs inside the sandbox: one program of several files, read as text by `launch.py`; not imported."""
