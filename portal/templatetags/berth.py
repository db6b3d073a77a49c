"""How numbers read on the pages. `static/tick.js` counts on in the same words as `duration`."""

from datetime import timedelta

from django import template

register = template.Library()


@register.filter
def duration(value: float | timedelta | None) -> str:
    """Seconds as "12 s", "3 min 05 s" or "2 h 07 min"; an em dash when unknown."""
    if value is None:
        return "—"
    seconds = max(0, int(value.total_seconds() if isinstance(value, timedelta) else value))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


@register.filter
def took(seconds: float | None) -> str:
    """A finished step's time: tenths below ten seconds, since that is where starts differ."""
    if seconds is None:
        return ""
    return f"{max(0.0, seconds):.1f} s" if seconds < 9.95 else duration(round(seconds))


@register.filter
def cores(millis: int) -> str:
    """Thousandths of a core as "2" or "0.5"."""
    return f"{millis / 1000:g}"


@register.filter
def gib(mib: int) -> str:
    """MiB as GiB: "4" or "1.5"."""
    return f"{mib / 1024:.2f}".rstrip("0").rstrip(".")


@register.filter
def megabytes(size: int) -> str:
    """Bytes as whole MB."""
    return f"{size // 1_000_000:,}"


@register.filter
def known(value: float | None, unit: str = "") -> str:
    """A reading with its unit, or "unknown": what a card does not report is not zero."""
    return "unknown" if value is None or value == "" else f"{value:.0f}{unit}"


@register.filter
def gib_or_unknown(mib: int | None) -> str:
    return "unknown" if mib is None or mib == "" else gib(mib)
