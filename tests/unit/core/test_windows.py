"""Windows as people write them."""

import pytest

from scheduling.core.cluster import Window
from scheduling.core.windows import NoWindow, in_words, window_from

ALL = tuple(range(7))


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("mon-fri 20:00-06:00", Window((0, 1, 2, 3, 4), 72_000, 21_600)),
        ("sat,sun", Window((5, 6), 0, 86_400)),
        ("fri-mon", Window((0, 4, 5, 6), 0, 86_400)),
        ("20:00-6:30", Window(ALL, 72_000, 23_400)),
        ("daily 00:00-24:00", Window(ALL, 0, 86_400)),
        (" Wed,Mon  08:00-09:00 ", Window((0, 2), 28_800, 32_400)),
    ],
)
def test_a_window_is_days_and_a_span_and_its_words_give_it_again(text, window):
    assert window_from(text) == window
    assert window_from(in_words(window)) == window


@pytest.mark.parametrize(
    "text",
    ["", "noday", "mon tue", "mon 20:00", "20:00-25:00", "24:00-25:00", "20:60-21:00", "mon-", "a b c", "20:00-06:00 mon",
     "mon-fri-sat", "٢0:00-06:00"],
)  # fmt: skip
def test_what_is_no_window_is_refused(text):
    with pytest.raises(NoWindow):
        window_from(text)
