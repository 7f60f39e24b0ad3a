"""The few statements that explain every cell that is not open, and what to change. Pure."""
