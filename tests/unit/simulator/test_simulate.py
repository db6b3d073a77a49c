"""From files to a report: the figures, the page, what is left out, and the command's exit codes."""

import csv
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.core.management import call_command

from scheduling.simulator.files.reading import BadFile
from scheduling.simulator.history import History, Record
from scheduling.simulator.options import Options
from scheduling.simulator.report.summary import at_share, figures
from scheduling.simulator.simulate import Request, simulate
from scheduling.simulator.traces.formats import Reading
from scheduling.simulator.traces.job import TraceJob
from scheduling.simulator.traces.problems import BadTrace

CLUSTER = """
nodes: [{name: a, gpus: 4, model: A100, cpus: 64, memory_gib: 512}]
teams: {red: {quota: {default: {guaranteed_gpus: 2}}}, blue: {quota: {default: {guaranteed_percent: 50}}}}
"""
POLICY = "tiers: [{name: normal}]\ngrace_s: 0\n"
TRACE = "id,submit_s,duration_s,team,gpus\nlent,0,100,red,4\nowner,40,30,blue,2\n"


@pytest.fixture
def request_for(tmp_path):
    def build(trace=TRACE, cluster=CLUSTER, policy=POLICY, **more) -> Request:
        for name, text in (("t.csv", trace), ("c.yaml", cluster), ("p.yaml", policy)):
            (tmp_path / name).write_text(text)
        paths = {"trace": "t.csv", "cluster": "c.yaml", "policy": "p.yaml", "out": "out"}
        return Request(**{key: tmp_path / name for key, name in paths.items()}, **more)

    return build


def silent(*_):
    pass


