"""Each trace format becomes the same jobs, and each mistake is named by file, line and field."""

import gzip
from pathlib import Path

import pytest

from scheduling.core.cluster import Need
from scheduling.simulator.traces import openb, philly
from scheduling.simulator.traces.formats import Format, Reading, guess, read_trace
from scheduling.simulator.traces.problems import BadTrace, Problems

BERTH = "id,submit_s,duration_s,team,gpus"
PHILLY = "job_id,vc,gpu_num,submit_time,duration"
SACCT = "JobID|Submit|Start|End|ReqTRES|NNodes|TimelimitRaw|Account|User|QOS"


@pytest.fixture
def file(tmp_path):
    def write(name, *lines):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        text = "\n".join(lines) + "\n"
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(text.encode()))
        else:
            path.write_text(text)
        return path

    return write


def read(path: Path, problems: Problems | None = None, **how):
    return list(read_trace(path, Reading(**how), problems or Problems()))


# ------------------------------------------------------------------------------------------------ what is read
def test_berths_own_format_says_everything(file):
    path = file(
        "t.csv",
        BERTH + ",limit_s,replicas,gpu_thousandths,models,pools,tier,user,cpu_millis,memory_mib,suspendable,deadline_s",
        "a,5,60,red,1,90,1,250,H100|A100,gpu,batch,alice,2000,4096,yes,500",
    )
    (job,) = read(path)
    assert (job.id, job.submit_s, job.duration_s, job.limit_s, job.team) == ("a", 5, 60, 90, "red")
    assert (job.gpus, job.gpu_thousandths, job.all_gpus, job.models) == (1, 250, 0.25, ("H100", "A100"))
    assert (job.pools, job.tier, job.user, job.suspendable, job.deadline_s) == (("gpu",), "batch", "alice", True, 500)
    assert job.line == 2


def test_labels_minimum_runtime_and_saved_memory_of_a_job(file):
    path = file("t.csv", BERTH + ",needs,min_runtime_s,saved_mib", "a,5,60,red,1,zone=a|b; ib ;!old;!disk=slow,90,4096")
    (job,) = read(path)
    assert job.needs == (
        Need("zone", ("a", "b")), Need("ib"), Need("old", absent=True), Need("disk", ("slow",), absent=True))  # fmt: skip
    assert (job.min_runtime_s, job.saved_mib) == (90, 4096)


def test_sacct_fields_are_not_quoted_and_a_mark_may_end_the_line(file):
    path = file("s.txt", "JobID|JobName|Submit|ElapsedRaw|AllocTRES|", '1|say "hi|5|6|cpu=1|', '2|b"|6|6|cpu=1|')
    assert [job.id for job in read(path)] == ["1", "2"]


def test_work_that_never_ends_has_no_duration(file):
    assert read(file("t.csv", BERTH, "a,5,,red,1"))[0].duration_s is None


def test_philly_jobs_larger_than_a_node_take_whole_nodes(file):
    jobs = read(file("p.csv.gz", PHILLY, "0,vc,8,0,10", "1,vc,12,5,10"))
    assert [(job.gpus, job.replicas) for job in jobs] == [(8, 1), (8, 2)]
    assert philly.read_nodes(file("n.csv", "vc,nodes", "vc,3")) == {"vc": 3}


def test_sacct_jobs_without_their_steps(file):
    path = file(
        "s.txt",
        SACCT,
        "7|2024-05-17T09:00:00|2024-05-17T09:10:00|2024-05-17T10:10:00|cpu=16,mem=64G,node=2,gres/gpu=4|2|120|red|alice|high",
        "7.batch|2024-05-17T09:00:00|2024-05-17T09:10:00|2024-05-17T10:10:00|cpu=8|1||||",
        "8|2024-05-17T09:05:00|Unknown|Unknown|cpu=1|1|UNLIMITED|red|bob|",
    )
    problems = Problems()
    (job,) = read(path, problems)
    assert (job.duration_s, job.limit_s, job.team, job.user, job.tier) == (3600, 7200, "red", "alice", "high")
    assert (job.replicas, job.gpus, job.cpu_millis, job.memory_mib) == (2, 2, 8000, 32 * 1024)
    assert problems.passed_over == {"job steps": 1, "never ran": 1}


