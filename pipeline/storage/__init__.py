"""The host's local disk: ledger, genome snapshots, result archive, event log, status file.

Owns: how data is written so that it stays readable after a crash. Not here: decisions about trials and workers.
"""
