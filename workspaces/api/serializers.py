"""Input and output of the workspace API, apart from each other."""

from typing import Any

from rest_framework import serializers

from workspaces.selectors import WorkspaceView
from workspaces.wiring import wired

_TOO_MANY = 10_000


class LaunchInput(serializers.Serializer[dict[str, Any]]):
    """What to launch. Sizes: cpus in cores (fractions allowed), memory_gib in GiB."""

    team = serializers.CharField(max_length=60)
    image = serializers.CharField(max_length=60, required=False, default="")
    name = serializers.CharField(max_length=200, required=False, allow_blank=True, default="", trim_whitespace=False)
    gpus = serializers.IntegerField(min_value=0, max_value=_TOO_MANY, default=1)
    cpus = serializers.FloatField(min_value=0.1, max_value=_TOO_MANY, default=1.0)
    memory_gib = serializers.FloatField(min_value=0.5, max_value=1_000_000, default=2.0)

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        unknown = sorted(set(data) - set(self.fields)) if isinstance(data, dict) else []
        if unknown:
            raise serializers.ValidationError({unknown[0]: f"There is no such field; known: {', '.join(self.fields)}."})
        return super().to_internal_value(data)


def workspace_out(view: WorkspaceView) -> dict[str, Any]:
    """A workspace as the API shows it. `url`: its base for programs, once it is ready; null before."""
    return {
        "id": view.id,
        "name": view.name,
        "team": view.team,
        "image": view.image_slug,
        "gpus": view.gpus,
        "cpus": view.cpu_millis / 1000,
        "memory_gib": view.memory_mib / 1024,
        "state": view.status,
        "reason": " ".join(part for part in (view.trouble, view.reason) if part),
        "remedy": view.remedy,
        "queue_place": view.place,
        "node": view.node or None,
        "devices": [{"model": m, "simulated": s, "uuid": u} for m, s, u in view.gpu_models],
        "pull": {"done_bytes": view.progress[0], "total_bytes": view.progress[1]} if view.progress else None,
        "steps": [{"name": s.name, "state": s.state, "seconds": s.seconds} for s in view.steps],
        "log_tail": view.log_tail,
        "isolated": view.isolated,
        "created_at": view.created_at,
        "ready_at": view.ready_at,
        "ends_at": view.ends_at,
        "url": f"{wired().gateway_url}/w/{view.id}/" if view.status == "ready" else None,
    }
