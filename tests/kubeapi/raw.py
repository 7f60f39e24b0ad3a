"""A client of a dozen lines, so that no test proves the product's client by itself."""

import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from kubeapi.emulator import Emulator
from kubeapi.real import Real
from kubeapi.users import USERS

Server = Emulator | Real


class Answer(NamedTuple):
    """`body` is the JSON, or the text where it is none."""

    status: int
    body: Any
    headers: dict[str, str]


class Raw:
    """Requests to one server as one user, each on a connection of its own."""

    def __init__(self, server: Server, user: str = "admin") -> None:
        self.server = server
        self._token = USERS[user].token if user in USERS else "a-token-that-no-server-knows"

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        content: str = "application/json",
        **query: str,
    ) -> Answer:
        """One request."""
        with self._send(method, path, body, content, query) as response:
            data = response.read()
        try:
            told = json.loads(data)
        except ValueError:
            told = data.decode()
        return Answer(response.status, told, dict(response.getheaders()))

    def get(self, path: str, **query: str) -> Any:
        """The object; an error for any status but 200."""
        answer = self.ask("GET", path, **query)
        assert answer.status == 200, answer
        return answer.body

    def make(self, path: str, body: Any) -> Any:
        """A new object."""
        answer = self.ask("POST", path, body)
        assert answer.status == 201, answer
        return answer.body

    def patch(self, path: str, body: Any) -> Any:
        """A changed object, by merge patch."""
        answer = self.ask("PATCH", path, body, "application/merge-patch+json")
        assert answer.status == 200, answer
        return answer.body

    def drop(self, path: str, **options: Any) -> Answer:
        """An object's end."""
        return self.ask("DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1", **options})

    def watch(self, path: str, seconds: int = 5, **query: str) -> Iterator[tuple[str, Any]]:
        """Changes until the server ends it."""
        query = {"watch": "true", "timeoutSeconds": str(seconds), **query}
        with self._send("GET", path, None, "", query) as response:
            assert response.status == 200, response.read()
            for line in response:
                told = json.loads(line)
                yield told["type"], told["object"]

    def until(self, path: str, test: Callable[[Any], bool], seconds: float = 120) -> Any:
        """The object, as soon as it is as wanted; None stands for one that is not there."""
        limit = time.monotonic() + seconds
        while True:
            answer = self.ask("GET", path)
            found = answer.body if answer.status == 200 else None
            if test(found):
                return found
            assert time.monotonic() < limit, f"{path}: never as wanted, last {answer}"
            time.sleep(0.02)

    @contextmanager
    def _send(
        self, method: str, path: str, body: Any, content: str, query: dict[str, str]
    ) -> Iterator[HTTPResponse]:
        parts = urlsplit(self.server.url)
        assert parts.hostname is not None
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=str(self.server.ca))
            connection: HTTPConnection = HTTPSConnection(
                parts.hostname, parts.port, context=context, timeout=30
            )
        else:
            connection = HTTPConnection(parts.hostname, parts.port, timeout=30)
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        data = None
        if body is not None:
            data = json.dumps(body)
            headers["Content-Type"] = content
        url = f"{path}?{urlencode(query)}" if query else path
        try:
            connection.request(method, url, data, headers)
            with connection.getresponse() as response:
                yield response
        finally:
            connection.close()
