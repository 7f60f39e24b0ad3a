"""The HTTP side of the emulator: paths, verbs, watches, and what a test makes go wrong."""

import base64
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from kubeapi.access import Ask, Subject, may, refusal, who
from kubeapi.answers import ApiError, bad, expired, forbidden, unserved
from kubeapi.kinds import BUILTIN, Kind
from kubeapi.objects import Objects, apply_refused
from kubeapi.patches import json_patch, merge, strategic
from kubeapi.selectors import Test, by_fields, by_labels
from kubeapi.store import Event, Object, Store
from kubeapi.streams import serve_exec

_PATCHES = {
    "application/merge-patch+json": merge,
    "application/strategic-merge-patch+json": strategic,
    "application/json-patch+json": json_patch,
}
_BOOKMARK = 1.0  # seconds of silence; the real one waits about a minute
VERSION = {"major": "1", "minor": "33", "gitVersion": "v1.33.0-emulated", "platform": "none"}


class Request(NamedTuple):
    """A request for objects, taken apart."""

    kind: Kind
    namespace: str | None
    name: str | None
    sub: str
    query: dict[str, str]


class Hooks:
    """What a test decides of the server: faults, and what happens in containers."""

    def __init__(self) -> None:
        # (method, path) -> a refusal to give instead of an answer, or None
        self.refuse: Callable[[str, str], ApiError | None] = lambda _method, _path: None
        # (namespace, pod, container, command) -> the argv of a local process to run
        self.exec: Callable[[str, str, str, list[str]], list[str]] | None = None
        # (namespace, pod, container, previous) -> its log
        self.log: Callable[[str, str, str, bool], str] = lambda *_: ""
        self.v5 = True  # whether exec speaks v5.channel.k8s.io


