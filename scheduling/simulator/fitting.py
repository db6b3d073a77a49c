"""A trace meets a cluster: teams are made known, and jobs that could never run there are refused or left out."""

from collections.abc import Iterator

from scheduling.simulator.site import NoSuchTeam, Site
from scheduling.simulator.traces.job import TraceJob
from scheduling.simulator.traces.problems import BadTrace, Problems

TOO_LARGE = "larger than the cluster, or than its team's part of it"


def fitting_jobs(jobs: Iterator[TraceJob], site: Site, problems: Problems, file: str) -> list[TraceJob]:
    """The jobs that the empty cluster could hold. One that waits for ever would look like a very long wait."""
    read = list(jobs)
    site.meet({job.team for job in read})
    fit = []
    for job in read:
        try:
            if not site.could_ever_hold(job):
                raise BadTrace(
                    file, job.line, "gpus" if job.gpus else "cpu", f"job {job.id} needs {_size(job)}: {TOO_LARGE}"
                )
        except NoSuchTeam as missing:
            problems.bad(BadTrace(file, job.line, "team", f"job {job.id}: {missing}"))
        except BadTrace as problem:
            problems.bad(problem)
        else:
            fit.append(job)
    return fit


def _size(job: TraceJob) -> str:
    each = f"{job.gpus} GPUs, {job.cpu_millis / 1000:g} cores, {job.memory_mib / 1024:g} GiB"
    return f"{job.replicas} x ({each})" if job.replicas > 1 else each
