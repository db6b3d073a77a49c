"""What could never run here is named with line and field before anything is replayed: by the core's own plan."""

import json

import pytest

from scheduling.simulator.simulate import Request, simulate
from scheduling.simulator.traces.problems import BadTrace

CLUSTER = """
nodes:
  - {name: a, count: 2, pool: h100, gpus: 4, model: H100, gpu_memory_gib: 80, cpus: 32, memory_gib: 256, path: [r1],
     labels: {zone: a}}
  - {name: b, count: 2, pool: h100, gpus: 4, model: H100, gpu_memory_gib: 80, cpus: 32, memory_gib: 256, path: [r2]}
  - {name: c, pool: cpu, cpus: 64, memory_gib: 128}
  - {name: broken, pool: h100, gpus: 16, model: H100, accepts: false}
teams:
  red: {quota: {h100: {guaranteed_gpus: 4, borrow_gpus: 2, user_gpus: 5}, cpu: {borrow_cores: 16}}}
  blue: {quota: {h100: {guaranteed_gpus: 8, lend_gpus: 4}}, windows: ["20:00-06:00"]}
"""
POLICY = "tiers: [{name: normal}]\nlevels: [rack]\n"
HEADER = (
    "id,submit_s,duration_s,team,gpus,replicas,cpu_millis,memory_mib,gpu_memory_mib,models,pools,needs,preemptible,"
    "topology_required,gpu_thousandths,mig"
)
DEFAULTS = dict.fromkeys(HEADER.split(","), "") | {
    "submit_s": 0, "duration_s": 10, "team": "blue", "gpus": 1, "replicas": 1}  # fmt: skip


@pytest.fixture
def replayed(tmp_path):
    def build(*jobs: dict[str, object], **more) -> tuple[Request, object]:
        rows = [
            ",".join(str({**DEFAULTS, "id": f"j{n}", **job}[key]) for key in DEFAULTS) for n, job in enumerate(jobs)
        ]
        for name, text in (("c.yaml", CLUSTER), ("p.yaml", POLICY), ("t.csv", "\n".join([HEADER, *rows, ""]))):
            (tmp_path / name).write_text(text)
        request = Request(tmp_path / "t.csv", tmp_path / "c.yaml", tmp_path / "p.yaml", tmp_path / "out", **more)
        return request, simulate(request, lambda *_: None)

    return build


@pytest.mark.parametrize(
    ("job", "column", "words"),
    [
        ({"gpus": 5}, "gpus", "5 GPUs: larger than the cluster.*no node has so many"),
        ({"gpus": 4, "replicas": 5}, "replicas", r"5 x \(4 GPUs\): larger than the cluster.*4 of them would fit"),
        ({"gpus": 4, "replicas": 3, "topology_required": "rack"}, "topology_required", "close together"),
        ({"gpus": 4, "replicas": 2, "topology_required": "node"}, "topology_required", "close together"),
        ({"gpus": 2, "replicas": 3, "topology_required": "island"}, "topology_required", "larger than the cluster"),
        ({"cpu_millis": 65_000, "gpus": 0}, "cpu_millis", "65 cores"),
        ({"memory_mib": 300 * 1024}, "memory_mib", "300 GiB"),
        ({"memory_mib": 200 * 1024, "gpus": 0, "pools": "cpu"}, "memory_mib", "200 GiB"),
        ({"models": "A100"}, "models", "of a model that it accepts"),
        ({"gpu_memory_mib": 81 * 1024}, "gpu_memory_mib", "81 GiB of memory on each GPU"),
        ({"pools": "tpu"}, "pools", "None of the pools"),
        ({"pools": "cpu"}, "gpus", "no node with the pool and labels that it asks for has any"),
        ({"needs": "zone=b"}, "needs", "has the labels"),
        ({"needs": "zone; !zone=a"}, "needs", "has the labels"),
        ({"mig": "1g.10gb"}, "mig", "can be cut"),
        # rights
        ({"team": "red", "gpus": 4, "replicas": 2}, "gpus", "one member of the team may use 5"),
        ({"team": "red", "gpus": 3, "replicas": 2}, "gpus", "one member of the team may use 5"),
        ({"team": "red", "gpus": 0, "cpu_millis": 20_000, "pools": "cpu"}, "cpu_millis", "20 CPU cores.*leave 16"),
        ({"team": "red", "preemptible": "no", "gpus": 4, "replicas": 2}, "preemptible", "may not be evicted"),
    ],
)  # fmt: skip
def test_a_job_that_can_never_run_is_named_with_line_field_and_reason(replayed, job, column, words):
    with pytest.raises(BadTrace, match=words) as caught:
        replayed({}, job)
    assert (caught.value.line, caught.value.column) == (3, column)


def test_what_fits_only_just_is_replayed(replayed):
    """Red's member, blue's loan, a whole rack, a label: each at its limit. Blue's hours are not in the way."""
    _, result = replayed(
        {"team": "red", "gpus": 1, "replicas": 5},
        {"team": "blue", "gpus": 4, "replicas": 3},
        {"team": "blue", "gpus": 4, "replicas": 2, "topology_required": "rack"},
        {"team": "blue", "gpus": 4, "replicas": 2, "needs": "zone=b|a"},
        {"team": "blue", "gpus": 0, "cpu_millis": 64_000, "pools": "cpu"},
        {"team": "red", "preemptible": "no", "gpus": 4},
    )
    assert result.runs[0][0].never_started == 0


def test_with_skip_bad_each_is_counted_and_listed_and_the_rest_is_replayed(replayed):
    request, result = replayed({"gpus": 5}, {}, {"gpus": 5}, {"needs": "zone=b"}, skip_bad=True)
    assert [(problem.line, problem.column) for problem in result.problems.listed] == [
        (2, "gpus"),
        (4, "gpus"),
        (5, "needs"),
    ]
    assert result.runs[0][0].finished == 1
    assert len(json.loads((request.out / "report.json").read_text())["left_out"]) == 3


def test_a_field_is_named_as_its_format_calls_it(tmp_path):
    (tmp_path / "c.yaml").write_text("nodes: [{name: a, gpus: 4, cpus: 8}]\nteams: {vc1: {}}")
    (tmp_path / "p.yaml").write_text("")
    for name, text, column in (
        ("p.csv", "job_id,vc,gpu_num,submit_time,duration\n1,vc1,8,0,5\n", "gpu_num"),
        ("p.csv", "job_id,vc,gpu_num,submit_time,duration\n1,vc2,4,0,5\n", "vc"),
        ("s.txt", "JobID|Submit|ElapsedRaw|AllocTRES|Account\n1|5|5|cpu=9|vc1\n", "AllocTRES"),
        ("s.txt", "JobID|Submit|ElapsedRaw|AllocTRES|Account\n1|5|5|cpu=9|\n", "Account"),
        ("w.swf", "1 0 -1 9 12 -1 -1 12 -1 -1 1 3 4 -1 -1 -1 -1 -1\n", "group"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(BadTrace) as caught:
            request = Request(tmp_path / name, tmp_path / "c.yaml", tmp_path / "p.yaml", tmp_path / "out")
            simulate(request, lambda *_: None)
        assert caught.value.column == column, caught.value
