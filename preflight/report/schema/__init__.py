"""The published schemas of what is written as JSON."""

from importlib.resources import files


def snapshot_schema() -> str:
    """The JSON Schema (draft 2020-12) of `preflight/snapshot/1`, as text."""
    return _text("snapshot-1.json")


def diff_schema() -> str:
    """That of `preflight/diff/1`."""
    return _text("diff-1.json")


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")
