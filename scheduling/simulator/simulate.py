"""One simulation from files to a report: what `manage.py simulate` does, without the terminal."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from scheduling.core.policy import Policy
from scheduling.simulator.baselines.queueing import BASELINES, replay_baseline
from scheduling.simulator.files.cluster_file import read_cluster
from scheduling.simulator.files.policy_file import read_policy
from scheduling.simulator.files.reading import BadFile
from scheduling.simulator.fitting import fitting_jobs
from scheduling.simulator.history import History
from scheduling.simulator.options import Options
from scheduling.simulator.report.summary import Figures, figures
from scheduling.simulator.report.write import write_report
from scheduling.simulator.traces.formats import CALLED, Format, Reading, guess, read_trace
from scheduling.simulator.traces.job import TraceJob
from scheduling.simulator.traces.problems import BadTrace, Problems
from scheduling.simulator.world import World

#: what the caller prints: the input is wrong, nothing was written
BadInput = (BadTrace, BadFile)
OURS = "berth"
#: so many reasons why jobs never started are told
REASONS = 5


@dataclass(frozen=True, slots=True)
class Request:
    trace: Path
    cluster: Path
    policy: Path
    out: Path
    reading: Reading = field(default_factory=Reading)
    options: Options = field(default_factory=Options)
    baselines: tuple[str, ...] = ()
    skip_bad: bool = False
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Result:
    runs: tuple[tuple[Figures, History], ...]
    problems: Problems
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


#: told which policy is being replayed, how many of how many jobs have ended, and the trace's time
Progress = Callable[[str, int, int, int], None]


def simulate(request: Request, progress: Progress) -> Result:
    """Read, replay, compare, write. Errors: BadInput, before anything is replayed."""
    for name in request.baselines:
        if name not in BASELINES:
            raise BadFile("--baseline", "", f"{name!r} is none of {', '.join(BASELINES)}")
    if request.out.exists() and not request.out.is_dir():
        raise BadFile("--out", "", f"{request.out} is a file, not a folder")
    policy = read_policy(request.policy)
    site = read_cluster(request.cluster, policy.levels)
    problems = Problems(skip_bad=request.skip_bad)
    largest = max(len(node.gpus) for node in site.nodes) or 1
    format = request.reading.format or guess(request.trace)
    _check_reading(request.reading, format)
    read = read_trace(request.trace, replace(request.reading, node_gpus=largest, format=format), problems)
    jobs = fitting_jobs(read, site, policy, problems, str(request.trace), CALLED.get(format))
    if not jobs:
        bad = f"; {len(problems.listed):,} were left out, the first: {problems.listed[0]}" if problems.listed else ""
        raise BadTrace(str(request.trace), 0, "", f"there is no job to replay{bad}")
    try:  # before the long part, not after it
        request.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadFile("--out", "", f"{request.out} cannot be made: {error.strerror or error}") from error
    names = {team.id: team.name for team in site.teams}

    def watch(now: int, _submitted: int, ended: int) -> None:
        progress(OURS, ended, len(jobs), now - jobs[0].submit_s)

    options = request.options
    if not options.sample_s:
        options = replace(options, sample_s=_sample_s(jobs))
    world = World(site, policy, jobs, options, watch)
    history = world.run()
    runs = [(figures(OURS, history, names), history)]
    for name in request.baselines:
        progress(name, 0, len(jobs), 0)
        other = replay_baseline(name, site, jobs, seed=request.seed)
        runs.append((figures(name, other, names), other))
        progress(name, len(jobs), len(jobs), 0)
    notes = _notes(request, policy, jobs, history, problems, world.why_waiting())
    files = write_report(request.out, f"Replay of {request.trace.name}", notes, runs, problems)
    return Result(tuple(runs), problems, tuple(files), tuple(notes))


def _check_reading(reading: Reading, format: Format) -> None:
    """What only another format could use would be passed over in silence."""
    if reading.order is not None and format is not Format.OPENB:
        raise BadFile("--order", "", f"is for pods of openb, and the trace is read as {format}")
    if reading.swf_gpus and format is not Format.SWF:
        raise BadFile("--swf-gpus", "", f"is for the Standard Workload Format, and the trace is read as {format}")


def _sample_s(jobs: Sequence[TraceJob]) -> int:
    """Some hundred samples of a short trace, one an hour of a long one."""
    began = jobs[0].submit_s
    lasts = max(job.submit_s - began + (job.duration_s or 0) for job in jobs)
    return min(3600, max(1, lasts // 200))


def _notes(
    request: Request, policy: Policy, jobs: Sequence[TraceJob], history: History, problems: Problems, why: Counter[str]
) -> list[str]:
    notes = [
        f"{len(jobs):,} jobs on {history.gpus:,} GPUs; cluster {request.cluster.name}, policy {request.policy.name}, "
        f"run times known: {request.options.limits}, may be suspended: {request.options.suspendable}."
    ]
    if problems.listed:
        notes.append(f"{len(problems.listed):,} lines were bad and left out; report.json lists them.")
    ran_as = Counter((job.tier, request.options.tier_of(job, policy)) for job in jobs)
    for (tier, used), count in sorted(ran_as.items()):
        if tier and tier != used:
            notes.append(f"{count:,} jobs name the tier {tier}, which the policy does not have: they ran as {used}.")
        elif not tier and used != request.options.default_tier:
            notes.append(f"{count:,} jobs name no tier: they ran as {used}.")
    for reason, count in sorted(problems.passed_over.items()):
        notes.append(f"{count:,} lines were passed over: {reason}.")
    for reason, count in sorted(why.most_common(REASONS), key=lambda told: (-told[1], told[0])):
        notes.append(f"{count:,} jobs never started: {reason}")
    if request.baselines:
        notes.append(
            "The baselines know every run time exactly, except fifo, best-fit and random, which need none. None knows "
            "quotas, labels, topology, hours or the calendar."
        )
    return notes
