"""The host's local disk: ledger, genome snapshots, result archive, result tables, event log, status file.

It decides how data is written so that a crash leaves it readable. It makes no decision about trials or workers.
"""
