"""What changed between two runs: cell by cell, cause by cause."""
