"""What `scripts/report.py` is made of: `reading` -> `collect` -> `charts`, `trace_graph` -> `page`."""
