"""The connectivity check, without a cluster: its workloads, and what their pods' states mean."""