def test_a_replay_writes_figures_jobs_and_a_page(request_for):
    request = request_for(baselines=("fifo", "srtf"), options=Options(sample_s=50))
    result = simulate(request, silent)
    assert [f.name for f, _ in result.runs] == ["berth", "fifo", "srtf"]
    ours = result.runs[0][0]
    assert (ours.jobs, ours.finished, ours.requeues, ours.gpu_hours_lost) == (2, 2, 1, pytest.approx(160 / 3600))
    assert ours.mean_wait_s == 35
    described = json.loads((request.out / "report.json").read_text())
    assert [run["name"] for run in described["runs"]] == ["berth", "fifo", "srtf"]
    rows = list(csv.DictReader((request.out / "jobs.csv").open()))
    assert [(row["id"], row["first_start_s"], row["end_s"], row["wait_s"]) for row in rows] == [
        ("lent", "0", "170", "70"), ("owner", "40", "70", "0")]  # fmt: skip
    timeline = list(csv.DictReader((request.out / "timeline.csv").open()))
    assert [row["at_s"] for row in timeline] == ["50", "100", "150", "170"]
    assert float(timeline[2]["allocated"]) == 1.0


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def test_the_page_needs_nothing_from_elsewhere_and_names_cannot_break_it(request_for):
    trace = TRACE.replace("red", "<b>").replace("blue", "&blue")
    cluster = "nodes: [{name: a, gpus: 4}]"
    request = request_for(trace=trace, cluster=cluster, baselines=("easy",), options=Options(sample_s=50))
    simulate(request, silent)
    text = (request.out / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert not [tag for tag, attrs in page.seen if {"src", "href"} & attrs.keys() or tag in {"script", "b"}]
    assert "http" not in text.replace("http-equiv", "")
    assert sum(tag == "svg" for tag, _ in page.seen) == 7
    assert "&lt;b&gt;" in text


def test_bad_input_is_refused_before_anything_is_written(request_for):
    for change, kind, words in (
        ({"trace": TRACE + "more,50,-1,red,1\n"}, BadTrace, r"t\.csv, line 4, duration_s: -1 is negative"),
        ({"trace": TRACE + "more,50,1,red,5\n"}, BadTrace, r"t\.csv, line 4, gpus: job more needs 5 GPUs.*larger"),
        ({"trace": TRACE + "more,50,1,green,1\n"}, BadTrace, r"line 4, team: job more: .*no team 'green'"),
        ({"trace": "id,submit_s,duration_s,team,gpus\n"}, BadTrace, "no job to replay"),
        ({"cluster": CLUSTER.replace("gpus: 2", "gpus: 3")}, BadFile, r"teams\.red\.quota\.default"),
        ({"policy": "graze: 1"}, BadFile, "graze"),
        ({"baselines": ("sooner",)}, BadFile, "'sooner' is none of fifo"),
        ({"reading": Reading(order=Path("order.csv"))}, BadFile, "--order: .*read as berth"),
        ({"reading": Reading(swf_gpus=True)}, BadFile, "--swf-gpus: .*read as berth"),
    ):
        request = request_for(**change)
        with pytest.raises(kind, match=words):
            simulate(request, silent)
        assert not request.out.exists()


def test_what_is_skipped_is_counted_and_listed(request_for):
    request = request_for(trace=TRACE + "bad,50,-1,red,1\nvast,50,1,red,5\nalien,50,1,green,1\n", skip_bad=True)
    result = simulate(request, silent)
    assert result.runs[0][0].jobs == 2
    assert [problem.line for problem in result.problems.listed] == [4, 5, 6]
    described = json.loads((request.out / "report.json").read_text())
    assert len(described["left_out"]) == 3
    assert "3 lines were bad and left out" in (request.out / "report.html").read_text()


@pytest.mark.parametrize(
    ("trace", "more", "code", "words"),
    [
        (TRACE, (), None, "report:"),
        (TRACE + "bad,50,-1,red,1\n", (), 2, "line 4, duration_s"),
        (TRACE + "bad,50,-1,red,1\n", ("--skip-bad",), 3, "left out: 1 in all"),
        (TRACE + "server,50,,red,4\nafter,60,5,red,4\n", ("--baseline", "fifo"), 4, "berth"),
    ],
)
def test_the_command_tells_how_it_went_by_its_exit_code(request_for, capsys, trace, more, code, words):
    request = request_for(trace=trace)
    command = [str(request.trace), "--cluster", str(request.cluster), "--policy", str(request.policy)]
    try:
        call_command("simulate", *command, "--out", str(request.out), *more)
        exited = None
    except SystemExit as stop:
        exited = stop.code
    said = capsys.readouterr()
    assert exited == code, said
    assert words in said.out + said.err


def test_shares_of_sorted_values():
    assert [at_share([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], share) for share in (0.0, 0.5, 0.9, 0.99, 1.0)] == [
        1,
        5,
        9,
        10,
        10,
    ]
    assert at_share([], 0.5) == 0


def test_promises_kept_are_the_starts_before_the_estimate():
    def record(number, start, promised):
        made = Record(TraceJob(str(number), 0, 10), number, 1, first_start=start, end=start + 10)
        made.promised = promised
        return made

    history = History(records=[record(1, 5, 9), record(2, 9, 9), record(3, 10, 9), record(4, 1, None)])
    ours = figures("x", history, {})
    assert (ours.promises, ours.promises_kept) == (3, pytest.approx(2 / 3))


@pytest.mark.parametrize(
    ("columns", "values", "column"),
    [
        ("mig", "9g.999gb", "mig"),
        ("mig", "1g.10gb", "mig"),  # the profile exists, but these cards are not cut
        ("topology_required", "galaxy", "topology_required"),
        ("topology_preferred", "galaxy", "topology_preferred"),
    ],
)
def test_what_no_card_and_no_level_can_ever_give_is_refused_with_line_and_field(request_for, columns, values, column):
    trace = f"id,submit_s,duration_s,team,gpus,{columns}\na,0,5,red,1,\nb,0,5,red,1,{values}\n"
    with pytest.raises(BadTrace) as caught:
        simulate(request_for(trace), silent)
    assert (caught.value.line, caught.value.column) == (3, column)


def test_a_tier_that_the_policy_does_not_have_is_told(request_for):
    result = simulate(request_for("id,submit_s,duration_s,team,gpus,tier\na,0,5,red,1,gold\n"), silent)
    assert any("1 jobs name the tier gold" in note for note in result.notes)


def test_jobs_without_a_tier_run_in_the_last_one_where_the_policy_has_no_normal(request_for):
    result = simulate(request_for(policy="tiers: [{name: gold}, {name: batch}]"), silent)
    assert any("2 jobs name no tier: they ran as batch" in note for note in result.notes)


def test_a_short_replay_says_what_was_allocated(request_for):
    """A hundred seconds of half the cluster: shorter than a sample of the default, and than one of a second's parts."""
    for sample_s in (3600, 0):
        request = request_for("id,submit_s,duration_s,team,gpus\na,0,100,red,2\n", options=Options(sample_s=sample_s))
        ((ours, _),) = simulate(request, silent).runs
        assert (ours.allocated_percent, ours.fragmented_percent) == (pytest.approx(50), 0.0)


def test_nothing_is_written_over_a_file(request_for):
    request = request_for()
    request.out.write_text("precious")
    with pytest.raises(BadFile, match="is a file, not a folder"):
        simulate(request, silent)


def test_a_folder_that_cannot_be_made_is_told_before_the_replay(request_for, tmp_path):
    (tmp_path / "plain").write_text("")
    with pytest.raises(BadFile, match="cannot be made: Not a directory"):
        simulate(replace(request_for(), out=tmp_path / "plain" / "out"), lambda *_: pytest.fail("it was replayed"))


def test_the_baselines_say_what_was_allocated_as_well(request_for):
    """Two of four cards for a hundred seconds: a half, whoever decides."""
    request = request_for("id,submit_s,duration_s,team,gpus\na,0,100,red,2\n", baselines=("fifo", "srtf"))
    assert [run.allocated_percent for run, _ in simulate(request, silent).runs] == [pytest.approx(50)] * 3


def test_where_no_line_is_good_the_first_bad_one_is_named(request_for):
    with pytest.raises(BadTrace, match=r"1 were left out, the first: .*line 2, duration_s: -5 is negative"):
        simulate(request_for("id,submit_s,duration_s,team,gpus\na,0,-5,red,1\n", skip_bad=True), silent)
