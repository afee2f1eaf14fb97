"""What the operating system does for the agent and the host: process trees, locks, folder notifications, desktops.

It decides how an operating system is called on each platform. It knows nothing of shares or evaluations.
"""
