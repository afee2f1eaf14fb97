"""ZIP archives whose every field a test can choose, also those that no library writes."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

STORED, DEFLATED = 0, 8
UTF8, ENCRYPTED = 0x800, 0x1
REGULAR = 0o100644 << 16
# Source: PKWARE's APPNOTE, 4.3.7, 4.3.12 and 4.3.16.
_LOCAL, _CENTRAL, _END = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s4H2IH")
_EARLIEST = 0x21  #: 1980-01-01


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file of an archive. A field that is None has the value that is right."""

    name: bytes
    data: bytes = b""
    method: int = STORED
    flags: int = UTF8
    external: int = REGULAR
    declared_size: int | None = None  #: of the file, in both headers
    crc: int | None = None
    local_name: bytes | None = None  #: in the header before the data
    starts_at: int | None = None  #: where the directory says that its header is
    extra: bytes = b""

    def packed(self) -> bytes:
        """The bytes of its content as they are in the archive."""
        if self.method != DEFLATED:
            return self.data
        compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
        return compressor.compress(self.data) + compressor.flush()


def raw_zip(entries: Sequence[Entry], *, count: int | None = None, comment: bytes = b"") -> bytes:
    """An archive; `count` is the number of entries that its end says."""
    body, directory = bytearray(), bytearray()
    for entry in entries:
        packed, at = entry.packed(), len(body)
        crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
        size = len(entry.data) if entry.declared_size is None else entry.declared_size
        local_name = entry.name if entry.local_name is None else entry.local_name
        common = (20, entry.flags, entry.method, 0, _EARLIEST, crc, len(packed), size)
        body += _LOCAL.pack(b"PK\3\4", *common, len(local_name), 0) + local_name + packed
        starts_at = at if entry.starts_at is None else entry.starts_at
        lengths = (len(entry.name), len(entry.extra), 0, 0, 0, entry.external, starts_at)
        directory += _CENTRAL.pack(b"PK\1\2", 0x314, *common, *lengths) + entry.name + entry.extra
    said = min(len(entries), 0xFFFF) if count is None else count
    end = _END.pack(b"PK\5\6", 0, 0, said, said, len(directory), len(body), len(comment))
    return bytes(body + directory + end + comment)
