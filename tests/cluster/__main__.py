"""`make cluster`: a whole cluster on this machine until Ctrl-C, then nothing of it."""

import argparse
import asyncio
import signal
import sys

from portal.told import Told
from tests.cluster.cluster import Cluster
from tests.cluster.network import CannotRun
from tests.cluster.starting import running_cluster
from tests.prepare import prepare


def main() -> int:
    asked = argparse.ArgumentParser(prog="make cluster", description=__doc__)
    asked.add_argument("--nodes", type=int, default=3, choices=range(1, 33), metavar="N", help="default: %(default)s")
    asked.add_argument("--gpus", type=int, default=2, choices=range(17), metavar="N", help="simulated, per node")
    asked.add_argument("--lease", default="30s", help="BERTH_NODE_LEASE; a node that is cut off is lost after so long")
    asked.add_argument("--no-lab", action="store_true", help="without JupyterLab's image: quicker, for jobs alone")
    options = asked.parse_args()
    if missing := prepare():
        print(f"A cluster needs these packages; as root: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 1
    # A shell that starts us in the background lets us ignore the first of them.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        with running_cluster(
            nodes=options.nodes, gpus=options.gpus, lab=not options.no_lab, BERTH_NODE_LEASE=options.lease
        ) as cluster:
            tell(cluster)
            asyncio.run(_until_told())
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # it ends by itself now, and must not do so half
    except CannotRun as refusal:
        print(f"make cluster: {refusal}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped before it was ready; nothing is left.")
        return 130
    print("Stopped; nothing is left.")
    return 0


async def _until_told() -> None:
    await Told().once.wait()


def tell(cluster: Cluster) -> None:
    """What a person needs to know to use it."""
    states = cluster.states()
    print(f"\nThe cluster is ready: {cluster.url}   (Ctrl-C stops it and takes all of it away)")
    print(f"    sign in as: admin   password: {cluster.password}")
    print(f"    certificate, of its own making: {cluster.tls.certificate}")
    print("    workspaces open below: " + cluster.environment["BERTH_GATEWAY_URL"])
    print(f"    PostgreSQL {cluster.network.control}:{cluster.postgres.port}, Redis {cluster.redis.node_url}")
    print("    processes: " + ", ".join(f"{part.name} {part.process.pid}" for part in cluster.parts if part.process))
    print(f"    logs: {cluster.folder}/*.log\n")
    print(f"    {'node':8} {'state':9} {'GPUs':5} {'address':15} engine")
    for node in cluster.nodes.values():
        gpus = f"{node.gpus} sim"
        print(f"    {node.name:8} {states[node.name]:9} {gpus:5} {node.address:15} {node.engine.url}")
    print(flush=True)


if __name__ == "__main__":
    sys.exit(main())
