"""What all labs of a machine share: changed by the first one up, put back by the last one down.

The change is written down before it is made, so that it can be undone whenever we are killed.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from preflight.lab import namespaces

# Namespaces share the root one's neighbour tables, and a full table drops packets without a word:
# 33 nodes in one rack, each with an entry for each other, fill the usual 1024.
_NEIGHBOUR_LIMITS = {"gc_thresh1": 32768, "gc_thresh2": 65536, "gc_thresh3": 131072}
SYSCTLS: Mapping[str, int] = {
    f"net/{family}/neigh/default/{key}": value
    for family in ("ipv4", "ipv6")
    for key, value in _NEIGHBOUR_LIMITS.items()
}


def prepare(record: Path, proc_sys: Path = Path("/proc/sys")) -> None:
    """Raise the neighbour limits and make room for namespaces, unless `record` says it was done."""
    if not record.exists():
        former = {}
        for key, wanted in SYSCTLS.items():
            setting = proc_sys / key  # a container's own network has none: the host's limits hold
            if setting.exists() and (value := int(setting.read_text("ascii"))) < wanted:
                former[key] = value
        made_directory = not namespaces.is_prepared()
        text = json.dumps({"sysctls": former, "made_netns_directory": made_directory})
        partial = record.with_suffix(".partial")
        partial.write_text(text, encoding="ascii")
        partial.replace(record)
        for key in former:
            (proc_sys / key).write_text(str(SYSCTLS[key]), encoding="ascii")
    namespaces.prepare()


def restore(record: Path, proc_sys: Path = Path("/proc/sys")) -> None:
    """Undo `prepare`; what somebody else has changed since stays as they want it."""
    if not record.exists():
        return
    changed = json.loads(record.read_text("ascii"))
    for key, former in changed["sysctls"].items():
        setting = proc_sys / key
        if int(setting.read_text("ascii")) == SYSCTLS[key]:
            setting.write_text(str(former), encoding="ascii")
    if changed["made_netns_directory"]:
        namespaces.unprepare()
    record.unlink()
