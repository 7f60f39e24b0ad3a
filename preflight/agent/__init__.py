"""Looks: runs on the node, from Python 3.6 on, with nothing but the standard library.

Sent to the node as source text (`transport.bundle`). `core` never comes along: an agent reports
what it saw and judges nothing. The modules avoid the standard library's slow imports (socket, json,
hashlib, signal, typing): at 50 nodes on one bastion those are most of an agent's start.
"""
