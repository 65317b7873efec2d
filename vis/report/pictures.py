"""Pictures as text, and maps in colour."""

from __future__ import annotations

import base64
import io

import numpy as np

from vis.plotting import SIGNED, UNSIGNED

STRENGTH_COLOURS = (UNSIGNED, "viridis", "cividis", "gray")
SIGN_COLOURS = (SIGNED, "PuOr_r", "BrBG_r", "coolwarm")
PERCENTILE = 99  # of a map's strengths: where its colours end
_FAR = 0.2  # of the highest strength: the colours of maps whose lowest is no less begin there
MOST_EXACT, MOST_STILL = 16_000, 4_000  # bytes of a PNG file: of an image, and of what stands in for a drawn map
_QUALITY = 88


def data_address(picture: np.ndarray, most: int = MOST_EXACT) -> str:
    """Returns a picture as a `data:` address: a PNG file, or JPEG where that would be long, as for photographs.

    Args:
        picture: uint8 `(H, W, 3)`.
        most: Bytes that a PNG file may have.

    Examples:
        >>> data_address(np.zeros((2, 2, 3), "uint8"))[:22]
        'data:image/png;base64,'
    """
    kind, content = "png", _file(picture, "png")
    if len(content) > most:
        kind, content = "jpeg", _file(picture, "jpeg", quality=_QUALITY)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _file(picture, kind, **options):
    from PIL import Image  # only where pictures are made

    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, **options)
    return file.getvalue()


def shrunk(picture: np.ndarray, share: float) -> np.ndarray:
    """Returns a picture with sides of a share of its own, at least one pixel each; itself for a share of 1 or more."""
    from PIL import Image

    if share >= 1:
        return picture
    size = [max(1, round(side * share)) for side in picture.shape[1::-1]]
    return np.asarray(Image.fromarray(picture).resize((size[0], size[1]), Image.Resampling.LANCZOS))


def colour_table(name: str) -> np.ndarray:
    """Returns the 256 colours of a Matplotlib colour map, uint8 `(256, 3)`.

    Examples:
        >>> colour_table("gray")[[0, 128, 255], 0].tolist()
        [0, 128, 255]
    """
    import matplotlib

    return np.round(255 * matplotlib.colormaps[name](np.arange(256))[:, :3]).astype("uint8")


def colour_range(values: np.ndarray, signed: bool) -> tuple[float, float]:
    """Returns the values of a map `(H, W)` that the first and the last colour stand for.

    They are 0 and the 99th percentile of its strengths, or its largest strength where that is 0. Signed maps begin at
    the negative of it, so that 0 is in the middle; those of one sign, all of it far from 0, at their lowest value.

    Examples:
        >>> colour_range(np.array([[0.0, 2.0]]), signed=True), colour_range(np.zeros((1, 2)), signed=False)
        ((-1.98, 1.98), (0.0, 1.0))
    """
    strengths = np.abs(values).astype("float64")
    high = float(np.percentile(strengths, PERCENTILE)) or float(strengths.max()) or 1.0
    if signed:
        return -high, high
    low = float(strengths.min())
    return (low, high) if _FAR * high <= low < high else (0.0, high)


def coloured(values: np.ndarray, ends: tuple[float, float], table: np.ndarray) -> np.ndarray:
    """Returns a map `(H, W)` in colours, uint8 `(H, W, 3)`: of the table `(256, 3)`, whose ends stand for `ends`."""
    share = (values.astype("float64") - ends[0]) / (ends[1] - ends[0])
    return table[np.floor(255 * np.clip(share, 0, 1) + 0.5).astype("int64")]


def blended(picture: np.ndarray, colours: np.ndarray, opacity: float) -> np.ndarray:
    """Returns colours over a picture, both uint8 `(H, W, 3)`; `opacity` is the share of the colours, in [0, 1]."""
    return np.round(opacity * colours + (1 - opacity) * picture.astype("float32")).astype("uint8")
