"""Sizes and spans of time as operators read them."""

from datetime import timedelta

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))
_BYTES = ("B", "kB", "MB", "GB", "TB")
KILO = 1000


def span(value: timedelta | None) -> str:
    """Return a time span in its largest fitting unit, e.g. `1.5 h`."""
    if value is None:
        return "-"
    seconds = value.total_seconds()
    for name, size in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.1f} s"


def size(count: float) -> str:
    """Return a number of bytes in its largest fitting unit."""
    for unit in _BYTES[:-1]:
        if count < KILO:
            return f"{count:.0f} {unit}"
        count /= KILO
    return f"{count:.1f} {_BYTES[-1]}"
