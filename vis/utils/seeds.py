"""Seeds of random numbers, without touching any global state."""

import numpy as np


def fresh_seed(seed) -> int:
    """Returns the seed, or a new one for `None`."""
    return int(np.random.default_rng().integers(2**63)) if seed is None else seed
