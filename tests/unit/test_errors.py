"""An error is a fact with a sentence."""

from portal.kernel.errors import Conflict, Rejected


class TooManySpoons(Rejected):
    """There are {asked} spoons asked for, and the drawer
    has {there}.

    What follows the first paragraph is for programmers.
    """


def test_the_sentence_is_the_first_paragraph_with_the_facts_filled_in():
    assert str(TooManySpoons(asked=3, there=2)) == "There are 3 spoons asked for, and the drawer has 2."


def test_the_code_is_the_name_and_the_family_gives_the_status():
    assert (TooManySpoons.code, TooManySpoons.status, Conflict.status) == ("too-many-spoons", 422, 409)
