"""What is no dump is refused with the reason; that a dump is planned identically is a property."""

import json

import pytest

from scheduling.core.dump import UnreadableDump, dump, load
from scheduling.core.policy import Policy
from tests.pictures import ask, cluster


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"now": "x"}, "'x' where int is expected"),
        ({"now": True}, "True where int is expected"),
        ({"policy": {"grace_s": "x"}}, "'x' where int is expected"),
        ({"policy": {"graces": 1}}, "graces"),
        ({"cluster": {"nodes": [{"id": "1"}]}}, "'1' where int is expected"),
        ({"format": 99}, "format 99"),
    ],
)
def test_what_is_no_dump_is_refused_with_the_reason(change, words):
    text = dump(cluster("n1 ..", ask(1, gpus=1)), Policy(), 7)
    assert load(text)[2] == 7
    with pytest.raises(UnreadableDump, match=words):
        load(json.dumps({**json.loads(text), **change}))
