"""The steps of a connectivity check: look, make, follow, and say what it means."""
