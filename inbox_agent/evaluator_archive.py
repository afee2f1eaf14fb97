"""Archives of an evaluator's files: the host packs them, the agent unpacks them. The same rules hold on both sides.

Owns: which files an archive may have, and what is refused. An archive comes from a share and is treated as hostile: its
names and sizes are checked before anything is written, and what is unpacked is counted as it comes out.
Not here: which files an evaluator has (inbox_agent.evaluator_files).
"""

import hashlib
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from inbox_agent.evaluation.version import printable
from inbox_agent.protocol.layout import ARCHIVE_BYTES_MAX, FILES_MAX, RESERVED_NAME
from inbox_agent.system.file_kind import is_link

PATH_CHARS_MAX = 180  #: Windows' limit is 260, with the folder
_TIME = (1980, 1, 1, 0, 0, 0)  #: the earliest that a zip can have: equal files make equal archives
_CHUNK_BYTES = 1024 * 1024
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1  #: Source: PKWARE's APPNOTE, 4.4.4
# Source: PKWARE's APPNOTE, 4.3.15 and 4.3.16.
_END, _END_MARK, _ZIP64_BYTES, _ZIP64_MARK = struct.Struct("<4s4H2IH"), b"PK\5\6", 20, b"PK\6\7"
DIRECTORY_BYTES_MAX = 1024  #: of one file: its path, and the fields that other programs add
_HEADER_BYTES = 30  #: before the path and content of a file
# Source: "Naming Files, Paths, and Namespaces" of Microsoft's documentation.
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')
#: Devices that no name of an artifact can have, which is ASCII without signs.
_DEVICE = re.compile(r"(conin\$|conout\$|(com|lpt)[\u00b9\u00b2\u00b3])(\..*)?", re.IGNORECASE)


class ArchiveError(ValueError):
    """Files cannot be packed, or an archive cannot be unpacked; the message is one line without the archive's name."""


def path_problem(path: str) -> str:
    """Why a path, with `/` between its parts, cannot be in an archive; empty if it can."""
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", path):
        return "lies outside of the folder"
    if not all(parts) or "." in parts or _FORBIDDEN.search(path):
        return "has a name that Windows does not allow"
    if any(part.endswith((".", " ")) or RESERVED_NAME.fullmatch(part) or _DEVICE.fullmatch(part) for part in parts):
        return "has a name that Windows does not allow"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "has a name that is no Unicode"
    return f"has a path of more than {PATH_CHARS_MAX} characters" if len(path) > PATH_CHARS_MAX else ""


def _require_paths(paths: Iterable[str]) -> None:
    known: dict[str, str] = {}
    folders: set[str] = set()
    for path in paths:
        if problem := path_problem(path):
            raise ArchiveError(f"{printable(path)} {problem}")
        if (other := known.setdefault(path.casefold(), path)) is not path:
            raise ArchiveError(f"{printable(other)} and {printable(path)} have the same name on Windows")
        folders.update(path.casefold().rsplit("/", n)[0] for n in range(1, path.count("/") + 1))
    if both := sorted(known.keys() & folders):
        raise ArchiveError(f"{printable(known[both[0]])} is a file and a folder")


def pack_evaluator(folder: Path, files: Mapping[str, str], archive: Path) -> None:
    """Writes an archive of the files in a folder. Equal files make equal archives.

    Args:
        files: path, with `/`, relative to the folder -> SHA-256, as of `EvaluatorFiles.read`.

    Raises:
        ArchiveError: there are no files, a path cannot be in an archive, a file is a link or has changed, or there is
            too much.
        OSError: the archive cannot be written, or a file cannot be read to its end.
    """
    if not files:
        raise ArchiveError("there are no files")
    _require_few(len(files))
    _require_paths(sorted(files))
    left_bytes = ARCHIVE_BYTES_MAX
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path, expected in sorted(files.items()):
            source = folder / path
            below = (part for part in (source, *source.parents) if part != folder and part.is_relative_to(folder))
            if any(map(_is_link, below)):
                raise ArchiveError(f"{printable(path)} is a link or behind one; put the file itself there")
            info = zipfile.ZipInfo(path, _TIME)
            info.compress_type, info.create_system = zipfile.ZIP_DEFLATED, 3  # the system of Unix, wherever it is made
            file, mode = _opened(source, path)
            is_program = bool(mode & stat.S_IXUSR) and os.name != "nt"
            info.external_attr = (stat.S_IFREG | (0o755 if is_program else 0o644)) << 16
            digest = hashlib.sha256()
            with file, packed.open(info, "w") as target:
                while chunk := file.read(min(_CHUNK_BYTES, left_bytes + 1)):
                    left_bytes -= len(chunk)
                    if left_bytes < 0:
                        raise ArchiveError(f"the files have more than {ARCHIVE_BYTES_MAX // 2**20} MiB")
                    digest.update(chunk)
                    target.write(chunk)
            if digest.hexdigest() != expected:
                raise ArchiveError(f"{printable(path)} changes while it is read; stop what writes it")


