"""What workers run on: virtual machines and local agent processes.

It decides how a recovery action is carried out. When one is due is decided in `pipeline.core.recovery`.
"""
