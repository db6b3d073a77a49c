"""How numbers read on the pages."""

from datetime import timedelta

import pytest

from portal.templatetags.berth import cores, duration, gib, took


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (3600, "1 h 00 min"), (43_000, "11 h 56 min"),
     (-5, "0 s"), (None, "—"), (timedelta(minutes=2), "2 min 00 s")],
)  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (12, "12 s"), (None, "")]
)
def test_finished_steps_show_tenths_while_they_are_short(seconds, text):
    assert took(seconds) == text


def test_sizes():
    assert (cores(500), cores(2000), gib(1536), gib(4096)) == ("0.5", "2", "1.5", "4")
