"""Half-lives in integers: 2^(-age / half-life) from a table of square roots, so that every machine gets the same
bits."""

from math import isqrt

BITS = 32
ONE = 1 << BITS
_STEPS = 16


def _roots() -> tuple[int, ...]:
    """2^(-1/2), 2^(-1/4), 2^(-1/8) … in fixed point, each the root of the one before."""
    roots, value = [], ONE >> 1
    for _ in range(_STEPS):
        value = isqrt(value << BITS)
        roots.append(value)
    return tuple(roots)


_ROOTS = _roots()


def fading(age_s: int, half_life_s: int) -> int:
    """2^(-age / half-life) as a part of ONE. No half-life: nothing of the past remains."""
    if age_s <= 0:
        return ONE
    if half_life_s <= 0:
        return 0
    halvings, rest = divmod(age_s, half_life_s)
    if halvings >= BITS:
        return 0
    fraction = (rest << _STEPS) // half_life_s
    value = ONE
    for bit, root in enumerate(_ROOTS, start=1):
        if fraction >> (_STEPS - bit) & 1:
            value = value * root >> BITS
    return value >> halvings


def aged(mean: int, level: int, age_s: int, half_life_s: int) -> int:
    """The decayed mean after `age_s` more seconds at a steady `level`: level + (mean − level) · 2^(−age /
    half-life)."""
    return level + ((mean - level) * fading(age_s, half_life_s) >> BITS)
