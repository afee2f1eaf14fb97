"""The agent that evaluates genomes: it watches one share, runs the evaluator and publishes the results.

Runs unchanged in a VM, on a physical machine and as a local process of the host. It depends on the share's layout, not
on the host.
"""
