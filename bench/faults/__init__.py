"""One genome of forty misbehaves: what a program gets from the farm, and from other tools. `python -m bench.faults`."""
