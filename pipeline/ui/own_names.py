"""Under which names a server of this computer may be asked, and from which sites: against DNS rebinding and cross-site
requests.
"""

import contextlib
import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach an address."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def url_host(host: str) -> str:
    """The host part of the URL for a listening address."""
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            return socket.gethostname()
        return f"[{host}]" if address.version == 6 else host
    return host


def is_own_name(name: str, host: str, others: Collection[str] = ()) -> bool:
    """Whether a name in a request means this server, which listens on the address `host`: no other site's does.

    Such a name may resolve to this computer (DNS rebinding). An address is not resolved at all.

    Args:
        others: further names of this computer.
    """
    if not name:
        return False
    if name in ("localhost", "127.0.0.1", "::1", host.lower()) or name in {other.lower() for other in others}:
        return True
    if is_loopback(host):
        return False
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    own = socket.gethostname().lower().partition(".")[0]
    return name.partition(".")[0] == own  # also with a domain


def name_in(header: str | None) -> str:
    """The name in a Host header, in lower case and without the port; empty if there is none."""
    with contextlib.suppress(ValueError):
        return urlsplit(f"//{header or ''}").hostname or ""
    return ""


def is_same_origin(origin: str | None, scheme: str, host_header: str | None, fetch_site: str | None) -> bool:
    """Whether a request does not come from a page of another site. A program that is no browser says nothing of it."""
    if fetch_site is not None and fetch_site.lower() not in ("same-origin", "none"):
        return False
    return origin is None or origin.lower() == f"{scheme}://{host_header or ''}".lower()


def bearer_in(header: str | None) -> str | None:
    """The token in an Authorization header; None if there is none."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