def test_sacct_elapsed_is_days_hours_minutes_seconds(file):
    path = file(
        "s.txt", "JobID|Submit|Elapsed|Timelimit|AllocTRES", "7|1000|1-02:00:30|30:00|gres/gpu:a100=1,gres/gpu=1"
    )
    (job,) = read(path)
    assert (job.duration_s, job.limit_s, job.models) == (93_630, 1800, ("a100",))


def test_gpus_spread_unevenly_over_nodes_become_equal_replicas(file):
    path = file("s.txt", "JobID|Submit|ElapsedRaw|AllocTRES", "7|1000|60|cpu=6,node=2,gres/gpu=3")
    (job,) = read(path)
    assert (job.replicas, job.gpus, job.cpu_millis) == (3, 1, 2000)


def swf(number, submit, ran, processors, requested=-1):
    return f"{number} {submit} -1 {ran} {processors} -1 -1 {processors} {requested} -1 1 3 4 -1 -1 -1 -1 -1"


def test_swf_processors_are_cores_or_gpus(file):
    path = file("t.swf", "; Version: 2", swf(1, 0, 60, 16, 100), swf(2, 5, -1, 4))
    problems = Problems()
    (job,) = read(path, problems)
    assert (job.replicas, job.cpu_millis, job.gpus, job.limit_s, job.team) == (16, 1000, 0, 100, "group 4")
    assert problems.passed_over == {"never ran (run time -1)": 1}
    (job,) = read(path, swf_gpus=True)
    assert (job.replicas, job.gpus) == (2, 8)


PODS = ("name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec", "openb-pod-0001,6000,12288,1,460,T4|G2|T4",
        "openb-pod-0002,1000,1024,0,0,")  # fmt: skip


def test_openb_pods_come_in_the_order_of_the_list_and_clones_have_names_of_their_own(file):
    order = file("order.csv", "seed_1,seed_2", "0002,0001", "0001,0002", "0001,0001")
    jobs = list(openb.read_in_order(file("pods.csv", *PODS), order, "seed_1", Problems()))
    assert [(job.id, job.submit_s, job.duration_s) for job in jobs] == [
        ("0002", 0, None), ("0001", 1, None), ("0001+1", 2, None)]  # fmt: skip
    assert (jobs[1].gpu_thousandths, jobs[1].models) == (460, ("T4", "G2"))
    assert jobs[0].all_gpus == 0


def test_openb_pods_by_their_own_times(file):
    path = file("pods.csv", "name,cpu_milli,memory_mib,num_gpu,gpu_milli,creation_time,deletion_time,scheduled_time",
                "openb-pod-0001,1,1,2,1000,10,100,40")  # fmt: skip
    (job,) = read(path)
    assert (job.submit_s, job.duration_s, job.gpus) == (10, 60, 2)


@pytest.mark.parametrize(
    ("name", "header", "format"),
    [
        ("x.swf.gz", "; remark", Format.SWF),
        ("x.csv", BERTH, Format.BERTH),
        ("x.csv", PHILLY, Format.PHILLY),
        ("x.txt", SACCT, Format.SLURM),
        ("x.csv", PODS[0], Format.OPENB),
    ],
)
def test_a_format_is_known_by_its_columns(file, name, header, format):
    assert guess(file(name, header)) is format


