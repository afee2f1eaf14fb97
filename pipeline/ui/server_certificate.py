"""The certificate of a server, which may be renewed while it runs.

Owns: which files are accepted, and when a connection gets the certificate of newer files. Files that cannot be used
change nothing: the certificate before them stays.
Threads: `look` and all handshakes belong to the server's event loop.
"""

import logging
import os
import ssl
import stat
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError

log = logging.getLogger(__name__)

RENEWAL_LOOK_S = 2.0  #: between two looks at the files; those that two looks have found alike are read


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate with those between it and its authority, and its key: PEM files."""

    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Reads both. Raises InputError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if sys.platform != "win32" and os.stat(self.key).st_mode & stat.S_IRWXO:
                raise InputError(f"--tls-key {self.key}: every user may read it; `chmod 600 {self.key}`")
            context.load_cert_chain(self.certificate, self.key, password=lambda: b"")
        except ssl.SSLError as error:
            reason = error.reason or "no PEM file, or the key has a password"
            raise InputError(f"--tls-cert {self.certificate} and --tls-key {self.key}: {reason}") from error
        except OSError as error:
            raise InputError(f"{error.filename or self.certificate}: {error.strerror}; name PEM files") from error
        return context

    def stamps(self) -> tuple[object, ...]:
        """Other ones when a file was replaced or written; also of a file that is missing."""
        return _stamp(self.certificate), _stamp(self.key)


class ServerCertificate:
    """The certificate that new connections get."""

    def __init__(self, files: TlsFiles) -> None:
        """Reads the files. Raises InputError: they cannot be used."""
        self._files = files
        self._read = self._seen = files.stamps()
        self._current = self.context = files.context()
        self.context.sni_callback = self._choose  # is also called for a client that names no server
        self._look_at = time.monotonic() + RENEWAL_LOOK_S

    def look(self) -> None:
        """Reads files that have changed, from time to time. May be called often."""
        if (now := time.monotonic()) < self._look_at:
            return
        self._look_at = now + RENEWAL_LOOK_S
        before, self._seen = self._seen, self._files.stamps()
        if self._seen == self._read or self._seen != before:  # in the second case they may still be written
            return
        self._read = self._seen
        try:
            self._current = self._files.context()
        except InputError as error:
            log.warning("the new certificate cannot be used, the one before it stays: %s", error)
        else:
            log.info("new connections get the certificate of %s as it is now", self._files.certificate)

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current


def _stamp(path: Path) -> object:
    try:
        info = os.stat(path)
    except OSError as error:
        return error.errno
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_mode
