"""Calls to Lambda's API from Terraform provisioners: terminate machines, and find the address of one.

    lambda_api.py end ID            terminate the machine with this id
    lambda_api.py end-tagged VALUE  terminate every machine tagged beta9-machine=VALUE, even if its id is unknown
    lambda_api.py address ID        wait until the machine is active, and print its address

The API key comes only from the environment variable REST_API_BEARER, never from a command line or file, and is not
logged. LAMBDA_API is the API's URL, LAMBDA_TIMEOUT_S how long to wait in seconds. Standard library only, since this
runs wherever `terraform` does. A machine counts as terminated only when the API says so; everything else is an error,
upon which Terraform keeps its state and the next `terraform destroy` tries again.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, NamedTuple

API = "https://cloud.lambda.ai/api/v1"
TAG = "beta9-machine"
TIMEOUT_S = 600.0
REQUEST_TIMEOUT_S = 60.0
PAUSE_S = 5.0
MAX_ATTEMPTS = 10
"""Per request, while the API answers 429."""
GONE = "global/object-does-not-exist"
"""The API's error code for an unknown machine. A 404 without it means a wrong path, not that the machine is gone."""
TERMINATED = "terminated"
"""The only final one of the API's statuses: booting, active, unhealthy, terminating, terminated, preempted."""
CHECK = "check https://cloud.lambda.ai/instances for machines that still run"
RETRY = "it may still run and accrue charges: the state keeps it; run the same again, or terminate it in the console"


class StepError(Exception):
    """A step failed; the message says what to do."""


