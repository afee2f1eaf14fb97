"""Converts the hypervisor's screen pixels to PNG. Pure."""

import struct
import zlib


def png_of_rgb565(pixels: bytes, width: int, height: int) -> bytes:
    """A PNG of 16-bit pixels, rows from above. Source: PNG specification, 5 and 11.2.

    Raises:
        ValueError: the number of pixels is not `width` × `height`.
    """
    if len(pixels) != 2 * width * height:
        raise ValueError(f"{len(pixels)} bytes for {width} × {height} pixels")
    rows = bytearray()
    for number, (pixel,) in enumerate(struct.iter_unpack("<H", pixels)):
        if number % width == 0:
            rows.append(0)  # no filter
        red, green, blue = pixel >> 11, pixel >> 5 & 63, pixel & 31
        rows += bytes((red * 255 // 31, green * 255 // 63, blue * 255 // 31))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