def _is_link(path: Path) -> bool:
    try:
        return is_link(os.lstat(path))
    except OSError:  # opening it says why
        return False


def _opened(source: Path, path: str) -> tuple[BinaryIO, int]:
    """A file that is to be packed, and its mode."""
    try:
        file = source.open("rb")
    except OSError as error:
        raise ArchiveError(f"{printable(path)} cannot be read: {error.strerror}") from error
    return file, os.fstat(file.fileno()).st_mode


def unpack_evaluator(archive: Path, folder: Path) -> None:
    """Unpacks an archive into a folder that does not exist yet.

    Raises:
        ArchiveError: it is no archive, it is damaged, or it has what no archive of `pack_evaluator` has. The folder may
            have some of its files.
        OSError: the folder cannot be written.
    """
    try:
        _require_few_in_directory(archive)
        with zipfile.ZipFile(archive) as packed:
            infos = packed.infolist()
            _require_few(len(infos))
            # As they are in the archive: `zipfile` cuts off a name at a null, and replaces a backslash on Windows.
            _require_paths(info.orig_filename for info in infos)
            for info in infos:
                _require_regular(info)
            _require_own_bytes(infos)
            if sum(info.file_size for info in infos) > ARCHIVE_BYTES_MAX:
                raise ArchiveError(f"its files have more than {ARCHIVE_BYTES_MAX // 2**20} MiB")
            folder.mkdir(parents=True)
            for info in infos:
                _unpack_file(packed, info, folder / info.filename)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(f"it is damaged: {error}") from error


def _require_few(count: int) -> None:
    if count > FILES_MAX:
        raise ArchiveError(f"there are more than {FILES_MAX} files")


def _require_few_in_directory(archive: Path) -> None:
    """Before the directory is read: `zipfile` makes an object of each entry, however many there are."""
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END.size - _ZIP64_BYTES))
        end = file.read()
    if len(end) < _END.size:
        raise ArchiveError("it is incomplete, or no archive")
    mark, _, _, _, count, directory_bytes, _, comment_bytes = _END.unpack(end[-_END.size :])
    if mark != _END_MARK or comment_bytes or end[: -_END.size].startswith(_ZIP64_MARK):
        raise ArchiveError("it is incomplete, or no archive, or one with a comment or with ZIP64")
    _require_few(count)
    if directory_bytes > count * DIRECTORY_BYTES_MAX:
        raise ArchiveError(f"its directory has more than {DIRECTORY_BYTES_MAX} bytes for each file")


def _require_own_bytes(infos: Iterable[zipfile.ZipInfo]) -> None:
    """No two files are made of the same bytes: `zipfile` checks this in later versions of Python only."""
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise ArchiveError(f"{printable(info.filename)} and another file share bytes")
        end = info.header_offset + _HEADER_BYTES + info.compress_size


def _require_regular(info: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG) or info.is_dir() or info.filename != info.orig_filename:
        raise ArchiveError(f"{printable(info.filename)} is no regular file")
    if info.flag_bits & _ENCRYPTED or info.compress_type not in _METHODS:
        raise ArchiveError(f"{printable(info.filename)} is encrypted, or compressed by another method")


def _unpack_file(packed: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    written_bytes = 0
    with packed.open(info) as source, open(target, "xb") as file:
        while chunk := source.read(_CHUNK_BYTES):
            file.write(chunk)
            written_bytes += len(chunk)
            if written_bytes > info.file_size:
                break
        file.flush()
        os.fsync(file.fileno())
    if written_bytes != info.file_size:
        raise ArchiveError(f"{printable(info.filename)} has another size than the archive says")
    if os.name != "nt" and (info.external_attr >> 16) & stat.S_IXUSR:
        target.chmod(0o755)
