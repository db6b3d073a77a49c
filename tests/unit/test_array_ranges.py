"""What `0-99%8` means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.records.ranges import BadArray, TooManyTasks, count, each, gather, parse


@pytest.mark.parametrize(
    ("text", "tasks", "limit"),
    [
        ("0-3", [0, 1, 2, 3], None),
        ("7", [7], None),
        ("0-9:3%2", [0, 3, 6, 9], 2),
        (" 1, 3 ,5-6 % 4", [1, 3, 5, 6], 4),
        ("5,1,5,1-2", [1, 2, 5], None),
    ],
)
def test_what_people_write_becomes_rising_indexes(text, tasks, limit):
    read = parse(text)
    assert (list(each(read.spans)), read.size, read.limit) == (tasks, len(tasks), limit)


@pytest.mark.parametrize("text", ["", "a", "3-1", "1-", "-1", "0-9:0", "0-9%", "0-9%0", "0-9%x", "1,,2", "٣", "1" * 9])
def test_what_is_none_is_refused_with_an_example(text):
    with pytest.raises(BadArray, match="write its tasks like 0-99"):
        parse(text)


def test_an_array_of_millions_is_refused_before_it_is_counted_out():
    with pytest.raises(TooManyTasks, match="would have 10,000,000"):
        parse("0-9999999")


@given(st.sets(st.integers(0, 200)))
def test_gathered_indexes_are_the_same_indexes(indexes):
    rising = sorted(indexes)
    spans = gather(rising)
    assert list(each(spans)) == rising
    assert count(spans) == len(rising)
