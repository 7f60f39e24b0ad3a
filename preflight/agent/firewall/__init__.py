"""Which rule of this node ended our packets: nf_tables by its trace, xtables by its counters."""
