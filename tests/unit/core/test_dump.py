"""What is no dump is refused with the reason; that a dump is planned identically is a property."""

import json

import pytest

from scheduling.core.dump import UnreadableDump, dump, load
from scheduling.core.plan import plan
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


def test_a_dump_that_contradicts_itself_is_refused_instead_of_planned():
    content = json.loads(dump(cluster("n1 a."), Policy(), 7))
    for change, words in (
        ({"nodes": []}, None),  # the node is gone, what runs there ends by itself
        ({"nodes": [{**content["cluster"]["nodes"][0], "gpus": []}]}, "holds GPU 1, which node 1 does not have"),
        ({"teams": [{"id": 1, "name": "a", "parent": 1}]}, "no way to the root"),
    ):
        text = json.dumps({**content, "cluster": {**content["cluster"], **change}})
        if words is None:
            plan(*load(text))
            continue
        with pytest.raises(UnreadableDump, match=words):
            load(text)


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "\0", "[" * 100_000, '{"format":' * 50_000])
def test_a_text_that_is_no_json_object_is_refused(text):
    with pytest.raises(UnreadableDump):
        load(text)
