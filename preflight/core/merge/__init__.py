"""Several snapshots of one fleet as one: rows that were measured on separate machines."""
