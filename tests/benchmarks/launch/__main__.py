"""Runs the whole comparison. Options say how long; nothing here passes or fails, it measures.

python -m tests.benchmarks.launch [--rounds 5] [--trips 200] [--seconds 5] [--no-docker]
    [--only launch|trips|load]
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import time

import aiohttp

from tests.benchmarks.launch import environment, report
from tests.benchmarks.launch.berth import Berth
from tests.benchmarks.launch.jupyter import Http, Place, connected, first_cell, round_trip, start_kernel
from tests.benchmarks.launch.load import CONNECTIONS, messages_per_second, requests_per_second
from tests.benchmarks.launch.peers import HUB, LAB, Hub, LabAlone, Peer, Proxy

WARM_UP = 10  # a new socket's and a new kernel's first messages also set them up
DIRECT, GATEWAY, PROXY = "the server itself", "Berth's gateway", "configurable-http-proxy"
Paths = dict[str, Place]


async def launches(http: Http, peers: list[Peer], *, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds until the server answers and until the first cell has printed, per peer and round.

    The peers take turns, each round begins with another one, and the first round only warms the disk's cache.
    """
    seconds: dict[str, list[tuple[float, float]]] = {peer.name: [] for peer in peers}
    for number in range(rounds + 1):
        turn = number % len(peers)
        for peer in peers[turn:] + peers[:turn]:
            begun = time.perf_counter()
            place = await peer.open(http)
            ready = time.perf_counter() - begun
            await first_cell(http, place)
            total = time.perf_counter() - begun
            await peer.close(http)
            if number:
                seconds[peer.name].append((ready, total))
            print(
                f"  round {number or 'warm-up'}: {peer.name}: {ready:.2f} s, first cell {total:.2f} s", file=sys.stderr
            )
    return seconds


async def trips(http: Http, paths: Paths, *, count: int) -> dict[str, list[float]]:
    """Round trips one by one in turns, each path with a kernel and a socket of its own.

    So the first trip of every path falls into the same moment, and so does the hundredth: what a busy machine adds
    goes out again in the differences.
    """
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    async with contextlib.AsyncExitStack() as sockets:
        kernels = {
            name: await sockets.enter_async_context(connected(http, place, await start_kernel(http, place)))
            for name, place in paths.items()
        }
        for number in range(WARM_UP + count):
            for name, kernel in kernels.items():
                took = await round_trip(kernel)
                if number >= WARM_UP:
                    seconds[name].append(took)
    return seconds