class Api:
    """The state behind all connections."""

    def __init__(self) -> None:
        self.store = Store()
        self.objects = Objects(self.store)
        self.hooks = Hooks()
        self.kinds = list(BUILTIN)
        self.over = threading.Event()
        self.requests: list[str] = []  # `GET /api/v1/pods`, as they came

    def kind(self, group: str, version: str, plural: str) -> Kind:
        """404 for one that is not served."""
        for kind in self.kinds:
            if (kind.group, kind.version, kind.plural) == (group, version, plural):
                return kind
        raise unserved()

    def define(self, definition: Object) -> None:
        """Serve the kinds of a CustomResourceDefinition."""
        spec = definition["spec"]
        for version in spec["versions"]:
            self.kinds.append(
                Kind(
                    spec["group"],
                    version["name"],
                    spec["names"]["plural"],
                    spec["names"]["kind"],
                    spec["scope"] == "Namespaced",
                    None,
                    status="status" in (version.get("subresources") or {}),
                    schema=version["schema"]["openAPIV3Schema"],
                )
            )

    def taken_apart(self, path: str, query: dict[str, str]) -> Request:
        """404 for a path that is not one of objects."""
        steps = [unquote(step) for step in path.strip("/").split("/")]
        group, version, rest = "", "", []
        if steps[:1] == ["api"] and len(steps) > 2:
            version, rest = steps[1], steps[2:]
        elif steps[:1] == ["apis"] and len(steps) > 3:
            group, version, rest = steps[1], steps[2], steps[3:]
        else:
            raise unserved()
        namespace = None
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        kind = self.kind(group, version, rest[0])
        if (namespace is not None and not kind.namespaced) or len(rest) > 3:
            raise unserved()
        name, sub = (*rest[1:], "", "")[:2]
        return Request(kind, namespace, name or None, sub, query)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: "Server"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        """Silence."""

    def do_GET(self) -> None:
        """And every other verb."""
        api = self.server.api
        parts = urlsplit(self.path)
        query = {k: v[-1] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        api.requests.append(f"{self.command} {self.path}")
        try:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else b""
            self._serve(api, self._subject(api), parts.path, query, body)
        except ApiError as error:
            self._answer(error.code, error.status, error.retry)
        except (ConnectionError, TimeoutError, ssl.SSLError):
            self.close_connection = True

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def _subject(self, api: Api) -> Subject:
        subject = who(self.headers.get("Authorization", ""))
        if subject is None:
            raise ApiError(401, "Unauthorized", "Unauthorized")
        refused = api.hooks.refuse(self.command, self.path)
        if refused is not None:
            raise refused
        return subject

    def _serve(
        self, api: Api, subject: Subject, path: str, query: dict[str, str], body: bytes
    ) -> None:
        if path in ("/version", "/healthz", "/livez", "/readyz", "/api", "/apis"):
            self._allow(subject, Ask(self.command.lower(), path=path))
            self._answer(200, VERSION if path == "/version" else {"kind": "APIVersions"})
            return
        request = api.taken_apart(path, query)
        kind, namespace, name, sub, _ = request
        watching = query.get("watch") in ("true", "1")
        verb = {"POST": "create", "PUT": "update", "PATCH": "patch"}.get(self.command, "")
        if self.command == "GET":
            verb = "get" if name else "watch" if watching else "list"
        elif self.command == "DELETE":
            verb = "delete" if name else "deletecollection"
        if sub == "exec":
            verb = "create"
        self._allow(
            subject,
            Ask(verb, kind.group, kind.plural, sub, namespace or "", name or ""),
        )
        if sub == "exec":
            every = parse_qs(urlsplit(self.path).query)
            serve_exec(self, api, namespace or "", name or "", every)
        elif sub == "log":
            self._log(api, request)
        elif verb == "watch":
            self._watch(api, request)
        elif verb == "list":
            self._answer(200, self._list(api, request))
        else:
            self._answer(*self._one(api, request, subject, verb, _object(body)))

    def _allow(self, subject: Subject, ask: Ask) -> None:
        if not may(self.server.api.store, subject, ask):
            resource = f"{ask.resource}.{ask.group}" if ask.group else ask.resource
            raise forbidden(resource, ask.name, refusal(subject, ask))

    def _one(
        self, api: Api, request: Request, subject: Subject, verb: str, body: Any
    ) -> tuple[int, Object]:
        kind, namespace, name, sub, query = request
        strict = query.get("fieldValidation") == "Strict"
        objects = api.objects
        match verb:
            case "get":
                return 200, api.store.get(kind, namespace or "", name or "")
            case "create" if kind.short:
                return 201, self._review(subject, body)
            case "create":
                if kind.namespaced and namespace is None:
                    raise ApiError(405, "MethodNotAllowed", "the server does not allow this method")
                made = objects.create(kind, body, namespace, strict=strict)
                if kind.plural == "customresourcedefinitions":
                    api.define(made)
                return 201, made
            case "update":
                return 200, objects.update(
                    kind, name or "", namespace, body, sub=sub, strict=strict
                )
            case "patch":
                return 200, self._patch(api, request, body, strict=strict)
            case "delete":
                options = _options(body, query)
                left, gone = objects.delete(kind, name or "", namespace, options)
                if not gone or kind.plural in ("pods",):
                    return 200, left
                return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}
            case _:
                items, _ = self._chosen(api, request, None)
                for item in items:
                    about = item["metadata"]
                    objects.delete(
                        kind, about["name"], about.get("namespace"), _options(body, query)
                    )
                return 200, {"kind": f"{kind.kind}List", "apiVersion": kind.api, "items": items}

    def _patch(self, api: Api, request: Request, body: Any, *, strict: bool) -> Object:
        kind, namespace, name, sub, _ = request
        content = self.headers.get("Content-Type", "").partition(";")[0]
        if content == "application/apply-patch+yaml":
            raise apply_refused()
        apply = _PATCHES.get(content)
        if apply is None or (apply is strategic and kind.model is None):
            told = "the body of the request was in an unknown format"
            raise ApiError(415, "UnsupportedMediaType", told)
        with api.store.changed:  # the server tries again itself where another one was faster
            before = api.store.get(kind, namespace or "", name or "")
            changed = apply(before, body)
            return api.objects.update(kind, name or "", namespace, changed, sub=sub, strict=strict)

    def _review(self, subject: Subject, body: Any) -> Object:
        spec = body.get("spec") or {}
        resource = spec.get("resourceAttributes") or {}
        other = spec.get("nonResourceAttributes") or {}
        ask = Ask(
            resource.get("verb") or other.get("verb", ""),
            resource.get("group", ""),
            resource.get("resource", ""),
            resource.get("subresource", ""),
            resource.get("namespace", ""),
            resource.get("name", ""),
            other.get("path", ""),
        )
        return {**body, "status": {"allowed": may(self.server.api.store, subject, ask)}}

    def _chosen(self, api: Api, request: Request, at: int | None) -> tuple[list[Object], int]:
        test = _test(request)
        items, revision = api.store.listed(request.kind, request.namespace, at)
        return [item for item in items if test(item)], revision

    def _list(self, api: Api, request: Request) -> Object:
        query = request.query
        at, after = None, ""
        if token := query.get("continue"):
            try:
                told = json.loads(base64.urlsafe_b64decode(token))
                at, after = int(told["at"]), str(told["after"])
            except (ValueError, KeyError, TypeError) as error:
                raise bad("continue key is not valid") from error
            if at < api.store.compacted:
                gone = expired(at, api.store.compacted)
                gone.status["message"] = "The provided continue parameter is too old"
                raise gone
        items, revision = self._chosen(api, request, at)
        items = [item for item in items if _place(item) > after]
        about: dict[str, Any] = {"resourceVersion": str(revision)}
        limit = int(query.get("limit") or 0)
        if limit and len(items) > limit:
            about["remainingItemCount"] = len(items) - limit
            items = items[:limit]
            token = json.dumps({"at": revision, "after": _place(items[-1])})
            about["continue"] = base64.urlsafe_b64encode(token.encode()).decode()
        bare = [{k: v for k, v in i.items() if k not in ("kind", "apiVersion")} for i in items]
        kind = request.kind
        items = items if kind.model is None else bare
        return {
            "kind": f"{kind.kind}List", "apiVersion": kind.api, "metadata": about, "items": items
        }  # fmt: skip

    def _log(self, api: Api, request: Request) -> None:
        namespace, name = request.namespace or "", request.name or ""
        api.store.get(request.kind, namespace, name)
        query = request.query
        previous = query.get("previous") == "true"
        text = api.hooks.log(namespace, name, query.get("container", ""), previous)
        if tail := query.get("tailLines"):
            text = "".join(text.splitlines(keepends=True)[-int(tail) :])
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _watch(self, api: Api, request: Request) -> None:
        query = request.query
        asked = query.get("resourceVersion") or ""
        until = time.monotonic() + float(query.get("timeoutSeconds") or 1800)
        bookmarks = query.get("allowWatchBookmarks") in ("true", "1")
        first: list[Object] = []
        if asked in ("", "0"):
            first, revision = self._chosen(api, request, None)
        else:
            revision = int(asked)
        test = _test(request)  # before the answer begins: 400 is for a wrong selector
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for item in first:
            self._chunk("ADDED", item)
        self.wfile.flush()
        try:
            for told in self._changes(api, request, test, revision, until, bookmarks):
                self._chunk(*told)
        except ApiError as error:
            self._chunk("ERROR", error.status)
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _changes(
        self, api: Api, request: Request, test: Test, revision: int, until: float, bookmarks: bool
    ) -> Iterator[tuple[str, Object]]:
        store, kind = api.store, request.kind
        quiet = time.monotonic() + _BOOKMARK
        while not api.over.is_set():
            with store.changed:
                events = list(store.since(revision))
                if not events:
                    left = min(until, quiet) - time.monotonic()
                    if left > 0:
                        store.changed.wait(min(left, 0.5))
                    events = list(store.since(revision))
            for event in events:
                revision = event.revision
                told = _change(event, request, test)
                if told is not None:
                    quiet = time.monotonic() + _BOOKMARK
                    yield told
            if time.monotonic() >= until:
                return
            if bookmarks and time.monotonic() >= quiet:
                quiet = time.monotonic() + _BOOKMARK
                about = {"resourceVersion": str(revision), "creationTimestamp": None}
                mark = {"kind": kind.kind, "apiVersion": kind.api, "metadata": about}
                yield "BOOKMARK", mark

    def _chunk(self, word: str, item: Object) -> None:
        data = json.dumps({"type": word, "object": item}).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _answer(self, code: int, item: Object, retry: int | None = None) -> None:
        data = json.dumps(item).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if retry is not None:
            self.send_header("Retry-After", str(retry))
        self.end_headers()
        self.wfile.write(data)


