"""A cluster without machines: nodes are network namespaces with a real sshd each.

`Lab.up()` builds one and writes an inventory for it; `Lab.down()` removes every trace.
"""

from preflight.lab.lab import Lab

__all__ = ["Lab"]
