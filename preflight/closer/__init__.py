"""The closer look at what is not open: who ends it, where and why."""
