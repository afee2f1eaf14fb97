"""The tokens of a project, `state/tokens.json`: for programs that use it over HTTP. Secrets are stored hashed.

Owns: making and comparing secrets, and who may read the file. Several processes may read; one at a time changes it.
Not here: what a token may do (`core.access`).
"""

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
import sys
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct

from inbox_agent.system.atomic_file import flush_names, replacement, write_all
from inbox_agent.system.file_lock import AlreadyLocked, FileLock
from pipeline.core.access import TOKEN_NAME, AccessScope, TokenRecord, TokenState, token_state
from pipeline.errors import HostError, InputError, NotFoundError, ProjectBusyError, disk_errors
from pipeline.paths import ProjectPaths

VERSION = 1
TOKENS_MAX = 1000  #: of a project
SECRET_CHARS_MAX = 256  #: of what a client sends as a secret
_FILE_BYTES_MAX = 1024 * 1024
_SECRET_BYTES = 32


class _Version(Struct):
    version: int


class _Content(Struct, forbid_unknown_fields=True):
    version: int
    tokens: list[TokenRecord]


class TokenStore:
    """The tokens of one project. Any thread may call."""

    def __init__(self, paths: ProjectPaths) -> None:
        self._path, self._lock = paths.tokens, paths.tokens_lock
        self._seen: tuple[tuple[int, ...], tuple[TokenRecord, ...]] | None = None  #: the file as it was read last

    def read(self) -> Sequence[TokenRecord]:
        """All tokens, in the order in which they were made. A file that has not changed is not read again.

        Raises:
            InputError: the file is damaged, of another version, or others may read or write it.
            HostError: it cannot be read.
        """
        try:
            seen = self._seen
            if seen is not None and seen[0] == _stamp(os.stat(self._path)):
                return seen[1]
            with open(self._path, "rb") as file:
                info = os.fstat(file.fileno())
                self._refuse_unsafe(info)
                data = file.read(_FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise HostError(f"{self._path}: {error.strerror}") from error
        tokens = self._decoded(data)
        self._seen = _stamp(info), tokens
        return tokens

    def find(self, secret: str) -> TokenRecord | None:
        """The token with this secret, in whatever state; None: there is none. Raises as `read`.

        The time that it takes does not depend on how much of a secret is right.
        """
        digest, found = _digest(secret[:SECRET_CHARS_MAX]), None
        for token in self.read():
            if hmac.compare_digest(token.sha256, digest):
                found = token
        return found if len(secret) <= SECRET_CHARS_MAX else None

    def make(self, name: str, scope: AccessScope, now: float, lasts_s: float | None) -> str:
        """Makes a token, and returns its secret, which is not stored. A name can be used again after its token.

        Raises:
            InputError: the name cannot be used, or there are too many tokens; as `read`.
            HostError: the file cannot be written.
            ProjectBusyError: another process changes the tokens.
        """
        if not TOKEN_NAME.fullmatch(name):
            raise InputError(f"token {name!r}: expected 1 to 64 letters, digits and ._- for its name, e.g. ci-runner")
        with self._changing():
            others = [token for token in self.read() if token.name != name]
            same = [token for token in self.read() if token.name == name]
            if any(token_state(token, now) is TokenState.VALID for token in same):
                raise InputError(f"token {name}: there is one; choose another name, or `pipeline token revoke {name}`")
            if len(others) >= TOKENS_MAX:
                raise InputError(f"there are {len(others)} tokens, which is the limit; use the name of a revoked one")
            secret = secrets.token_urlsafe(_SECRET_BYTES)
            expires_at = None if lasts_s is None else now + lasts_s
            made = TokenRecord(
                name=name, scope=scope, sha256=_digest(secret), made_at=now, expires_at=expires_at, is_revoked=False
            )
            self._write([*others, made])
        return secret

    def revoke(self, name: str) -> None:
        """Makes a token useless; servers that run notice at their next request.

        Raises:
            NotFoundError: there is no such token.
            HostError, InputError, ProjectBusyError: as `make`.
        """
        with self._changing():
            tokens = self.read()
            if all(token.name != name for token in tokens):
                raise NotFoundError(f"token {name!r}: there is none; `pipeline token list` shows all")
            self._write(
                [msgspec.structs.replace(token, is_revoked=True) if token.name == name else token for token in tokens]
            )

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        try:
            with disk_errors(self._lock):
                lock = FileLock(self._lock)
        except AlreadyLocked as error:
            raise ProjectBusyError(f"another `pipeline token` is at work here: {error}; wait for it") from error
        try:
            yield
        finally:
            lock.release()

    def _decoded(self, data: bytes) -> tuple[TokenRecord, ...]:
        if len(data) > _FILE_BYTES_MAX:
            raise InputError(
                f"{self._path}: has more than {_FILE_BYTES_MAX} bytes; remove it, and make the tokens again"
            )
        try:
            version = msgspec.json.decode(data, type=_Version).version
            if version != VERSION:
                reason = f"is of version {version}, this program knows {VERSION}; use the program that wrote it"
                raise InputError(f"{self._path}: {reason}")
            return tuple(msgspec.json.decode(data, type=_Content).tokens)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            reason = f"{self._path}: is damaged: {error}; remove it, and make the tokens again"
            raise InputError(reason) from error

    def _refuse_unsafe(self, info: os.stat_result) -> None:
        """Refuses a file by which another user could give itself a token; on Windows rights are in an ACL."""
        if sys.platform != "win32" and info.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InputError(f"{self._path}: others may read or write it; `chmod 600 {self._path}`")

    def _write(self, tokens: list[TokenRecord]) -> None:
        data = msgspec.json.format(msgspec.json.encode(_Content(VERSION, tokens)))
        with disk_errors(self._path), replacement(self._path) as file:
            if sys.platform != "win32":
                os.fchmod(file.fileno(), 0o600)  # before there is anything to read
            write_all(file.fileno(), data)
            os.fsync(file.fileno())
        with disk_errors(self._path):
            flush_names(self._path.parent)  # a revoked token must not come back with the power


def _stamp(info: os.stat_result) -> tuple[int, ...]:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_mode


def _digest(secret: str) -> str:
    """A plain hash is enough: the secret has 256 random bits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
