"""The content of genomes and evaluators on a site, by digest. What is missing is sent again: anything may be removed.

Threads: any may call.
"""

import contextlib
import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

STORE_BYTES_MAX = 4 * 1024**3  #: what was not used for longest is removed beyond that
USED_AGAIN_S = 600.0  #: what was used within this time is not removed


class ContentError(ValueError):
    """Content cannot be stored; the message is one line."""


class ContentStore:
    """Files named by the SHA-256 of their content."""

    def __init__(self, folder: Path, bytes_max: int = STORE_BYTES_MAX) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._bytes_max = folder, bytes_max
        self._lock = threading.Lock()
        for part in folder.glob("*.part"):
            part.unlink(missing_ok=True)
        self._bytes = sum(size for _path, _used, size in self._files())

    def path(self, sha256: str) -> Path:
        """Where the content with this digest is, if it is there."""
        return self._folder / sha256

    def has(self, sha256: str) -> bool:
        """Whether it is there; if so, it counts as used now."""
        try:
            os.utime(self.path(sha256))
        except OSError:
            return False
        return True

    def put(self, sha256: str, data: bytes) -> None:
        """Stores content. Raises ContentError: it has another digest. OSError."""
        self.put_part(sha256, 0, len(data), data)

    def put_part(self, sha256: str, offset: int, total_bytes: int, data: bytes) -> None:
        """Stores the next part of a content; the last one completes it.

        Raises:
            ContentError: a part is missing or too long, or the whole has another digest; it begins anew.
            OSError: the disk refuses.
        """
        part = self._folder / f"{sha256}.part"
        with self._lock:
            with part.open("wb" if offset == 0 else "ab") as file:
                there = file.tell()
                file.write(data)
            if there != offset or offset + len(data) > total_bytes or not (data or total_bytes == 0):
                part.unlink(missing_ok=True)
                raise ContentError(
                    f"content {sha256[:12]}: part {offset} does not follow the {there} bytes that are here"
                )
            if offset + len(data) < total_bytes:
                return
            with part.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != sha256:
                part.unlink(missing_ok=True)
                raise ContentError(f"content {sha256[:12]} has digest {digest[:12]}")
            part.replace(self.path(sha256))
            self._bytes += total_bytes
            if self._bytes > self._bytes_max:
                self._remove_oldest()

    def _remove_oldest(self) -> None:
        until = time.time() - USED_AGAIN_S
        for path, used, size in sorted(self._files(), key=lambda file: file[1]):
            if self._bytes <= self._bytes_max // 2 or used > until:
                break
            with contextlib.suppress(OSError):
                path.unlink()
                self._bytes -= size
        else:
            return
        if self._bytes > self._bytes_max:
            log.warning("%s has %d bytes, all of them in use", self._folder, self._bytes)

    def _files(self) -> Iterator[tuple[Path, float, int]]:
        for path in self._folder.iterdir():
            with contextlib.suppress(OSError):
                found = path.stat()
                yield path, found.st_mtime, found.st_size
