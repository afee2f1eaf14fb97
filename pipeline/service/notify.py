"""Tells systemd that a service of it has started, and that it is alive (sd_notify(3)). Elsewhere it does nothing."""

import os
import socket

READY, ALIVE, STOPPING = b"READY=1", b"WATCHDOG=1", b"STOPPING=1"


def notify(state: bytes) -> None:
    """Sends a state to the manager that started this process, if it asked for it. It is never waited for."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
        return
    if address.startswith("@"):  # Linux's abstract names begin with a zero byte
        address = f"\0{address[1:]}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sending:
            sending.sendto(state, address)
    except OSError:  # the manager is busy or gone: the next sign of life may arrive
        pass
