"""The few kinds of field of which a trace is made, encoded as Protocol Buffers are (protobuf.dev/programming-guides/encoding)."""

from __future__ import annotations

import struct

__all__ = ["double", "fixed64", "length_delimited", "text", "uint", "varint"]

_VARINT, _FIXED64, _LENGTH = 0, 1, 2


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SMALL = [_encoded(value) for value in range(1 << 14)]  # nearly all lengths, ids and counts


def varint(value: int) -> bytes:
    """A whole number from 0 to 2**64 - 1, seven bits a byte."""
    return _SMALL[value] if value < 1 << 14 else _encoded(value)


def uint(field: int, value: int) -> bytes:
    """A field of a whole number, 0 or more (int32, int64, uint64, bool, enum)."""
    return varint(field << 3 | _VARINT) + varint(value)


def double(field: int, value: float) -> bytes:
    """A field of a double."""
    return varint(field << 3 | _FIXED64) + struct.pack("<d", value)


def fixed64(field: int, value: int) -> bytes:
    """A field of eight bytes."""
    return varint(field << 3 | _FIXED64) + struct.pack("<Q", value)


def length_delimited(field: int, content: bytes) -> bytes:
    """A field of bytes, or of a message that has been encoded."""
    return varint(field << 3 | _LENGTH) + varint(len(content)) + content


def text(field: int, value: str) -> bytes:
    """A field of a string."""
    return length_delimited(field, value.encode())