def _place(item: Object) -> str:
    about = item["metadata"]
    return f"{about.get('namespace', '')}/{about['name']}"


def _test(request: Request) -> Test:
    labels = by_labels(request.query.get("labelSelector") or "")
    fields = by_fields(request.query.get("fieldSelector") or "", request.kind)
    name = request.name
    return lambda item: (
        labels(item) and fields(item) and (name is None or item["metadata"]["name"] == name)
    )


def _change(event: Event, request: Request, test: Test) -> tuple[str, Object] | None:
    """What a watch with this selector tells of an event."""
    if event.key.resource != request.kind.resource:
        return None
    if request.namespace is not None and event.key.namespace != request.namespace:
        return None
    before = event.before is not None and test(event.before)
    now = event.now is not None and test(event.now)
    if now:
        return ("MODIFIED" if before else "ADDED"), event.now or {}
    if not before:
        return None
    last = event.now or event.before or {}
    about = {**last["metadata"], "resourceVersion": str(event.revision)}
    return "DELETED", {**last, "metadata": about}


def _object(body: bytes) -> Any:
    if not body:
        return {}
    try:
        return json.loads(body)
    except ValueError as error:
        raise bad(f"the object provided is unrecognized: {error}") from error


def _options(body: Any, query: dict[str, str]) -> dict[str, Any]:
    options = dict(body) if isinstance(body, dict) else {}
    if "gracePeriodSeconds" in query:
        options["gracePeriodSeconds"] = int(query["gracePeriodSeconds"])
    if "propagationPolicy" in query:
        options["propagationPolicy"] = query["propagationPolicy"]
    return options


class Server(ThreadingHTTPServer):
    """Serves an `Api` on loopback, over TLS where it is given a context."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, api: Api, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.api = api
        self._context = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        """The handshake is the connection's own thread's, so that one of them holds up no other."""
        if self._context is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(10)
        with self._context.wrap_socket(request, server_side=True) as wrapped:
            wrapped.settimeout(None)
            super().finish_request(wrapped, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error; anything else says so in the test's output."""
        import sys

        if not isinstance(sys.exception(), (OSError, ValueError)):
            super().handle_error(request, client_address)
