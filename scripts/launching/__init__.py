"""The parts of `scripts/launch_ray.py`."""
