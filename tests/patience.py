"""How long a test waits for what only a fault would delay: no test passes or fails by the speed of the machine."""

# Seconds. Far more than the slowest machine needs; only something that hangs ever uses them up.
PATIENCE = 300.0