# ------------------------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("lines", "line", "column", "words"),
    [
        (("id,submit_s,team,gpus", "a,0,red,1"), 1, "duration_s", "column is missing"),
        ((BERTH + ",nonsense", "a,0,1,red,1,2"), 1, "nonsense", "not a column"),
        ((BERTH + ",gpus", "a,0,1,red,1,2"), 1, "gpus", "twice"),
        ((BERTH, "a,0,-5,red,1"), 2, "duration_s", "-5 is negative"),
        ((BERTH, "a,0,5,red,1", "a,1,5,red,1"), 3, "id", "'a' appeared before"),
        ((BERTH, "a,9,5,red,1", "b,3,5,red,1"), 3, "submit_s", "3 is before 9"),
        ((BERTH, "a,x,5,red,1"), 2, "submit_s", "'x' is not a number"),
        ((BERTH, "a,0.5,5,red,1"), 2, "submit_s", "0.5 is not a whole number"),
        ((BERTH, "a,nan,5,red,1"), 2, "submit_s", "'nan' is not a number"),
        ((BERTH, "a,0,1e30,red,1"), 2, "duration_s", "not a number"),
        ((BERTH, "a,0,5,,1"), 2, "team", "is empty"),
        ((BERTH, "a,0,5,red"), 2, "", "has 4 fields, the header 5"),
        ((BERTH + ",gpu_thousandths", "a,0,5,red,2,500"), 2, "gpu_thousandths", "a fraction is of one GPU"),
        ((BERTH + ",suspendable", "a,0,5,red,2,perhaps"), 2, "suspendable", "neither yes nor no"),
        ((PHILLY, "0,vc,0,0,5"), 2, "gpu_num", "0 is less than 1"),
        ((PHILLY, "0,vc,1,0,-5"), 2, "duration", "-5 is negative"),
        (("JobID|Submit|NNodes", "7|1000|1"), 1, "ElapsedRaw", "column is missing"),
        (("JobID|Submit|Elapsed", "7|1000|5:00"), 1, "AllocTRES", "column is missing"),
        (("JobID|Submit|Elapsed|ReqTRES", "7|yesterday|5:00|cpu=1"), 2, "Submit", "not a time"),
        (("JobID|Submit|Elapsed|ReqTRES", "7|1000|soon|cpu=1"), 2, "Elapsed", "not a time span"),
        (("JobID|Submit|Elapsed|ReqTRES", "7|1000|5:00|mem=much"), 2, "AllocTRES", "not an amount of memory"),
        (("JobID|Submit|Start|End|ReqTRES", "7|1000|2000|1900|cpu=1"), 2, "End", "the duration is negative"),
        ((PODS[0], "openb-pod-1,1,1,1,1001,"), 2, "gpu_milli", "more than a whole GPU"),
        (("what,is,this", "1,2,3"), 1, "", "no known format"),
        (("JobID  JobName  State", "-----  ----"), 1, "", "let it print --parsable2"),
        (("JobID|Submit|Start|AllocTRES", "7|1000|5|cpu=1"), 1, "ElapsedRaw", "Start alone does not"),
        (("JobID|Submit|ElapsedRaw|AllocTRES", "7|1000|5|cpu=1,node=x"), 2, "AllocTRES", "'x' is not a number"),
        (("JobID|Submit|ElapsedRaw|AllocTRES", "7|0001-01-01|5|cpu=1"), 2, "Submit", "before 1970"),
        (("JobID|Submit|ElapsedRaw|AllocTRES", "7|²|5|cpu=1"), 2, "Submit", "not a time"),
        (("JobID|Submit|Elapsed|AllocTRES", f"7|1|{'9' * 5000}|cpu=1"), 2, "Elapsed", "is 5,000 characters long"),
        (("JobID|Submit|ElapsedRaw|AllocTRES", f"7|1|5|mem={'9' * 400}G"), 2, "AllocTRES", "not an amount"),
        ((BERTH, f"a,{'9' * 500},5,red,1"), 2, "submit_s", "9…' is not a number"),
        ((BERTH, "a,1_0,5,red,1"), 2, "submit_s", "'1_0' is not a number"),
        ((BERTH, "a,0,5,\x1b[31mred,1"), 2, "team", "has a control character"),
        ((BERTH, f"a,0,5,{'r' * 2000},1"), 2, "team", "is 2,000 characters long"),
        ((BERTH + ",mig", "a,0,5,red,2,1g.10gb"), 2, "mig", "a replica has one instance"),
        ((BERTH + ",needs", "a,0,5,red,2,zone="), 2, "needs", "not a label"),
        ((BERTH + ",needs", "a,0,5,red,2,=a"), 2, "needs", "not a label"),
        ((BERTH, 'a,0,5,"red,1', *(f"j{n},1,1,red,1" for n in range(15_000))), 2, "", "is a quotation mark missing?"),
    ],
)  # fmt: skip
def test_one_message_names_file_line_and_field(file, lines, line, column, words):
    path = file("trace.csv", *lines)
    with pytest.raises(BadTrace) as caught:
        read(path, format=Format.OPENB if lines[0] == PODS[0] else None)
    problem = caught.value
    if lines[0] != PODS[0]:
        assert (problem.line, problem.column) == (line, column)
        assert words in str(problem)
    assert str(path) in str(problem)


