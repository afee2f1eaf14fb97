"""The rules of the farm. Pure: no I/O, no clock, no threads, no dice; `now` and everything seen are arguments.

facts → farm (their fold) → dispatcher (decide) → reconcile (plan), with ownership, acceptance, deadlines and recovery
as its rules.
"""
