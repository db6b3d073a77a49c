"""Logs are shown as plain lines, whatever a program wrote."""

from scheduling.nodes.log_text import clean


def test_colours_and_control_characters_are_left_out() -> None:
    assert clean(b"\x1b[31mred\x1b[0m and \x07bell\n") == "red and bell"


def test_of_a_line_drawn_again_and_again_the_last_state_stays() -> None:
    assert clean(b" 10 %\r 50 %\r100 %\ndone\r\n") == "100 %\ndone"


def test_what_is_not_text_is_marked_and_not_dropped() -> None:
    assert clean(b"caf\xe9") == "caf\N{REPLACEMENT CHARACTER}"