def test_a_pod_that_asks_for_too_much_of_a_gpu_is_named(file):
    pods, order = file("pods.csv", PODS[0], "openb-pod-1,1,1,1,1001,"), file("o.csv", "seed_1", "1")
    with pytest.raises(BadTrace, match=r"line 2, gpu_milli: 1001 is more than a whole GPU"):
        list(openb.read_in_order(pods, order, "seed_1", Problems()))
    with pytest.raises(BadTrace, match=r"o\.csv, line 1, seed_7: the column is missing"):
        list(openb.read_in_order(pods, order, "seed_7", Problems(skip_bad=True)))


@pytest.mark.parametrize(
    ("values", "column"), [("1 0 -1 -7 4", ""), (swf(1, -5, 9, 1), "submit time"), (swf(1, 0, -7, 1), "run time"),
                           (swf(1, 0, 9, -1), "requested processors")],
)  # fmt: skip
def test_bad_swf_lines_are_named(file, values, column):
    with pytest.raises(BadTrace) as caught:
        read(file("t.swf", "; remark", values))
    assert (caught.value.line, caught.value.column) == (2, column)


def test_skip_bad_counts_and_lists_what_it_left_out(file):
    problems = Problems(skip_bad=True)
    lines = (BERTH, "a,0,5,red,1", "b,1,-5,red,1", "a,2,5,red,1", "c,1,5,red,1", "d,0,5,red,1")
    assert [job.id for job in read(file("t.csv", *lines), problems)] == ["a", "c"]
    assert [(problem.line, problem.column) for problem in problems.listed] == [
        (3, "duration_s"), (4, "id"), (6, "submit_s")]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"id,submit_s\0", "line 1: has a zero byte"),
        ("id,submit_s,duration_s\n".encode("utf-16"), "not a text file in UTF-8"),
        ("id,submit_s,duration_s\n".encode("utf-16-le"), "has a zero byte"),
        (BERTH.encode() + "\na,0,5,é,1".encode("latin-1"), "not a text file in UTF-8"),
        (BERTH.encode() + b"\n" + b"a" * 1_000_002, "line 2: is longer than 1,000,000 characters"),
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty, or its first line is"),
        (b"c" + b",c" * 400_000, "no known format"),
        (BERTH.encode() + b",id" * 300_000, "line 1, id: the column appears twice"),
        (gzip.compress(BERTH.encode() * 5000)[:-100], "damaged or cut off"),
    ],
)
def test_a_hostile_file_is_refused_in_one_sentence(tmp_path, content, words):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(BadTrace, match=words) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "packed-but-not-named-so.csv"])
def test_line_ends_byte_order_marks_and_packing_make_no_difference(tmp_path, end, mark, name):
    text = mark + (BERTH + end + "a,0,5,red,1" + end).encode()
    (tmp_path / name).write_bytes(text if name == "t.csv" else gzip.compress(text))
    assert [(job.id, job.line) for job in read(tmp_path / name)] == [("a", 2)]


def test_files_that_are_no_text_are_refused(tmp_path):
    empty, broken = tmp_path / "e.csv", tmp_path / "b.csv.gz"
    empty.write_text("")
    broken.write_bytes(b"not gzip at all")
    for path, words in ((empty, "empty"), (broken, "cannot be read"), (tmp_path / "none.csv", "cannot be read")):
        with pytest.raises(BadTrace, match=words):
            read(path, format=Format.BERTH)
    binary = tmp_path / "x.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(BadTrace, match="UTF-8"):
        read(binary, format=Format.BERTH)
