"""The words of the `berth` command."""

import argparse
from pathlib import Path
from typing import Any


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="berth", description="Submit jobs to Berth, and look after them.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    login = verbs.add_parser("login", help="keep a portal's address and your token on this machine")
    login.add_argument("url", metavar="URL", help="as your browser has it, e.g. https://berth.example.org")
    login.add_argument("--token-stdin", action="store_true", help="read the token from standard input")

    for verb, words in (("submit", "queue a job"), ("run", "queue a job, follow it, and end with its exit code")):
        _asking(verbs.add_parser(verb, help=words))
    listed = verbs.add_parser("ls", help="list jobs, newest first")
    listed.add_argument("--team")
    listed.add_argument("--owner")
    listed.add_argument("--state", help="one or more, with commas between")
    listed.add_argument("--array", type=int, metavar="ID", help="the tasks of this array that have got a place")
    listed.add_argument("--limit", type=int, default=50, help="so many at most (default 50)")
    _formats(listed)
    for verb, words in (("show", "all of one job"), ("why", "why a job waits, and what would start it now")):
        one = verbs.add_parser(verb, help=words)
        one.add_argument("job", type=int, metavar="ID")
        _formats(one, quiet=False)
    cancelled = verbs.add_parser("cancel", help="end jobs, or take them off the queue")
    cancelled.add_argument("jobs", type=int, nargs="+", metavar="ID")
    _formats(cancelled)
    return top


def _formats(verb: argparse.ArgumentParser, *, quiet: bool = True) -> None:
    verb.add_argument("--json", action="store_true", help="print what the API answers")
    if quiet:
        verb.add_argument("-q", "--quiet", action="store_true", help="print ids only")


def _asking(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="what runs, after `--`")
    verb.add_argument("--script", type=Path, metavar="FILE", help="run this file instead; `-`: standard input")
    verb.add_argument("--team", help="in whose name; not needed if you work in one team")
    verb.add_argument("--name")
    verb.add_argument("--image")
    verb.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    verb.add_argument("--no-home", action="store_true", help="without your home of the team")
    verb.add_argument("--gpus", type=int)
    verb.add_argument("--gpu-memory", type=float, dest="gpu_memory_gib", metavar="GIB")
    verb.add_argument("--gpu-model", action="append", dest="gpu_models", metavar="MODEL")
    verb.add_argument("--pool", action="append", dest="pools", metavar="POOL")
    verb.add_argument("--replicas", type=int)
    verb.add_argument("--within", metavar="LEVEL", help="all replicas within one node, rack, block")
    verb.add_argument("--cpus", type=float)
    verb.add_argument("--memory", type=float, dest="memory_gib", metavar="GIB")
    verb.add_argument("--time", dest="time_limit", metavar="LIMIT", help="seconds, or 30s, 5m, 12h, 7d")
    verb.add_argument("--tier")
    verb.add_argument("--priority", type=int)
    verb.add_argument("--not-preemptible", action="store_true", help="never evict it; it may then borrow nothing")
    verb.add_argument("--not-before", metavar="TIME", help="e.g. 2026-12-01T20:00Z")
    verb.add_argument("--deadline", metavar="TIME")
    verb.add_argument("--retry", action="append", default=[], metavar="CAUSE=N", help="causes: node_lost, exit, launch")
    verb.add_argument("--array", metavar="TASKS", help="e.g. 0-99%%8")
    _formats(verb)


def asked(words: argparse.Namespace, script: str) -> dict[str, Any]:
    """The request for `submit` or `run`: what was said, and nothing else, so that the portal's defaults hold. Raises
    ValueError with a sentence."""
    plain = ("team", "name", "image", "gpus", "gpu_memory_gib", "gpu_models", "pools", "replicas", "within", "cpus",
             "memory_gib", "time_limit", "tier", "priority", "not_before", "deadline", "array")  # fmt: skip
    request: dict[str, Any] = {name: value for name in plain if (value := getattr(words, name)) is not None}
    if isinstance(limit := request.get("time_limit"), str) and limit.isdecimal():
        request["time_limit"] = int(limit)
    command = words.command[1:] if words.command[:1] == ["--"] else words.command
    if script:
        request |= {"script": script, "args": command}
    else:
        request["command"] = command
    if words.env:
        request["env"] = dict(_pair(pair, "--env", "NAME=VALUE") for pair in words.env)
    if words.retry:
        rules = dict(_pair(pair, "--retry", "CAUSE=N") for pair in words.retry)
        if odd := [count for count in rules.values() if not count.isdecimal()]:
            raise ValueError(f"--retry takes CAUSE=N with a whole number, not {odd[0]}.")
        request["retries"] = {cause: int(count) for cause, count in rules.items()}
    return (
        request | ({"home": False} if words.no_home else {}) | ({"preemptible": False} if words.not_preemptible else {})
    )


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{option} takes {form}, not {text}.")
    return name, value
