"""The agent that plays genomes: it watches one share, runs the evaluator and writes what came out.

It runs unchanged in a VM, on a bare machine and as a local process of the host. It knows the share's layout and
nothing of the host that fills it.
"""
