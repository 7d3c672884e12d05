"""How a run is told what to do: its flags, the layers that they come from, and what is secret among them."""
