"""Every pair of colours that meets on a page keeps WCAG 2.2 AA in both themes: read from the stylesheet itself."""

import re
from pathlib import Path

import pytest

CSS = (Path(__file__).parents[2] / "static" / "berth.css").read_text()
TOKENS = dict(re.findall(r"--([\w-]+): light-dark\((#\w{6}, #\w{6})\)", CSS))
GROUNDS = ("ground", "surface", "sunken")
TONES = ("good", "work", "wait", "bad", "off")

TEXT = [
    *((ink, ground) for ink in ("ink", "muted", "accent", "accent-strong", *TONES) for ground in GROUNDS),
    *((ink, f"{tone}-wash") for tone in TONES for ink in (tone, "ink", "muted")),
    ("on-accent", "accent"),
    ("on-accent", "accent-strong"),
]
SHAPES = [("edge", ground) for ground in (*GROUNDS, "off-wash", "wait-wash")]


def luminance(colour: str) -> float:
    """Of WCAG 2.2, from sRGB."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def token(name: str, theme: int) -> str:
    return TOKENS[name].split(", ")[theme]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "ground"), TEXT)
def test_text_has_4_5_to_1(ink, ground, theme):
    assert contrast(token(ink, theme), token(ground, theme)) >= 4.5


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("edge", "ground"), SHAPES)
def test_borders_of_controls_have_3_to_1(edge, ground, theme):
    assert contrast(token(edge, theme), token(ground, theme)) >= 3
