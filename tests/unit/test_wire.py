"""What crosses the exchange arrives as it was sent, and what is not what was agreed is refused in one sentence."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.nodes.driver import (
    ContainerSpec,
    Device,
    GpuInfo,
    InfinibandPort,
    Inventory,
    Mount,
    Observation,
    Phase,
    Sample,
)
from scheduling.nodes.exchange import Desired, DesiredPart, Report
from scheduling.nodes.wire import BadMessage, decode, encode

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NUMBER = st.integers(-(2**63), 2**63 - 1)
REAL = st.floats(allow_nan=False, allow_infinity=False)


def many(*items):
    return st.lists(st.one_of(*items), max_size=3).map(tuple)


def maybe(item):
    return st.none() | item


PAIRS = many(st.tuples(TEXT, TEXT))
SPECS = st.builds(
    ContainerSpec,
    TEXT, TEXT, TEXT, TEXT,
    command=many(TEXT), env=PAIRS, devices=many(st.builds(Device, TEXT, st.booleans())),
    layout_versions=many(st.tuples(TEXT, NUMBER)), cpu_millis=NUMBER, mounts=many(st.builds(Mount, TEXT, TEXT)),
    port=NUMBER, egress=TEXT,
)  # fmt: skip
DESIRED = st.builds(
    Desired,
    version=NUMBER, parts=many(st.builds(DesiredPart, SPECS, st.booleans(), st.booleans())),
    interval_s=REAL, epoch=NUMBER, lease_s=REAL,
)  # fmt: skip
GPUS = st.builds(
    GpuInfo,
    TEXT, NUMBER, TEXT, maybe(NUMBER),
    mig_enabled=maybe(st.booleans()), mig_devices=many(TEXT), numa_node=maybe(NUMBER),
    nvlinks=maybe(many(st.tuples(TEXT, NUMBER))),
)  # fmt: skip
INVENTORIES = st.builds(
    Inventory,
    NUMBER, NUMBER,
    gpus=many(GPUS), notes=many(TEXT), labels=PAIRS, disk_mib=maybe(NUMBER),
    infiniband=many(st.builds(InfinibandPort, TEXT, NUMBER, TEXT, TEXT)),
)  # fmt: skip
OBSERVATIONS = st.builds(
    Observation,
    TEXT, st.sampled_from(Phase),
    address=maybe(st.tuples(TEXT, NUMBER)), exit_code=maybe(NUMBER), log_tail=TEXT, started=st.booleans(),
    progress=maybe(st.tuples(NUMBER, NUMBER)),
)  # fmt: skip
SAMPLES = st.builds(
    Sample, TEXT, power_w=maybe(REAL), processes=many(st.tuples(NUMBER, maybe(NUMBER)))
)  # fmt: skip
REPORTS = st.builds(
    Report,
    TEXT, TEXT,
    held_version=NUMBER, inventory=maybe(INVENTORIES), observations=many(OBSERVATIONS), samples=many(SAMPLES),
    trouble=TEXT, orphans=NUMBER, agent=TEXT, sequence=NUMBER,
)  # fmt: skip

JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | REAL | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40)
@given(REPORTS)
def test_a_report_arrives_as_it_was_sent(report: Report):
    assert decode(Report, json.loads(json.dumps(encode(report)))) == report


@settings(max_examples=40)
@given(DESIRED)
def test_a_desired_state_arrives_as_it_was_told(desired: Desired):
    assert decode(Desired, json.loads(json.dumps(encode(desired)))) == desired


@settings(max_examples=40)
@given(REPORTS, st.dictionaries(st.text("xyz", min_size=1, max_size=3), JSON, max_size=3))
def test_fields_that_this_version_does_not_know_are_ignored(report: Report, more: dict):
    assert decode(Report, {**more, **encode(report)}) == report


@given(st.data())
def test_whatever_stands_in_a_field_is_taken_or_refused_and_nothing_else_happens(data: st.DataObject):
    message = encode(data.draw(REPORTS))
    at = data.draw(st.sampled_from(["node", "boot_id", "inventory", "observations", "samples", "orphans", "sequence"]))
    message[at] = data.draw(JSON)
    refusal = f"Report.{at}."
    try:
        assert isinstance(decode(Report, message), Report)
    except BadMessage as error:
        refusal = str(error)
    assert refusal.startswith(f"Report.{at}")
    assert refusal.endswith(".")


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ([], "Report must be an object."),
        ({"node": "a"}, "Report.boot_id is missing."),
        ({"node": 1, "boot_id": ""}, "Report.node must be a text."),
        ({"node": "a", "boot_id": "", "sequence": True}, "Report.sequence must be a whole number."),
        ({"node": "a", "boot_id": "", "sequence": 2**63}, "Report.sequence must be a whole number."),
        ({"node": "a", "boot_id": "", "samples": [{}]}, "Report.samples[0].gpu_uuid is missing."),
        (
            {"node": "a", "boot_id": "", "samples": [{"gpu_uuid": "g", "power_w": float("inf")}]},
            "Report.samples[0].power_w must be a number.",
        ),
        (
            {"node": "a", "boot_id": "", "observations": [{"allocation": "1", "phase": "asleep"}]},
            "Report.observations[0].phase must be one of: pulling, starting, ready, exited, refused, gone.",
        ),
    ],
)
def test_a_bad_message_says_where(message: object, sentence: str):
    with pytest.raises(BadMessage) as refused:
        decode(Report, message)
    assert str(refused.value) == sentence


def test_what_no_database_stores_is_replaced():
    assert decode(Report, {"node": "a\0b\ud800", "boot_id": ""}).node == "a\ufffdb\ufffd"
