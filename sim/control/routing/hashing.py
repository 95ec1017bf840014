"""The hash functions that real load balancers place hosts and keys with: xxHash64 and MurmurHash2 (64 bit).

Sources: github.com/Cyan4973/xxHash (specification), Austin Appleby's MurmurHash64A as Envoy and libstdc++ use it. Plain Python: for
the points of a ring and for keys, not for bulk data.
"""

from __future__ import annotations

__all__ = ["murmur_hash2", "xxhash64"]

_MASK = (1 << 64) - 1
_P1, _P2, _P3, _P4, _P5 = (
    11400714785074694791,
    14029467366897019727,
    1609587929392839161,
    9650029242287828579,
    2870177450012600261,
)


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & _MASK


def _round(lane: int, word: int) -> int:
    return _rotate((lane + word * _P2) & _MASK, 31) * _P1 & _MASK


def xxhash64(data: bytes, seed: int = 0) -> int:
    """xxHash64 of ``data``: an unsigned 64-bit integer."""
    size, at = len(data), 0
    if size >= 32:
        lanes = [(seed + _P1 + _P2) & _MASK, (seed + _P2) & _MASK, seed & _MASK, (seed - _P1) & _MASK]
        while at <= size - 32:
            for i in range(4):
                lanes[i] = _round(lanes[i], int.from_bytes(data[at : at + 8], "little"))
                at += 8
        h = sum(_rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True)) & _MASK
        for lane in lanes:
            h = ((h ^ _round(0, lane)) * _P1 + _P4) & _MASK
    else:
        h = (seed + _P5) & _MASK
    h = (h + size) & _MASK
    while at <= size - 8:
        h = (_rotate(h ^ _round(0, int.from_bytes(data[at : at + 8], "little")), 27) * _P1 + _P4) & _MASK
        at += 8
    if at <= size - 4:
        h = (_rotate(h ^ (int.from_bytes(data[at : at + 4], "little") * _P1 & _MASK), 23) * _P2 + _P3) & _MASK
        at += 4
    for byte in data[at:]:
        h = _rotate(h ^ (byte * _P5 & _MASK), 11) * _P1 & _MASK
    h = (h ^ (h >> 33)) * _P2 & _MASK
    h = (h ^ (h >> 29)) * _P3 & _MASK
    return h ^ (h >> 32)


def murmur_hash2(data: bytes, seed: int = 0xC70F6907) -> int:
    """MurmurHash64A of ``data``; the seed is that of libstdc++'s std::hash, which Envoy uses for its rings."""
    multiplier = 0xC6A4A7935BD1E995
    h = (seed ^ (len(data) * multiplier)) & _MASK
    whole = len(data) & ~7
    for at in range(0, whole, 8):
        k = int.from_bytes(data[at : at + 8], "little") * multiplier & _MASK
        k = (k ^ (k >> 47)) * multiplier & _MASK
        h = (h ^ k) * multiplier & _MASK
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * multiplier & _MASK
    h = (h ^ (h >> 47)) * multiplier & _MASK
    return h ^ (h >> 47)
