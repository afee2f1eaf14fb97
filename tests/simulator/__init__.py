"""A deterministic simulator of whole farms: the shipped tick, share edge and agent loop, in one thread, by one seed.

Replaced are files (`disk`), the clock and the doorbells (`world`), ledger storage (`host`), evaluators and machines
(`machine`). Faults strike single file operations. `verdict` checks from outside what the farm claims.
"""
