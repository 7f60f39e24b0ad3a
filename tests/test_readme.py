"""The README says what the code says."""

import re
from pathlib import Path

from preflight.core.diff.turns import readme_table as turns_table
from preflight.core.verdict import readme_table
from preflight.errors import ExitCode
from preflight.report.symbols import LEGEND, NOT_PLANNED

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def test_cells_are_explained_by_the_verdict_table() -> None:
    shown = README.split("<!-- verdicts:", 1)[1].split("-->\n", 1)[1].split("<!-- end", 1)[0]
    assert shown.strip() == readme_table().strip()


def test_what_becomes_of_a_cell_is_told_by_the_table_of_turns() -> None:
    shown = README.split("<!-- turns:", 1)[1].split("-->\n", 1)[1].split("<!-- end", 1)[0]
    assert shown.strip() == turns_table().strip()


def test_every_symbol_of_the_matrix_is_listed() -> None:
    shown = README.split("<!-- symbols -->", 1)[1].split("<!-- end", 1)[0]
    listed = dict(re.findall(r"^- `(.)` (.*)$", shown, re.MULTILINE))
    assert listed == {sign: text for sign, text in LEGEND.items() if sign != NOT_PLANNED}


def test_every_exit_code_is_listed_and_no_other() -> None:
    section = README.split("## Exit codes", 1)[1].split("\n## ", 1)[0]
    listed = [int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)]
    assert listed == sorted(ExitCode)


def test_every_path_it_names_exists() -> None:
    named = set(re.findall(r"`(?:\.venv/)?((?:preflight|scripts|inventory)/[\w./]+)`", README))
    named = {path for path in named if not re.search(r"/\d+$", path)}  # a schema's name
    assert len(named) >= 8
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
