"""Facts about a node: one file for each source, `read` looks and `parse` understands.

Sent to a node when somebody asks for facts. Like the rest of the agent it needs Python 3.6 and its
standard library alone, changes nothing, not even the list of loaded modules, and judges nothing.
"""
