"""The token of a client: given as it is, or as a reference to where it is kept. It is never shown."""

import re
from pathlib import Path

from pipeline.errors import InputError
from pipeline.secrets import FORMS, REFERENCE, fetch_secret

TOKEN_CHARS_MAX = 4096


def checked_token(given: object, folder: Path) -> str:
    """The token of `connect`; empty if there is none. Paths are relative to `folder`. No message has the token.

    Raises:
        SecretError: it cannot be fetched. InputError: no header can have it.
    """
    if not isinstance(given, str):
        raise InputError(f"token: expected a text, or {FORMS}; found {type(given).__name__}")
    token = fetch_secret(given, folder) if re.fullmatch(REFERENCE, given) else given
    if len(token) > TOKEN_CHARS_MAX or not re.fullmatch(r"[\x21-\x7e]*", token):
        raise InputError("token: it has characters that no token has; give it as `pipeline token` has printed it")
    return token
