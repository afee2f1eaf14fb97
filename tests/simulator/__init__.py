"""A deterministic simulator of whole farms: the shipped tick, share client and agent loop in one thread, from one seed.

It replaces files (`disk`), the clock and notifications (`world`), ledger storage (`host`), evaluators and machines
(`machine`). Faults apply to single file operations. `ledger_checker` checks the committed facts independently.
"""
