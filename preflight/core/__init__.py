"""Thinks: pure functions and values. No sockets, files, clock, threads or third-party imports."""
