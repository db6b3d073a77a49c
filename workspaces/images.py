"""The catalogue that Berth ships. Rows are made once; what an admin changes afterwards is his."""

from dataclasses import dataclass

from workspaces.models import Image


@dataclass(frozen=True, slots=True)
class Entry:
    slug: str
    name: str
    reference: str
    summary: str
    order: int
    drivers: tuple[str, ...] = ("docker",)


#: what the process driver runs; no engine ever sees this name
LOCAL = "local/lab"

CATALOGUE = (
    Entry("local-lab", "JupyterLab of this machine", LOCAL, "Python with JupyterLab, no container.", 1, ("process",)),
    Entry(
        "berth-lab",
        "JupyterLab (local)",
        "berth/lab:latest",
        "Built here with `make image`; needs no registry.",
        10,
        ("docker", "simulated"),
    ),
    Entry(
        "minimal",
        "Jupyter minimal",
        "quay.io/jupyter/minimal-notebook:2025-03-14",
        "Python, git and LaTeX to start from (Jupyter Docker Stacks).",
        20,
    ),
    Entry(
        "scipy",
        "Jupyter SciPy",
        "quay.io/jupyter/scipy-notebook:2025-03-14",
        "pandas, matplotlib, scikit-learn and friends (Jupyter Docker Stacks).",
        30,
    ),
    Entry(
        "pytorch-cuda",
        "Jupyter PyTorch, CUDA 12",
        "quay.io/jupyter/pytorch-notebook:cuda12-2025-03-14",
        "PyTorch built for NVIDIA GPUs (Jupyter Docker Stacks).",
        40,
    ),
    Entry(
        "tensorflow-cuda",
        "Jupyter TensorFlow, CUDA",
        "quay.io/jupyter/tensorflow-notebook:cuda-2025-03-14",
        "TensorFlow built for NVIDIA GPUs (Jupyter Docker Stacks).",
        50,
    ),
)


def ship_catalogue() -> None:
    """Add the shipped entries that are not there yet."""
    there = set(Image.objects.values_list("slug", flat=True))
    Image.objects.bulk_create(
        [
            Image(
                slug=entry.slug,
                name=entry.name,
                reference=entry.reference,
                summary=entry.summary,
                order=entry.order,
                drivers=list(entry.drivers),
            )
            for entry in CATALOGUE
            if entry.slug not in there
        ]
    )
