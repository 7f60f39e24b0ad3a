"""A Kubernetes cluster, over its API server: read, watched and, where a command says so, written.

The only room that imports the `kubernetes` client, an optional extra. `api.connect` gives a
`Cluster`; objects are plain dicts as the API server sends them; every failure is a
`ClusterError` of one line.
"""
