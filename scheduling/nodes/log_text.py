"""What a program wrote, as plain lines that a page may show."""

import re

_LOG_CHARS = 4000
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(raw: bytes) -> str:
    """A log as plain lines: no escape sequences, no control characters, of a redrawn line only its last state."""
    text = _ESCAPES.sub("", raw.decode(errors="replace"))
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    return _CONTROLS.sub("", "\n".join(lines)).strip("\n")[-_LOG_CHARS:]
