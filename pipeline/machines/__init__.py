"""What workers run on: virtual machines and local agent processes.

Owns: how a recovery action is carried out. Not here: when one is due (`pipeline.core.recovery`).
"""
