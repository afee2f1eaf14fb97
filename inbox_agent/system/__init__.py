"""Operating system services for agent and host: process trees, locks, folder notifications, desktops.

Owns: how each platform is called.
Not here: shares and evaluations.
"""