class Answer(NamedTuple):
    """A response of the API. `status` is 0 if there was none; `text` then has the reason."""

    status: int
    body: Any
    text: str

    @property
    def is_gone(self) -> bool:
        """Whether the API does not know the machine."""
        return self.status == 404 and _dig(self.body, "error", "code") == GONE


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, which could send the API key to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Api:
    """A client of Lambda's API.

    Raises:
        StepError: the API key is missing or malformed, or the URL would expose it.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._base = (environment.get("LAMBDA_API") or API).rstrip("/")
        self._key = environment.get("REST_API_BEARER", "")
        self._timeout_s = float(environment.get("LAMBDA_TIMEOUT_S") or TIMEOUT_S)
        self._pause_s = min(PAUSE_S, self._timeout_s / 20)
        self._opener = urllib.request.build_opener(_NoRedirect)
        parts = urllib.parse.urlsplit(self._base)
        if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
            raise StepError(f"LAMBDA_API {self._base} is not https: the API key would be sent in clear text")
        if not re.fullmatch(r"[!-~]+", self._key):
            raise StepError(
                "REST_API_BEARER holds no valid API key: set it (read -rs REST_API_BEARER && export REST_API_BEARER)"
                " and run again"
            )

    def terminate(self, machine: str) -> str:
        """Terminate one machine, wait until the API reports it as terminated, and return a message.

        Raises:
            StepError: it may still accrue charges.
        """
        if not re.fullmatch(r"[0-9A-Za-z-]{8,64}", machine):
            raise StepError(f"{machine!r} is not a machine id; {CHECK}")
        answer = self._ask("POST", "/instance-operations/terminate", {"instance_ids": [machine]})
        if answer.is_gone:
            return f"{machine} no longer exists"
        if answer.status == 200:
            listed = [_dig(each, "id") for each in _dig(answer.body, "data", "terminated_instances") or []]
            if machine not in listed:
                raise StepError(
                    f"the API did not list {machine} among the machines to terminate ({listed}); {RETRY}"
                )
        elif answer.status:
            raise StepError(f"the API refused to terminate {machine}: {answer.text}; {RETRY}")
        return self._wait_terminated(machine, answer)

    def terminate_tagged(self, value: str) -> str:
        """Terminate every machine with this value of the tag beta9-machine, each like `terminate`."""
        if not re.fullmatch(r"[0-9A-Za-z-]{8,128}", value):
            raise StepError(f"{value!r} is not a valid value of the tag {TAG}; {CHECK}")
        tag = {"key": TAG, "value": value}
        tagged = [
            each
            for each in self._list()
            if tag in (each.get("tags") or []) and each.get("status") != TERMINATED
        ]
        messages = [self.terminate(str(each.get("id"))) for each in tagged]
        return "; ".join(messages) or f"no machine has the tag {TAG}={value}"

    def address(self, machine: str) -> str:
        """Wait until a machine is active and return its address.

        Raises:
            StepError: it was terminated, the API refused, or the time is up.
        """
        deadline_s = time.monotonic() + self._timeout_s
        while True:
            answer = self._ask("GET", f"/instances/{machine}")
            status, address = _dig(answer.body, "data", "status"), _dig(answer.body, "data", "ip")
            if answer.status == 200 and status == "active" and address:
                return str(address)
            if answer.is_gone or status in {"terminated", "terminating", "preempted"}:
                raise StepError(
                    f"{machine} is {status or 'gone'}: launch another with terraform apply -replace"
                )
            if answer.status in {401, 403}:
                raise StepError(f"the API refused to describe {machine}: {answer.text}")
            if time.monotonic() > deadline_s:
                raise StepError(
                    f"{machine} is not active after {self._timeout_s:.0f} s: {status or answer.text}"
                )
            time.sleep(self._pause_s)

    def _wait_terminated(self, machine: str, accepted: Answer) -> str:
        """Poll until the API reports the machine as terminated; accepting the request alone proves nothing."""
        deadline_s = time.monotonic() + self._timeout_s
        while True:
            answer = self._ask("GET", f"/instances/{machine}")
            status = _dig(answer.body, "data", "status")
            if answer.is_gone or (answer.status == 200 and status == TERMINATED):
                return f"{machine} is terminated"
            if accepted.status == 0 and answer.status == 200 and status != "terminating":
                raise StepError(
                    f"no response to the terminate request ({accepted.text}), and {machine} is {status}; {RETRY}"
                )
            if time.monotonic() > deadline_s:
                raise StepError(
                    f"{machine} is not terminated after {self._timeout_s:.0f} s ({status or answer.text}); {RETRY}"
                )
            time.sleep(self._pause_s)

    def _list(self) -> list[dict[str, Any]]:
        answer = self._ask("GET", "/instances")
        found = _dig(answer.body, "data")
        if answer.status != 200 or not isinstance(found, list):
            raise StepError(f"the API did not list the machines: {answer.text}; {RETRY}")
        return [each for each in found if isinstance(each, dict)]

    def _ask(self, method: str, path: str, body: Any = None) -> Answer:
        """Send a request, and repeat it only on 429 (too many requests), upon which the API has done nothing."""
        for _ in range(MAX_ATTEMPTS):
            answer = self._ask_once(method, path, body)
            if answer.status != 429:
                break
            time.sleep(self._pause_s)
        return answer

    def _ask_once(self, method: str, path: str, body: Any) -> Answer:
        request = urllib.request.Request(self._base + path, method=method)  # noqa: S310 - https or loopback, see above
        # As an unredirected header it is never sent to a second host.
        request.add_unredirected_header("Authorization", f"Bearer {self._key}")
        request.add_header("Content-Type", "application/json")
        request.add_header("User-Agent", "beta9-worker")
        data = None if body is None else json.dumps(body).encode()
        try:
            with self._opener.open(request, data, min(REQUEST_TIMEOUT_S, self._timeout_s)) as reply:
                return _answer(reply.status, reply.read())
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error.code, error.read())
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, None, f"{type(error).__name__}: {error}")


def _answer(status: int, raw: bytes) -> Answer:
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    error = _dig(body, "error")
    details = " ".join(str(_dig(error, each) or "") for each in ("code", "message")) if error else ""
    return Answer(status, body, f"HTTP {status} {details}".strip())


def _dig(value: Any, *keys: str) -> Any:
    """Return the value under nested keys, or None where one is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def main(arguments: list[str]) -> int:
    # The words are kept in the state of modules/lambda-ending: they must not change.
    steps = {"end": Api.terminate, "end-tagged": Api.terminate_tagged, "address": Api.address}
    if len(arguments) != 2 or arguments[0] not in steps:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(steps[arguments[0]](Api(dict(os.environ)), arguments[1]))
    except StepError as error:
        print(f"lambda: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
