"""What links and mounts of /sys say."""

from __future__ import annotations

from nfvhost.access.root import Root


def linked_name(root: Root, path: str) -> str | None:
    """The last part of a link's target: the name of a driver or a function; None where there is no link."""
    target = root.read_link(path)
    return (target.rstrip("/").rpartition("/")[2] or None) if target is not None else None


def is_read_only(root: Root) -> bool:
    """Whether /sys cannot be written, as in most containers.

    Source: the last line of /proc/self/mounts (proc(5)) for /sys.
    """
    options: list[str] = []
    for line in (root.read_text("/proc/self/mounts") or "").splitlines():
        fields = line.split()
        if fields[1:3] == ["/sys", "sysfs"]:
            options = fields[3].split(",")
    return "ro" in options
