"""Tells: a snapshot as a table for people, as JSON for scripts, and what goes on meanwhile."""
