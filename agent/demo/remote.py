"""Remote calls into a demo server: JSON over HTTP on a second loopback port.

POST the arguments to the call's name; the reply is `{"result": …}`, or 400 with `{"error": …}`. There is no
authentication: use it for the demo and tests only.
"""

from __future__ import annotations

import functools
import json
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any
from urllib.error import HTTPError

from agent.demo.httpd import HttpService, JsonHandler
from agent.demo.messages import Reply, Request

Calls = Mapping[str, Callable[..., Any]]


class AdminError(Exception):
    """The server rejected a call; the message says why."""


class CallServer:
    """Serves calls on loopback between start() and stop()."""

    def __init__(self, calls: Calls, port: int = 0) -> None:
        self._http = HttpService(functools.partial(_Connection, calls), port=port)

    def start(self) -> None:
        self._http.start()

    def stop(self) -> None:
        self._http.stop()

    @property
    def url(self) -> str:
        return f"http://{self._http.host}:{self._http.port}"


class _Connection(JsonHandler):
    def __init__(self, calls: Calls, *args: Any) -> None:
        self._calls = calls
        super().__init__(*args)

    def respond(self, request: Request) -> None:
        try:
            call = self._calls[request.path.lstrip("/")]
            result = {"result": call(**json.loads(request.body or b"{}"))}
            self.send(Reply(200, json.dumps(result).encode()))
        except (LookupError, TypeError, ValueError, OSError) as error:
            text = f"{type(error).__name__}: {error}"
            self.send(Reply(400, json.dumps({"error": text}).encode()))


class CallClient:
    """Makes calls to a CallServer; subclasses add named, typed methods."""

    def __init__(self, url: str, timeout_s: float = 30) -> None:
        self._url, self._timeout_s = url.rstrip("/"), timeout_s

    def call(self, name: str, /, **arguments: Any) -> Any:
        """Make one call and return its result. Raises: AdminError if it is rejected, OSError if nothing listens."""
        request = urllib.request.Request(  # noqa: S310 - always an http:// URL of a CallServer
            f"{self._url}/{name}", json.dumps(arguments).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as reply:  # noqa: S310 - as above
                return json.load(reply)["result"]
        except HTTPError as error:
            with error:
                raise AdminError(json.load(error)["error"]) from error
