"""Alibaba's openb: arrivals only, until demand is 130 % of the GPUs; the score is the share of GPUs held."""

import time
from collections.abc import Iterator
from pathlib import Path

from scheduling.simulator.arrivals import replay_arrivals, site_of
from scheduling.simulator.baselines.arrivals import best_fit, random_fit, replay
from scheduling.simulator.traces import openb
from scheduling.simulator.traces.problems import Problems
from tests.benchmarks.philly import Line

#: published, mean of ten orders: random, best fit, FGD
PUBLISHED = {
    "gpuspec10": (87.43, 93.30, 94.95),
    "gpushare40": (86.00, 91.69, 94.15),
    "multigpu20": (88.69, 93.93, 95.65),
}
SEEDS = (42, 43, 44)


def scores(folder: Path, *, baselines: bool) -> Iterator[Line]:
    nodes = openb.read_nodes(folder / "openb_node_list_gpu_node.csv.gz")
    for workload, (random, best, fgd) in PUBLISHED.items():
        pods = folder / f"openb_pod_list_{workload}.csv.gz"
        order = folder / f"arrival_order_{workload}.csv.gz"
        orders = [list(openb.read_in_order(pods, order, f"seed_{seed}", Problems())) for seed in SEEDS]
        rules = {"Berth": (lambda jobs: replay_arrivals(jobs, site_of(nodes)), fgd, "FGD")}
        if baselines:
            rules["replayer: random"] = (lambda jobs: replay(jobs, nodes, random_fit(1)), random, "published")
            rules["replayer: best fit"] = (lambda jobs: replay(jobs, nodes, best_fit), best, "published")
        for name, (rule, wanted, what) in rules.items():
            began = time.process_time()
            mean = sum(rule(jobs).percent for jobs in orders) / len(orders)
            took = time.process_time() - began
            reached = mean >= wanted if name == "Berth" else None
            yield Line(f"openb {workload}, {name}", f"{mean:.2f} %", f"{wanted:.2f} % ({what})", reached, took)
