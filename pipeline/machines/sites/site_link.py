"""How a host calls the process of a cluster that is a site."""

from typing import Protocol

CONNECTION_ENDED = "its connection has ended"  #: also that of calls that `SiteLink.reset` has ended


class SiteUnavailable(Exception):
    """A site has not answered, or cannot; the message is one line. What it has done is unknown."""


class SiteRefused(SiteUnavailable):
    """A site has answered that it does not do it."""

    def __init__(self, reason: str, *, is_final: bool) -> None:
        super().__init__(reason)
        self.is_final = is_final  #: whether it refuses the same again until something is changed there


class SiteLink(Protocol):
    """The connection to one site. Any thread may call."""

    def call(self, message: bytes, timeout_s: float) -> object:
        """The site's answer to a message; its size and type are the caller's to check.

        Raises:
            SiteUnavailable: no answer within the time, or no site there.
        """

    def reset(self) -> None:
        """Ends all calls that wait, and looks for the site again: its process may be another one."""
