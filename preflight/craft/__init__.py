"""The one place that knows scapy: it crafts the templates and dissects what comes back odd.

Templates leave blank what differs from probe to probe (addresses, ports, token, checksum); the
agent patches those bytes at a rate that scapy could not reach.
"""
