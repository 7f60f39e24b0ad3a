"""What is known of the nodes besides their packets, and what of it stands in Cilium's way. Pure."""
