"""The published schemas of what is written as JSON."""

from importlib.resources import files


def snapshot_schema() -> str:
    """The JSON Schema (draft 2020-12) of `preflight/snapshot/1`, as text."""
    return files(__package__).joinpath("snapshot-1.json").read_text("utf-8")