async def loads(http: Http, paths: Paths, *, seconds: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Requests and WebSocket messages per second by each path, in turns."""
    rates: dict[str, dict[str, list[float]]] = {name: {"requests": [], "messages": []} for name in paths}
    for _ in range(rounds):
        for name, place in paths.items():
            rates[name]["requests"].append(await requests_per_second(place, "/api", seconds=seconds))
            rates[name]["messages"].append(await messages_per_second(http, place, seconds=seconds))
            done = f"{rates[name]['requests'][-1]:.0f} requests/s, {rates[name]['messages'][-1]:.0f} messages/s"
            print(f"  {name}: {done}", file=sys.stderr)
    return rates


def print_launches(seconds: dict[str, list[tuple[float, float]]], hub: str) -> None:
    base = statistics.median(total for _, total in seconds[hub])
    rows = [
        [
            name,
            report.spread([r for r, _ in pairs]),
            report.spread([t for _, t in pairs]),
            f"{_total(pairs) / base:.2f}",
        ]
        for name, pairs in seconds.items()
    ]
    print("\nCold launch, seconds: median (fastest to slowest)")
    print(report.table(["", "click to server", "click to first cell", "x JupyterHub"], rows))
    for name, target in (("Berth, process driver", 0.7), ("Berth, docker driver", 0.9)):
        if name in seconds:
            ratio = _total(seconds[name]) / base
            print(report.verdict(f"{name} against JupyterHub", ratio, f"at most {target}", reached=ratio <= target))


def _total(pairs: list[tuple[float, float]]) -> float:
    return statistics.median(total for _, total in pairs)


def print_trips(seconds: dict[str, list[float]]) -> None:
    added = {
        name: statistics.median(here - there for here, there in zip(values, seconds[DIRECT], strict=True)) * 1000
        for name, values in seconds.items()
    }
    rows = [
        [name, f"{statistics.median(values) * 1000:.2f}", f"{added[name]:+.2f}", str(len(values))]
        for name, values in seconds.items()
    ]
    print("\nKernel round trip (execute 1+1 until reply and idle), milliseconds: median; median added, trip by trip")
    print(report.table(["", "round trip", "added", "trips"], rows))
    print(report.verdict("added by Berth's gateway, ms", added[GATEWAY], "at most 1", reached=added[GATEWAY] <= 1))


def print_loads(rates: dict[str, dict[str, list[float]]]) -> None:
    rows = [[name, *(f"{statistics.median(by[kind]):.0f}" for kind in by)] for name, by in rates.items()]
    print(f"\nThrough to one session at {CONNECTIONS} connections, per second: median")
    print(report.table(["", "GET /api", "WebSocket messages"], rows))
    for kind in ("requests", "messages"):
        ours, theirs = (statistics.median(rates[name][kind]) for name in (GATEWAY, PROXY))
        print(
            report.verdict(
                f"{kind} against configurable-http-proxy", ours / theirs, "at least 1", reached=ours >= theirs
            )
        )


async def main(options: argparse.Namespace) -> None:
    packages = ["jupyterlab", "jupyter_server", "ipykernel", "tornado"]
    print(f"Machine: {report.machine()}")
    print(report.others("before"))
    print(f"JupyterHub's side: {report.versions(HUB / 'python', ['jupyterhub', *packages])}")
    print(f"Berth's side: {report.versions(LAB / 'python', packages)}")
    launching = options.only in (None, "launch")
    hub, berth = Hub(), Berth(driver="process", image="local-lab", settings={})
    async with contextlib.AsyncExitStack() as running:
        engine = running.enter_context(environment.engine(wanted=launching and not options.no_docker))
        print(f"Docker: {engine.sentence}", flush=True)
        http = await running.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=300))
        )
        for peer in (hub, berth):
            running.push_async_callback(peer.end)
            await peer.start(http)
        if launching:
            peers: list[Peer] = [hub, berth, LabAlone(trimmed=False), LabAlone(trimmed=True)]
            async with contextlib.AsyncExitStack() as only_now:
                if engine.settings:
                    contained = Berth(driver="docker", image="berth-lab", settings=engine.settings)
                    only_now.push_async_callback(contained.end)
                    await contained.start(http)
                    peers.insert(2, contained)
                for alone in peers[-2:]:
                    only_now.push_async_callback(alone.end)
                print_launches(await launches(http, peers, rounds=options.rounds), hub.name)
        if options.only != "launch":
            await sessions(http, hub, berth, options)


async def sessions(http: Http, hub: Hub, berth: Berth, options: argparse.Namespace) -> None:
    """One JupyterLab of Berth's by three paths, and for the round trips JupyterHub's own beside it."""
    through = await berth.open(http)
    direct = berth.server_behind()
    proxy = Proxy(direct)
    try:
        await proxy.start(http)
        paths = {DIRECT: direct, GATEWAY: through, PROXY: proxy.place}
        if options.only in (None, "trips"):
            beside = await hub.open(http)
            print_trips(await trips(http, paths | {"JupyterHub, its server and proxy": beside}, count=options.trips))
            await hub.close(http)
        if options.only in (None, "load"):
            print_loads(await loads(http, paths, seconds=options.seconds, rounds=options.rounds))
    finally:
        await proxy.end()
        await berth.close(http)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make bench-launch", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="measured launches per peer")
    parser.add_argument("--trips", type=int, default=200, help="kernel round trips per path")
    parser.add_argument("--seconds", type=int, default=5, help="seconds of load per measurement")
    parser.add_argument("--no-docker", action="store_true", help="leave the Docker driver out")
    parser.add_argument("--only", choices=["launch", "trips", "load"])
    chosen = parser.parse_args()
    environment.prepare()
    asyncio.run(main(chosen))
