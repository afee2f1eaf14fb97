"""The running host: start and stop, the control loop, timers, the poll schedule, result tables, the user's hook.

Owns: what happens in one tick and in which order. Not here: what follows from an observation (`pipeline.core`).
"""
