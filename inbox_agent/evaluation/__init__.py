"""Runs one evaluation at a time: a command, or a function in a worker process, with time limit and scratch folder.

Owns: what counts as an answer.
Not here: shares, except for the limits of `inbox_agent.protocol.layout`.
"""
