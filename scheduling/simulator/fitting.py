"""A trace meets a cluster: teams are made known, and jobs that could never run there are refused or left out."""

from collections.abc import Iterator, Mapping

from scheduling.core.places.filters import ISLAND, NODE
from scheduling.core.policy import Policy
from scheduling.simulator.empty import EmptyCluster, Never
from scheduling.simulator.site import NoSuchTeam, Site
from scheduling.simulator.traces.job import TraceJob
from scheduling.simulator.traces.problems import BadTrace, Problems

TOO_LARGE = "larger than the cluster, or than its team's part of it"


def fitting_jobs(
    jobs: Iterator[TraceJob],
    site: Site,
    policy: Policy,
    problems: Problems,
    file: str,
    called: Mapping[str, str] | None = None,
) -> list[TraceJob]:
    """The jobs that the empty cluster could hold. One that waits for ever would look like a very long wait. `called`:
    what the file calls the things of a job, where it is not what Berth calls them."""
    read = list(jobs)
    site.meet({job.team for job in read})
    empty, called, fit = EmptyCluster(site, policy), called or {}, []
    for job in read:
        try:
            _check_levels(job, (*policy.levels, NODE, ISLAND), file)
            never = empty.refuses(job)
            if never is not None:
                column = called.get(never.column, never.column)
                raise BadTrace(file, job.line, column, f"job {job.id} needs {_size(job)}: {_why(never)}")
        except NoSuchTeam as missing:
            problems.bad(BadTrace(file, job.line, called.get("team", "team"), f"job {job.id}: {missing}"))
        except BadTrace as problem:
            problems.bad(problem)
        else:
            fit.append(job)
    return fit


def _check_levels(job: TraceJob, levels: tuple[str, ...], file: str) -> None:
    for column, level in (
        ("topology_required", job.topology_required),
        ("topology_preferred", job.topology_preferred),
    ):
        if level and level not in levels:
            raise BadTrace(file, job.line, column, f"the policy has no level {level!r}, only {', '.join(levels)}")


def _why(never: Never) -> str:
    return f"{TOO_LARGE}, even with nothing else there. {never.why}".rstrip()


def _size(job: TraceJob) -> str:
    """`2 x (8 GPUs, 16 cores)`: what it says, and nothing of what it does not."""
    gpus = job.mig or (f"{job.gpus * job.gpu_thousandths / 1000:g} GPU{'s' * (job.gpus != 1)}" if job.gpus else "")
    cores = f"{job.cpu_millis / 1000:g} core{'s' * (job.cpu_millis != 1000)}" if job.cpu_millis else ""
    memory = f"{job.memory_mib / 1024:g} GiB" if job.memory_mib else ""
    each = ", ".join(filter(None, (gpus, cores, memory))) or "nothing"
    return f"{job.replicas} x ({each})" if job.replicas > 1 else each
