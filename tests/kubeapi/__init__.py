"""Kubernetes API servers for tests: a real control plane, and an emulator that is up in no time.

A test asks for the fixture `kube` (in `fixtures`, imported by tests/conftest.py) and gets a server
of its own. It runs on the emulator; with PREFLIGHT_TEST_CLUSTER=1 it runs a second time on a real
etcd, kube-apiserver, kube-controller-manager and kube-scheduler (marked `cluster`), built by
`scripts/cluster` from Debian's source package of Kubernetes. `scripts/test-cluster` does both.
tests/test_kubeapi.py holds the emulator to what the real one does.

    def test_something(kube, raw):
        raw.make("/api/v1/namespaces", {"metadata": {"name": "x"}})   # never the product's client
        with Wire(kube.url) as wire:                                   # a way that a test can break
            result = run("cilium", "status", "--kubeconfig", kube.kubeconfig("viewer", wire.url))

- `kube.kubeconfig(user)`: a file for `admin`, `viewer` and `nobody` (rights from RBAC objects that
  the test makes) or `stranger` (401).
- `Raw` (`raw`): requests, watches and `until`, which waits for a state and never sleeps blindly.
- `scene`: nodes, the Cilium CRDs, an installation of Cilium, and pods that become ready; and
  `Kubelets`, a thread that does for pods what their nodes would do: states by a rule of the test's,
  and an end to those that are to go.
- `wire.Wire`: a TCP proxy before either server: refuse, cut, hold, or break after so many bytes.
- `emulator.hooks` (the emulator alone): refusals with any status (429 with Retry-After, 500), logs,
  and `exec` by a real local process; `kubelet.Kubelet` does the last two behind a real server.

What the emulator leaves out: server-side apply (415, said aloud), defaulting beyond what is needed,
admission beyond a namespace's end, protobuf and tables, resource quotas, quantities and resources
in scheduling, evictions; RBAC roles that Kubernetes ships; discovery documents. Its bookmarks come
every second rather than every minute, and it keeps every version until a test calls
`api.store.compact()`. Its schema is that of the client's release; the real one is older.
"""
