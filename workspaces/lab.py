"""What a workspace runs: JupyterLab, started by a script that is handed over on the command line.

Handed over, and not installed, so that any Jupyter image serves unchanged: the Docker Stacks, a team's own, ours.
"""

import ast
from functools import cache
from pathlib import Path

START = Path(__file__).with_name("lab_start.py")


@cache
def command() -> list[str]:
    """Return the argv that starts JupyterLab in a workspace; the process driver puts its own Python for `python3`.

    Comments and docstrings stay here: `ps` in the workspace and the engine's `inspect` show the whole line.
    """
    script = ast.parse(START.read_text(encoding="utf-8"))
    for node in ast.walk(script):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ["python3", "-c", ast.unparse(script)]
