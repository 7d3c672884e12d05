"""How a run is told what to do: its flags, and the layers that they come from."""
