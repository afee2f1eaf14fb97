"""The URLs of servers: which are refused, and the paths of requests. No I/O."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit

from pipeline.errors import InputError

_SCHEMES = {"http": 80, "https": 443}
_LOCAL = "localhost"


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """The URL of a server, without a slash at its end."""

    text: str
    is_encrypted: bool

    def __str__(self) -> str:
        return self.text

    def at(self, *parts: object, query: Mapping[str, object] | None = None) -> str:
        """The URL of a resource; each part is one step of its path."""
        path = "/".join(quote(str(part), safe="") for part in ("v1", *parts))
        return f"{self.text}/{path}" + (f"?{urlencode(query)}" if query else "")


def server_url(given: object) -> ServerUrl:
    """A URL of `connect`. Raises InputError; the message has no user or password of it."""
    if not isinstance(given, str):
        raise InputError(f"url: expected a text such as https://farm.example:8765, found {type(given).__name__}")
    try:
        parts = urlsplit(given)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InputError(f"url: {error}; give one such as https://farm.example:8765") from None
    if not given.isascii() or not given.isprintable() or " " in given:
        raise InputError("url: it has characters that no URL has; give one such as https://farm.example:8765")
    if parts.username is not None or parts.password is not None:
        raise InputError(f"url of {host}: a user or password does not belong into it; give the token as `token`")
    if parts.scheme not in _SCHEMES or not host:
        raise InputError(f"url {given!r:.200}: give one such as https://farm.example:8765")
    if parts.query or parts.fragment:
        raise InputError(f"url {given!r:.200}: leave out what follows ? or #")
    if parts.scheme == "http" and not _is_loopback(host):
        reason = "http sends the token in clear text"
        raise InputError(f"url {given!r:.200}: {reason}; use https, or forward a port of this computer")
    shown = f"[{host}]" if ":" in host else host
    return ServerUrl(
        f"{parts.scheme}://{shown}:{port or _SCHEMES[parts.scheme]}{parts.path.rstrip('/')}", parts.scheme == "https"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == _LOCAL
