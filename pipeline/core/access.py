"""Access by tokens: what a token may do, and until when. Pure.

Not here: secrets and the file of the records (`storage.token_store`), what a request needs (`http_api.endpoints`).
"""

import enum
import re
from typing import Annotated

from msgspec import Meta, Struct

#: The form of a token's name: it is shown in lists and in the audit log.
TOKEN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


class AccessScope(enum.StrEnum):
    """What a token may do. Each includes those before it."""

    READ = "read"  #: look on
    SUBMIT = "submit"  #: open generations, and submit, cancel and close
    CONTROL = "control"  #: stop a generation, open what failed again, and drain and restart workers

    def includes(self, other: "AccessScope") -> bool:
        """Whether this scope includes the other one."""
        scopes = list(AccessScope)
        return scopes.index(self) >= scopes.index(other)


class TokenRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is stored of a token: not its secret. Times are seconds of Unix time."""

    name: Annotated[str, Meta(pattern=f"^(?:{TOKEN_NAME.pattern})$")]
    scope: AccessScope
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]  #: of the secret
    made_at: float
    expires_at: float | None = None  #: None: it does not expire
    is_revoked: bool = False


class TokenState(enum.StrEnum):
    """Whether a token can be used."""

    VALID = "valid"
    EXPIRED = "expired"
    REVOKED = "revoked"


def token_state(token: TokenRecord, now: float) -> TokenState:
    """The state of a token at a time. A token is expired from `expires_at` on."""
    if token.is_revoked:
        return TokenState.REVOKED
    if token.expires_at is not None and now >= token.expires_at:
        return TokenState.EXPIRED
    return TokenState.VALID


def may(token: TokenRecord, wanted: AccessScope, now: float) -> bool:
    """Whether a token allows what needs the scope `wanted`, at a time."""
    return token_state(token, now) is TokenState.VALID and token.scope.includes(wanted)
