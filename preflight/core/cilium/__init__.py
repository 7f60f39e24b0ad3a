"""What of Cilium itself matters to the nodes' network: its configuration, and what it needs."""
