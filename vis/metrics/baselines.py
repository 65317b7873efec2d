"""Maps that know nothing of the network, to compare with: random ones, the edges of the input, its middle."""

from __future__ import annotations

import numpy as np


def random_maps(maps: np.ndarray, count: int, seed: int, kept: np.ndarray, has_order: bool) -> np.ndarray:
    """Returns random maps, each of which has the spatial spectrum of the map that it stands beside.

    So they are as coarse or as fine, and only the places are random: the phases of the Fourier transform. Where
    positions have no neighbours, as the columns of a table, or some do not count, the values are shuffled.

    Args:
        maps: `(N, *spatial)`.
        count: How many for each.
        seed: Seed; a sample gets the same random numbers in every call.
        kept: Which positions count, `(N, *spatial)`.
        has_order: Whether positions that follow one another are neighbours.

    Returns:
        float32 `(count, N, *spatial)`.

    Examples:
        >>> x = np.arange(8.0)[None]
        >>> found = random_maps(x, 1, 0, np.ones((1, 8), bool), True)[0]
        >>> np.allclose(np.abs(np.fft.fft(found)), np.abs(np.fft.fft(x)), atol=1e-3)
        True
    """
    found = np.empty((count, *maps.shape), "float32")
    for i, (values, counts) in enumerate(zip(maps, kept)):
        sizes = _spectrum(values)
        for k in range(count):
            draw = np.random.default_rng([seed, i, k])
            if has_order and counts.all():
                found[k, i] = _with_other_phases(sizes, values, draw)
            else:
                found[k, i] = values
                found[k, i][counts] = draw.permutation(values[counts])
    return found


def _spectrum(values):
    """Returns how strong each frequency of a map is."""
    from scipy import fft  # slow to import

    return np.abs(fft.rfftn(values))


def _with_other_phases(sizes, values, draw):
    """Returns a map of the same spectrum as another, with the phases of white noise; the mean stays."""
    from scipy import fft

    noise = fft.rfftn(draw.standard_normal(values.shape, "float32"))
    strength = np.abs(noise)
    changed = noise * np.divide(sizes, strength, out=np.zeros_like(sizes), where=strength > 0)
    changed.flat[0] = values.sum()
    return fft.irfftn(changed, values.shape)


def edge_maps(values: np.ndarray, rank: int) -> np.ndarray | None:
    """Returns how fast inputs change at each position: the length of the Sobel gradient, summed over channels.

    Args:
        values: `(N, *spatial)` or `(N, *spatial, channels)`.
        rank: The number of spatial axes.

    Returns:
        float32 `(N, *spatial)`; `None` where positions are no neighbours of one another.

    Examples:
        >>> edge_maps(np.array([[[0.0], [0], [1], [1]]]), 1).tolist()
        [[0.0, 1.0, 1.0, 0.0]]
    """
    if values.dtype.kind != "f" or values.ndim < 3:
        return None
    from scipy import ndimage  # slow to import

    channels = values.reshape(*values.shape[: rank + 1], -1)
    found = np.zeros(channels.shape[:-1])
    for i, sample in enumerate(channels):
        for c in range(sample.shape[-1]):
            one = sample[..., c].astype("float64")
            parts = [ndimage.sobel(one, axis, mode="nearest") for axis in range(rank)]
            found[i] += np.sqrt(sum(part**2 for part in parts))
    return found.astype("float32")


def centre_maps(shape: tuple, count: int) -> np.ndarray:
    """Returns Gaussians around the middle, a quarter of each axis wide, `(count, *shape)`.

    Examples:
        >>> centre_maps((3,), 1).round(2).astype(str).tolist()
        [['0.41', '1.0', '0.41']]
    """
    axes = [((np.arange(size) - (size - 1) / 2) / (size / 4)) ** 2 for size in shape]
    squares = sum(np.meshgrid(*axes, indexing="ij"))
    return np.repeat(np.exp(-squares / 2).astype("float32")[None], count, axis=0)
