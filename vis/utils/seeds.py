"""Seeds of random numbers, without touching any global state."""

import secrets


def fresh_seed(seed) -> int:
    """Returns the seed, or a new one for `None`."""
    return secrets.randbits(63) if seed is None else seed
