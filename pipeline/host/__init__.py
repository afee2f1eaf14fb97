"""The running host: start and stop, the control loop, timers, the poll schedule, the user's hook.

It decides what happens in one tick and in which order. What follows from an observation is decided in `pipeline.core`.
"""
