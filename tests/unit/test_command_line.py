"""What the `berth` command shows, and that it needs nothing of the portal."""

import subprocess
import sys
from pathlib import Path

from portal.cli.render import plain, table

ROOT = Path(__file__).resolve().parents[2]


def test_nothing_that_came_from_elsewhere_steers_the_terminal():
    assert plain("a\x1b[31mb\u202ec\nd\0") == "a\ufffd[31mb\ufffdc\ufffdd\ufffd"
    assert plain("a\x1b]0;x\x07\n\tb", lines=True) == "a\ufffd]0;x\ufffd\n\tb"


def test_a_table_is_aligned_with_numbers_to_the_right():
    assert table([(7, "one"), (12, "a")], head=("ID", "NAME")) == "ID  NAME\n 7  one\n12  a"


def test_it_runs_with_django_uninstalled():
    program = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"django", "rest_framework", "celery", "channels", "scheduling", "tenants", "workspaces"}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from portal.cli.main import main
main(["--help"])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "queue a job, follow it" in done.stdout
