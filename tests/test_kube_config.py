"""Kubeconfigs that cannot be used: file, line, key, no secrets, and never Python's own words."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from preflight.cluster import plugin
from preflight.cluster.api import Access, connect
from preflight.errors import FileError, UsageError

SECRET = "geheim-4711"


def usual() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": SECRET}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "current-context": "c",
    }


def refused(text: str, tmp_path: Path) -> str:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises((FileError, UsageError)) as caught:
        connect(Access(file)).close()
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    assert len(said) < 400
    assert SECRET not in said
    return said.replace(str(file), "FILE")


USER = {"name": "u"}
EXEC = {"apiVersion": "client.authentication.k8s.io/v1", "command": "true"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"users": {"u": {"token": SECRET}}}, "users: must be a list"),
        ({"users": [SECRET]}, "users[0]: must be a mapping"),
        ({"users": [{"user": {"token": SECRET}}]}, "users[0]: has no name"),
        ({"users": [{**USER, "user": SECRET}]}, "users[0].user: must be a mapping"),
        ({"users": [{**USER, "user": {"token": [SECRET]}}]}, "users[0].user.token: must be text"),
        ({"users": [{**USER, "user": {"token": f"{SECRET}\nX: 1"}}]}, "holds a line break"),
        (
            {"users": [{**USER, "user": {"client-key-data": f"{SECRET}!"}}]},
            "users[0].user.client-key-data: is not base64",
        ),
        ({"users": [{**USER, "user": {"password": 17}}]}, 'is a number: put it in "quotes"'),
        ({"users": [{**USER, "user": {"exec": "aws"}}]}, "user.exec: must be a mapping"),
        ({"users": [{**USER, "user": {"exec": {"command": "x"}}}]}, "exec.apiVersion: is missing"),
        ({"users": [{**USER, "user": {"exec": {**EXEC, "args": 3}}}]}, "args: must be a list"),
        ({"users": [{**USER, "user": {"exec": {**EXEC, "args": [3]}}}]}, "args[0]: is a number"),
        ({"users": [{**USER, "user": {"exec": {**EXEC, "env": [{}]}}}]}, "env[0].name: is missing"),
        ({"users": []}, 'context "c" wants the user "u", and there is none'),
        ({"clusters": 3}, "clusters: must be a list"),
        ({"clusters": []}, 'context "c" wants the cluster "k", and there is none'),
        ({"clusters": [{"name": "k"}]}, "clusters[0].cluster: is missing"),
        ({"clusters": [{"name": "k", "cluster": {"server": 3}}]}, "server: is a number"),
        ({"clusters": [{"name": "k", "cluster": {"server": "http://h:%d"}}]}, "is not a URL"),
        ({"clusters": [{"name": "k", "cluster": {"server": "http://[::1"}}]}, "is not a URL"),
        ({"contexts": None}, "it has no contexts"),
        ({"current-context": ["x"]}, "current-context: must be text"),
        ({"current-context": ""}, 'it has no current-context; name one: --context, of "c"'),
        ({"current-context": "d"}, 'current-context "d" is not among its contexts'),
    ],
)
def test_what_is_wrong_is_told_by_its_key(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    assert said in refused(yaml.safe_dump({**usual(), **change}), tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "FILE: is empty"),
        ("- 1\n", "FILE:1: not a usable kubeconfig: clusters, users and contexts belong here"),
        ("!!python/object/apply:os.system ['true']", "FILE:1: not a usable kubeconfig: "),
        (f"users:\n- user: {{token: {SECRET}\n", "FILE:2: not valid YAML"),
        ("a: 1\n---\nb: 1\n", "several YAML documents"),
        ("a: *b\n", "FILE:1: not a usable kubeconfig: *b has no anchor"),
    ],
)
def test_what_is_no_kubeconfig_at_all(text: str, said: str, tmp_path: Path) -> None:
    assert said in refused(text, tmp_path)


def test_aliases_that_grow_for_ever(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    said = refused("\n".join([*lines, "contexts: *a9", "clusters: *a9"]), tmp_path)
    assert "holds more than 1,000,000 values" in said


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just(SECRET) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "cluster", "user", "context", "server", "token", "exec", "env"]
            )
            | st.text(),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(
    st.sampled_from(["clusters", "users", "contexts", "current-context"]),
    st.sampled_from([0, 1, 2]),
    values,
)
@settings(max_examples=150, deadline=None)
def test_whatever_stands_in_it(
    tmp_path_factory: pytest.TempPathFactory, key: str, depth: int, value: object
) -> None:
    """The whole list, an item's inside, or one of its values, is something else."""
    made = usual()
    if depth == 0 or key == "current-context":
        made[key] = value
    elif depth == 1:
        made[key][0][key[:-1]] = value
    else:
        made[key][0][key[:-1]]["exec" if key == "users" else "server"] = value
    file = tmp_path_factory.getbasetemp() / "whatever"
    file.write_text(yaml.safe_dump(made))
    try:
        connect(Access(file)).close()
    except (FileError, UsageError) as error:
        said = str(error)
        assert len(said.splitlines()) == 1
        assert SECRET not in said or key in ("current-context", "clusters")  # no secrets there
        assert "cannot read it (" not in said
        assert "object" not in said


def with_plugin(tmp_path: Path, script: str) -> Path:
    program = tmp_path / "plugin"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\n{script}\n")
    program.chmod(0o755)
    file = tmp_path / "config"
    spec = {**EXEC, "command": str(program)}
    file.write_text(yaml.safe_dump({**usual(), "users": [{"name": "u", "user": {"exec": spec}}]}))
    return file


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_plugin_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "SECONDS", 1.0)
    # The second sleep holds the output open after the first process has been killed.
    file = with_plugin(tmp_path, "sleep 100 & sleep 100")
    with pytest.raises(FileError) as caught:
        connect(Access(file))
    said = str(caught.value)
    assert f"{tmp_path}/plugin did not answer in 1 s and was ended" in said
    assert len(said.splitlines()) == 1
    assert gone(int((tmp_path / "pid").read_text()))


def test_ctrl_c_ends_a_plugin_too(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "running")
    file = with_plugin(tmp_path, f"echo > {tmp_path}/running; sleep 100")
    with subprocess.Popen(
        [sys.executable, "-m", "preflight", "cilium", "status", "--kubeconfig", str(file)],
        start_new_session=True,
    ) as process:
        (tmp_path / "running").read_text()  # until it is
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo []", "did not print an ExecCredential"),
        ("echo '{\"status\": 3}'", "did not print an ExecCredential"),
        ('echo \'{"status": {"token": "x"}, "apiVersion": "v0"}\'', "speaks v0"),
        ("echo one >&2; echo two >&2; exit 3", "ended with 3: one two"),
    ],
)
def test_plugins_that_answer_something_else(tmp_path: Path, script: str, said: str) -> None:
    with pytest.raises(FileError) as caught:
        connect(Access(with_plugin(tmp_path, script)))
    assert said in str(caught.value)
