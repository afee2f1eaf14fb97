"""Machines of a Hyper-V host: operations, script transports and PowerShell scripts.

The scripts in `scripts/` do the work; the Python modules call them and read their replies.
"""
