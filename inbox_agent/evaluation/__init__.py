"""Runs one evaluation at a time: a command, or a function in a worker process, with time limit and scratch folder.

It decides what counts as an answer. It knows nothing of shares beyond the limits of `inbox_agent.protocol.layout`.
"""
