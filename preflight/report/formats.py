"""Every form that a snapshot can be written in: `check` and `show` print through this one door."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from preflight.core.view import View


class ReportFormat(StrEnum):
    """How a snapshot is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"
    HTML = "html"
    JUNIT = "junit"

    @property
    def for_people(self) -> bool:
        """True where the text itself says what a filter leaves out."""
        return self in (ReportFormat.TABLE, ReportFormat.MARKDOWN, ReportFormat.HTML)


@dataclass(frozen=True, slots=True)
class Look:
    """What a reader may choose; a format takes of it what means something to it."""

    width: int = 80  # cells in a line
    color: bool = False
    strict: bool = False  # what is recommended is taken as required
    full: bool = False  # nothing is left out for shortness


def write(view: View, form: ReportFormat, look: Look, file: TextIO) -> None:
    """Write what is shown of a snapshot to `file`; each format is imported only when asked for."""
    if form is ReportFormat.JSON:
        from preflight.report.json import dump_view

        dump_view(view, file)
    elif form is ReportFormat.CSV:
        from preflight.report.csv import dump

        dump(view.shown, file)
    elif form is ReportFormat.MARKDOWN:
        from preflight.report.markdown import render as markdown

        markdown(view, file, full=look.full)
    elif form is ReportFormat.JUNIT:
        from preflight.report.junit import render as junit

        junit(view, file, strict=look.strict)
    elif form is ReportFormat.HTML:
        from preflight.report.html import render as html

        html(view.noted, file)
    else:
        from preflight.report.table import render_view

        render_view(view, width=look.width, color=look.color, file=file)
