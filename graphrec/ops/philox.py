"""The random numbers of `kernels/include/graphrec_random.h` in NumPy, bit for bit: what the native samplers draw from.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", Philox-4x32 with 10 rounds.
"""

from __future__ import annotations

import numpy as np

_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_LEFT, _RIGHT = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_RACE = (3098164009, -1549081885, 1032715517, -774429133, 618503401, -509487422, 415261078, -312350831, 196742375)
_RACE = (*_RACE, -92325728, 27652981, -3880714)


def philox(seed: int, low: np.ndarray, high: np.ndarray | int) -> np.ndarray:
    """Four random words for each counter (low, high).

    Args:
        seed: taken modulo 2^64.
        low, high: uint64 (n,), the halves of 128-bit counters.

    Returns:
        uint64 (4, n), each in 0 … 2^32 - 1.
    """
    low = np.asarray(low, dtype=np.uint64)
    high = np.broadcast_to(np.asarray(high, dtype=np.uint64), low.shape)
    a, b, c, d = low & _LOW, low >> _32, high & _LOW, high >> _32
    first, second = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF
    for _ in range(10):
        left, right = _LEFT * a, _RIGHT * c
        a, b = right >> _32 ^ b ^ np.uint64(first), right & _LOW
        c, d = left >> _32 ^ d ^ np.uint64(second), left & _LOW
        first, second = first + 0x9E3779B9 & 0xFFFFFFFF, second + 0xBB67AE85 & 0xFFFFFFFF
    return np.stack([a, b, c, d])


def counters(offset: int, count: int) -> np.ndarray:
    """The low counters of `count` entries from `offset` on: uint64 (count,)."""
    return np.uint64(offset) + np.arange(count, dtype=np.uint64)


def below(words: np.ndarray, bounds: np.ndarray | int) -> np.ndarray:
    """Numbers in 0 … bounds - 1, int64, from words in 0 … 2^32 - 1."""
    return (words * np.asarray(bounds, dtype=np.uint64) >> _32).astype(np.int64)


def unit(words: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1) with 24 random bits: float32."""
    return (words >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)


def race(words: np.ndarray) -> np.ndarray:
    """-log2(u) · 2^31 of u = (word + 1/2) / 2^32, int64, at least 1; the smallest race / weight wins in proportion to weight."""
    odd = 2 * words.astype(np.int64) + 1
    exponent = np.frexp(odd.astype(np.float64))[1].astype(np.int64) - 1
    x = odd << (33 - exponent) >> 2 & 0x7FFFFFFF
    total = np.full_like(x, _RACE[-1])
    for coefficient in _RACE[-2::-1]:
        total = coefficient + (total * x >> 31)
    return np.maximum((33 - exponent << 31) - (total * x >> 31), 1)
