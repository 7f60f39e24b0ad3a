"""What but a rule ended our packets in this node: the kernel's counts, reasons and settings."""
