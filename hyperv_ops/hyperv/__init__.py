"""Machines of a Hyper-V host: the verbs, the way a script gets to a PowerShell, and the scripts.

The scripts in `scripts/` do the work; everything else here calls them and reads their replies.
"""
