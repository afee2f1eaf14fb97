"""Secret references of the configuration, and fetching the secret: from the keyring, the environment or a file.

Only the reference is ever written, shown or logged; the secret itself is not stored.
"""

import os
import re
import stat
import sys
from pathlib import Path

from inbox_agent.system.text_encoding import ENCODINGS, decode_text
from pipeline.errors import SecretError

REFERENCE = r"(keyring|env|file):[\s\S]+"  #: the form of a reference, as a regular expression
FORMS = "keyring:SERVICE/NAME, env:VARIABLE or file:PATH"
FILE_BYTES_MAX = 4096


def check_reference(reference: str) -> None:
    """Raises SecretError if the text is no reference. The message omits the text: it may be the password itself."""
    if not re.fullmatch(REFERENCE, reference):
        raise SecretError(f"secret: expected {FORMS}; a password itself never belongs into the configuration")


def fetch_secret(reference: str, root: Path) -> str:
    """The secret of a reference; file paths are relative to the project folder `root`. Empty if there is no reference.

    Raises:
        SecretError: there is none, it cannot be read, or others may read it.
    """
    if not reference:
        return ""
    check_reference(reference)
    kind, _, where = reference.partition(":")
    if kind == "keyring":
        return _from_keyring(where)
    return _from_environment(where) if kind == "env" else _from_file(root / where)


def _from_environment(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise SecretError(f"env:{name}: the environment variable {name} is not set")
    return value


def _from_keyring(where: str) -> str:
    import keyring
    from keyring.errors import KeyringError

    service, _, name = where.partition("/")
    try:
        value = keyring.get_password(service, name)
    except (KeyringError, RuntimeError, OSError) as error:  # it looks for its settings in the home folder
        raise SecretError(f"keyring:{where}: the keyring cannot be asked: {error}") from error
    if not value:
        raise SecretError(f"keyring:{where}: there is none; set it with `keyring set {service} {name}`")
    return value


def _from_file(path: Path) -> str:
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if reason := _unsafe(os.fstat(file.fileno()), path):
                raise SecretError(f"file:{path}: {reason}")
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise SecretError(f"file:{path}: {error.strerror}") from error
    if len(data) > FILE_BYTES_MAX:
        raise SecretError(f"file:{path}: it has more than {FILE_BYTES_MAX} bytes; put only the password there")
    try:
        text = decode_text(data).rstrip("\r\n")
    except UnicodeDecodeError:  # without the error, which has the password
        raise SecretError(f"file:{path}: it is not text in {ENCODINGS}; save it as UTF-8") from None
    if not text:
        raise SecretError(f"file:{path}: it is empty")
    if "\0" in text:
        raise SecretError(f"file:{path}: it has zero characters, or an unknown encoding; save it as UTF-8")
    return text


if sys.platform == "win32":
    _without_waiting = None

    def _unsafe(info: os.stat_result, path: Path) -> str:  # noqa: ARG001
        """Nothing: access rights are in an ACL, which the user sets (docs/how-to/smb.md)."""
        return ""

else:

    def _without_waiting(path: str, flags: int) -> int:
        """Opens a file; a pipe without a writer does not wait for one."""
        return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)

    def _unsafe(info: os.stat_result, path: Path) -> str:
        """Why a file is not believed to be a secret of this user."""
        if not stat.S_ISREG(info.st_mode):
            return "it is no regular file"
        if info.st_uid not in (os.geteuid(), 0):
            return f"it belongs to another user, number {info.st_uid}; `chown` it to the user who runs the pipeline"
        if info.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return f"others may read it; `chmod 600 {path}`"
        return ""
