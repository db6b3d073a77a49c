"""The `berth` command: one function for each verb.

Exit codes: 0 done; 1 the portal refused; 2 the words make no sense; 3 there is no such thing; 4 nobody is signed in;
5 the portal does not answer. `run` ends with the job's own code; 124 if it reached its time limit, 125 if it was
cancelled or never ran.
"""

import argparse
import getpass
import json
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from portal.cli import options
from portal.cli.client import Berth, CannotAsk, NotSignedIn, Refused
from portal.cli.render import job_lines, jobs_table, plain, why_lines

REFUSED, NONSENSE, MISSING, STRANGER, SILENCE = 1, 2, 3, 4, 5
TIMED_OUT, NEVER_ENDED_ITSELF = 124, 125
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    words = options.parser().parse_args(arguments)
    try:
        return VERBS[words.verb](words)
    except Refused as why:
        say(plain(why))
        return MISSING if why.status == 404 else REFUSED
    except NotSignedIn as why:
        say(plain(why))
        return STRANGER
    except CannotAsk as why:
        say(plain(why))
        return SILENCE
    except (ValueError, OSError) as why:  # an option, or a file that cannot be read
        say(plain(why))
        return NONSENSE
    except KeyboardInterrupt:
        return INTERRUPTED


def say(text: str) -> None:
    """Beside the output, which may go to a program."""
    print(f"berth: {text}", file=sys.stderr, flush=True)


def show_json(data: Any) -> None:
    print(json.dumps(data, indent=2))


def login(words: argparse.Namespace) -> int:
    token = sys.stdin.readline() if words.token_stdin else getpass.getpass("Token: ")
    berth = Berth(url=words.url.rstrip("/"), token=token.strip())
    if not berth.token.isascii() or not berth.token.isprintable() or not berth.token:
        raise ValueError("That is no token; make one with `manage.py create_token` on the portal's machine.")
    berth.call("GET", "jobs?limit=1")
    print(f"Signed in at {berth.url}; the token is kept in {berth.keep()}.")
    return 0


def submit(words: argparse.Namespace) -> int:
    made = _submitted(Berth.signed_in(), words)
    if words.json:
        show_json(made)
    else:
        print(made["id"] if words.quiet else f"Job {made['id']} is {made['state']}.")
    return 0


def run(words: argparse.Namespace) -> int:
    """Ctrl-C stops following; the job goes on."""
    berth = Berth.signed_in()
    job = int(_submitted(berth, words)["id"])
    try:
        over = berth.wait(job, news=lambda seen: None if words.quiet else say(_news(seen)))
    except KeyboardInterrupt:
        say(f"job {job} goes on; `berth show {job}` looks at it, `berth cancel {job}` ends it.")
        return INTERRUPTED
    if words.json:
        show_json(over)
    elif words.quiet:
        print(job)
    elif over["log_tail"]:
        print(plain(over["log_tail"], lines=True).rstrip())
    if over["state"] == "succeeded":
        return 0
    if over["state"] == "failed":
        return int(over["exit_code"] or NEVER_ENDED_ITSELF) & 0xFF
    return TIMED_OUT if over["state"] == "timed_out" else NEVER_ENDED_ITSELF


def _news(job: dict[str, Any]) -> str:
    reason = f": {job['reason']}" if job["reason"] else ""
    return plain(f"job {job['id']} is {job['state'].replace('_', ' ')}{reason}")


def _submitted(berth: Berth, words: argparse.Namespace) -> dict[str, Any]:
    script = ""
    if words.script is not None:
        script = sys.stdin.read() if str(words.script) == "-" else words.script.read_text()
    return berth.submit(**options.asked(words, script))


def ls(words: argparse.Namespace) -> int:
    found = Berth.signed_in().jobs(team=words.team, owner=words.owner, state=words.state, array=words.array)
    jobs = list(islice(found, max(0, words.limit)))
    if words.json:
        show_json(jobs)
    elif words.quiet:
        for job in jobs:
            print(job["id"])
    elif jobs:
        print(jobs_table(jobs))
    else:
        say("there are no such jobs; `berth submit -- COMMAND` makes one.")
    return 0


def show(words: argparse.Namespace) -> int:
    job = Berth.signed_in().job(words.job)
    show_json(job) if words.json else print(job_lines(job))
    return 0


def why(words: argparse.Namespace) -> int:
    told = Berth.signed_in().why(words.job)
    show_json(told) if words.json else print(why_lines(told) or "It does not wait.")
    return 0


def cancel(words: argparse.Namespace) -> int:
    berth = Berth.signed_in()
    told = [berth.cancel(job) for job in words.jobs]
    if words.json:
        show_json(told)
    for job in [] if words.json else told:
        print(job["id"] if words.quiet else plain(f"Job {job['id']} is {job['state'].replace('_', ' ')}."))
    return 0


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "login": login, "submit": submit, "run": run, "ls": ls, "show": show, "why": why, "cancel": cancel,
}  # fmt: skip


def entry() -> None:
    sys.exit(main())


if __name__ == "__main__":
    entry()
