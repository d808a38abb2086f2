"""One connection to the embedded gateway: answers by the contract, or with an injected fault."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.demo.gateway.faults import Fault, Hit
from agent.demo.gateway.routes import answer, message, route_name
from agent.demo.httpd import JsonHandler
from agent.demo.messages import Reply, Request
from agent.demo.serving.workloads import ROUTES

if TYPE_CHECKING:
    from agent.demo.gateway.embedded import EmbeddedGateway


class GatewayConnection(JsonHandler):
    """Answers by the contract, unless a fault alters or replaces the reply."""

    def __init__(self, gateway: EmbeddedGateway, *args: Any) -> None:
        self.gateway = gateway
        super().__init__(*args)

    def respond(self, request: Request) -> None:
        if self.gateway.settings.redis_port is not None and request.path.startswith(ROUTES):
            self.send(self.gateway.workloads.serve(request))
            return
        hit = self.gateway.faults.take(route_name(request), self.gateway.now_s())
        if hit is None:
            reply = answer(self.gateway.state, request)
            self.gateway.note(request, reply.status, None)
            self.send(reply)
            return
        reply = answer(self.gateway.state, request) if hit.fault.acts else _error_reply(hit.fault)
        unanswered = hit.fault.kind in {"hang", "close", "drop_reply", "truncate"}
        self.gateway.note(request, None if unanswered else reply.status, hit.fault.kind)
        self._send_faulty(hit, reply)

    def _send_faulty(self, hit: Hit, reply: Reply) -> None:
        params = hit.fault.params
        match hit.fault.kind:
            case "hang":
                self._wait(hit, hit.until_s - self.gateway.now_s())
                self.drop()
            case "close" | "drop_reply":
                self.drop(reset=bool(params.get("reset")))
            case "delay":
                self._wait(hit, float(params.get("delay_s", 1)))
                self.send(reply)
            case "trickle":
                self._trickle(hit, reply)
            case "truncate":
                self._truncate(reply)
            case _:
                self.send(reply)

    def _trickle(self, hit: Hit, reply: Reply) -> None:
        self.write_head(reply)
        self.wfile.flush()
        for byte in reply.body:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            self._wait(hit, float(hit.fault.params.get("interval_s", 1)))

    def _truncate(self, reply: Reply) -> None:
        self.write_head(reply)
        self.wfile.write(reply.body[: len(reply.body) // 2])
        self.drop()

    def _wait(self, hit: Hit, timeout_s: float) -> None:
        """Wait until the timeout, until the fault is cleared, or until the gateway stops."""
        deadline_s = time.monotonic() + timeout_s
        while not self.gateway.state.stopping.is_set() and (left_s := deadline_s - time.monotonic()) > 0:
            if hit.cleared.wait(min(left_s, 0.2)):
                return


def _error_reply(fault: Fault) -> Reply:
    """Return the reply of a fault that does not act on the request."""
    params = fault.params
    match fault.kind:
        case "database_down":
            return message(401, "Unauthorized")
        case "redirect":
            return Reply(int(params.get("status", 307)), b"", {"Location": str(params["location"])})
        case "big":
            return Reply(200, b" " * int(params.get("size_bytes", 10_000_000)))
    status = int(params.get("status", 500))
    headers = {str(name): str(value) for name, value in dict(params.get("headers", {})).items()}
    if "body" in params:
        return Reply(status, str(params["body"]).encode(), headers)
    return replace(message(status, f"fault: {status}"), headers=headers)
