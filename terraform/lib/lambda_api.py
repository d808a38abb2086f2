"""What Terraform's steps ask of Lambda's API: to end machines, and where one is. Ended is what the API calls ended.

    lambda_api.py end ID            end the machine with this id
    lambda_api.py end-tagged VALUE  end every machine tagged beta9-machine=VALUE, also one whose launch got lost
    lambda_api.py address ID        wait until the machine is active, and print its address

The key comes by the environment alone, REST_API_BEARER: on no command line, in no file, in no log. LAMBDA_API is the
API's address, LAMBDA_TIMEOUT_S how long to wait. Standard library only, since it runs where `terraform` does. Any
doubt is an error: Terraform then keeps what it knows, and the next `terraform destroy` tries again.
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
TOO_OFTEN = 10
GONE = "global/object-does-not-exist"
"""The API's code for "no such machine". A 404 without it says that the path is wrong, not that a machine is gone."""
ENDED = "terminated"
"""The one of the API's statuses (booting, active, unhealthy, terminating, terminated, preempted) that is over."""
LOOK = "look at https://cloud.lambda.ai/instances what still runs"
STILL = "it may still run and cost: nothing is forgotten, run the same again, or end it in the console"


class StepError(Exception):
    """Why the step failed, and what to do."""


class Answer(NamedTuple):
    """What the API said; `status` 0: nothing came back, and `text` says why."""

    status: int
    body: Any
    text: str

    @property
    def says_gone(self) -> bool:
        return self.status == 404 and _dig(self.body, "error", "code") == GONE


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Api:
    """Lambda's API, by one key.

    Raises:
        StepError: no key, or an address to which it must not go.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._base = (environment.get("LAMBDA_API") or API).rstrip("/")
        self._key = environment.get("REST_API_BEARER", "")
        self._timeout_s = float(environment.get("LAMBDA_TIMEOUT_S") or TIMEOUT_S)
        self._pause_s = min(PAUSE_S, self._timeout_s / 20)
        self._opener = urllib.request.build_opener(_NoRedirect)
        parts = urllib.parse.urlsplit(self._base)
        if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
            raise StepError(f"LAMBDA_API {self._base} is not https: the key would be readable on the way")
        if not re.fullmatch(r"[!-~]+", self._key):
            raise StepError(
                "REST_API_BEARER holds no API key: export it (read -rs REST_API_BEARER) and run again"
            )

    def end(self, machine: str) -> str:
        """End one machine and return what there is to say, once the API calls it ended.

        Raises:
            StepError: it may still cost.
        """
        if not re.fullmatch(r"[0-9A-Za-z-]{8,64}", machine):
            raise StepError(f"{machine!r} is no machine's id; {LOOK}")
        answer = self._ask("POST", "/instance-operations/terminate", {"instance_ids": [machine]})
        if answer.says_gone:
            return f"{machine} was gone already"
        if answer.status == 200:
            named = [_dig(each, "id") for each in _dig(answer.body, "data", "terminated_instances") or []]
            if machine not in named:
                raise StepError(f"the API did not name {machine} among those it ends ({named}); {STILL}")
        elif answer.status:
            raise StepError(f"the API refused to end {machine}: {answer.text}; {STILL}")
        return self._until_ended(machine, answer)

    def end_tagged(self, value: str) -> str:
        """End every machine with our tag of this value; like `end`."""
        if not re.fullmatch(r"[0-9A-Za-z-]{8,128}", value):
            raise StepError(f"{value!r} is no value of our tag; {LOOK}")
        machines = self._list()
        wanted = {"key": TAG, "value": value}
        ours = [
            each for each in machines if wanted in (each.get("tags") or []) and each.get("status") != ENDED
        ]
        said = [self.end(str(each.get("id"))) for each in ours]
        return "; ".join(said) or f"no machine is left with the tag {TAG}={value}"

    def address(self, machine: str) -> str:
        """Wait until a machine is active and return its address.

        Raises:
            StepError: it ended, or took too long.
        """
        deadline_s = time.monotonic() + self._timeout_s
        while True:
            answer = self._ask("GET", f"/instances/{machine}")
            status, address = _dig(answer.body, "data", "status"), _dig(answer.body, "data", "ip")
            if answer.status == 200 and status == "active" and address:
                return str(address)
            if answer.says_gone or status in {"terminated", "terminating", "preempted"}:
                raise StepError(f"{machine} is {status or 'gone'}: terraform apply -replace launches another")
            if answer.status in {401, 403}:
                raise StepError(f"the API does not tell of {machine}: {answer.text}")
            if time.monotonic() > deadline_s:
                raise StepError(
                    f"{machine} is not active after {self._timeout_s:.0f} s: {status or answer.text}"
                )
            time.sleep(self._pause_s)

    def _until_ended(self, machine: str, last: Answer) -> str:
        """Ask until the API itself calls the machine ended; its answer to the request alone is no proof."""
        deadline_s = time.monotonic() + self._timeout_s
        seen = last.text
        while True:
            answer = self._ask("GET", f"/instances/{machine}")
            status = _dig(answer.body, "data", "status")
            if answer.says_gone or (answer.status == 200 and status == ENDED):
                return f"{machine} has ended"
            if last.status == 0 and answer.status == 200 and status != "terminating":
                raise StepError(f"no answer to the request ({last.text}), and {machine} is {status}; {STILL}")
            seen = str(status) if status else answer.text
            if time.monotonic() > deadline_s:
                raise StepError(f"{machine} has not ended after {self._timeout_s:.0f} s ({seen}); {STILL}")
            time.sleep(self._pause_s)

    def _list(self) -> list[dict[str, Any]]:
        answer = self._ask("GET", "/instances")
        found = _dig(answer.body, "data")
        if answer.status != 200 or not isinstance(found, list):
            raise StepError(f"the API does not list the machines: {answer.text}; {STILL}")
        return [each for each in found if isinstance(each, dict)]

    def _ask(self, method: str, path: str, body: Any = None) -> Answer:
        """Ask once; again only where the API says that it did nothing, for we ask too often."""
        for _ in range(TOO_OFTEN):
            answer = self._ask_once(method, path, body)
            if answer.status != 429:
                break
            time.sleep(self._pause_s)
        return answer

    def _ask_once(self, method: str, path: str, body: Any) -> Answer:
        request = urllib.request.Request(self._base + path, method=method)  # noqa: S310 - https or loopback, see above
        # Unredirected: never goes to a second host.
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
    words = " ".join(str(_dig(error, each) or "") for each in ("code", "message")) if error else ""
    return Answer(status, body, f"HTTP {status} {words}".strip())


def _dig(found: Any, *keys: str) -> Any:
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def main(words: list[str]) -> int:
    steps = {"end": Api.end, "end-tagged": Api.end_tagged, "address": Api.address}
    if len(words) != 2 or words[0] not in steps:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(steps[words[0]](Api(dict(os.environ)), words[1]))
    except StepError as error:
        print(f"lambda: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
