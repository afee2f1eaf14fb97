"""The rules of the farm. Pure: no I/O, clock, threads or randomness; time and observations are arguments.

facts → farm (their fold) → dispatcher (decide) → reconcile (plan); the rules are ownership, acceptance, deadlines,
recovery and assignment.
"""
