"""Maps as text, as fine as there is room for; `page.js` reads them back.

The values of a map become whole numbers, levels of equal steps, and 0 stays 0 exactly. Of smooth maps the differences
between neighbours are kept instead, along both axes, as they are smaller. Then come deflate and base64.
"""

from __future__ import annotations

import base64
import dataclasses
import zlib
from collections.abc import Sequence

import numpy as np

FINEST = 2**15 - 1  # levels on each side of the origin: what 16 bits hold
COARSEST = 3
_LEAST_STEP = 0.25  # bits that each attempt saves at least


@dataclasses.dataclass(frozen=True)
class Packed:
    """One map: the value at a position is `origin + step * level`.

    Attributes:
        text: Base64 of the deflated levels: first the low bytes of all, then the high ones.
        origin: The value of level 0: 0 where the map's range holds it, else the end of the range next to it.
        step: From one level to the next. What is read back is wrong by half of it at most. 0 for a flat map.
        order: 1 if the text holds differences along both axes, 0 if the levels themselves.
    """

    text: str
    origin: float
    step: float
    order: int


def pack_within(maps: Sequence[np.ndarray], most: int) -> list[Packed]:
    """Returns maps as text, all with the same number of levels: the finest whose texts fit together.

    Args:
        maps: Arrays `(H, W)` of finite numbers.
        most: Characters that all texts together may have. Where not even the coarsest levels fit, those are taken.

    Returns:
        One for each map.

    Examples:
        >>> packed = pack_within([np.array([[0.0, 0.5], [1.0, -1.0]])], most=100)
        >>> abs(packed[0].step - 1 / FINEST) < 1e-12
        True
    """
    values, levels = sum(one.size for one in maps), FINEST
    while True:
        packed = [pack(one, levels) for one in maps]
        over = sum(len(one.text) for one in packed) - most
        if over <= 0 or levels <= COARSEST:
            return packed
        bits = 6 * over / values  # a character holds 6; one bit less for each value saves no more than that
        levels = max(COARSEST, int(levels / 2 ** max(bits, _LEAST_STEP)))


def pack(values: np.ndarray, levels: int = FINEST) -> Packed:
    """Returns one map `(H, W)` as text, its strongest value at `levels`."""
    values = np.asarray(values, "float64")
    origin = float(np.clip(0, values.min(), values.max()))
    step = float(np.abs(values - origin).max()) / levels
    wholes = np.round((values - origin) / (step or 1)).astype("int16")
    choices = [wholes, _differences(wholes)]
    order = int(np.argmin([_cost(one) for one in choices]))
    return Packed(_text(choices[order]), origin, step, order)


def unpack(packed: Packed, shape: tuple[int, int]) -> np.ndarray:
    """Returns the map of a text, float64 of `shape`: what `page.js` does.

    Examples:
        >>> unpack(pack(np.array([[0.0, 2.0], [1.0, -2.0]])), (2, 2)).round(3).tolist()
        [[0.0, 2.0], [1.0, -2.0]]
    """
    low, high = np.frombuffer(zlib.decompress(base64.b64decode(packed.text)), "uint8").reshape(2, -1).astype("int32")
    folded = low | high << 8
    wholes = ((folded >> 1) ^ -(folded & 1)).reshape(shape)
    for axis in (0, 1) if packed.order else ():
        wholes = wholes.cumsum(axis)
    return packed.origin + packed.step * wholes.astype("int16")


def _differences(wholes):
    """Returns differences along both axes. They wrap around at 16 bits, and so do their sums: nothing is lost."""
    return np.diff(np.diff(wholes, axis=0, prepend=np.int16(0)), axis=1, prepend=np.int16(0))


def _cost(wholes):
    """Returns about how many bits the values take."""
    return np.log2(1 + np.abs(wholes.astype("float32"))).sum()


def _text(wholes):
    wide = wholes.astype("int32")
    folded = ((wide << 1) ^ (wide >> 15)).astype("uint16")  # 0, -1, 1, -2, ... become 0, 1, 2, 3, ...
    planes = np.concatenate([folded & 255, folded >> 8], axis=None).astype("uint8")
    deflater = zlib.compressobj(6, strategy=zlib.Z_FILTERED)
    return base64.b64encode(deflater.compress(planes.tobytes()) + deflater.flush()).decode()
