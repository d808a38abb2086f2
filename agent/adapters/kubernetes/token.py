"""The token that the gateway gets for this machine's Kubernetes: given, or made here and renewed in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.adapters.kubernetes.api import Api, ApiError, Session
from agent.core.kubernetes import rbac
from agent.errors import SettingsError


@dataclass(frozen=True)
class Granted:
    """A token and the cluster that takes it; `renew_at_s` is on the clock that made it."""

    text: str = field(repr=False)
    cluster: tuple[str, int, str | None] = field(repr=False)
    renew_at_s: float


class GatewayToken:
    """Asks the API for a token of the gateway's own service account, which it creates where it is missing.

    It serves only the cluster that made it: of a k3s that was installed anew there is none until it is renewed. One
    thread renews; any may read `granted`.
    """

    def __init__(
        self,
        api: Api,
        life_s: float,
        renew_s: float,
        learned: Callable[[str], None],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._life_s = life_s
        self._renew_s = renew_s
        self._learned = learned
        self._now_s = now_s
        self._granted: Granted | None = None

    @property
    def granted(self) -> Granted | None:
        """The token, None where there is none of the cluster that the kubeconfig names."""
        granted = self._granted
        return granted if granted is not None and granted.cluster == self._api.cluster else None

    @property
    def is_due(self) -> bool:
        """Whether there is none yet, or the one there is has lived half its life."""
        granted = self.granted
        return granted is None or self._now_s() >= granted.renew_at_s

    def renew(self, timeout_s: float) -> Granted:
        """A new token. The one before it goes on to serve until it expires by itself.

        Raises: RejectedError, SettingsError, TransientError.
        """
        with self._api.session(timeout_s) as session:
            ensure_grants(session)
            reply = session.call("POST", rbac.TOKEN_PATH, rbac.token_request(self._life_s))
        try:
            text, life_s = str(reply["status"]["token"]), float(reply["spec"]["expirationSeconds"])
        except (KeyError, TypeError) as error:
            raise SettingsError("the Kubernetes API's answer to a TokenRequest holds no token") from error
        self._learned(text)
        # The server may grant less than was asked for. Seconds of life, so the wall clock plays no part.
        renew_at_s = self._now_s() + min(self._renew_s, life_s / 2)
        self._granted = granted = Granted(text, session.cluster, renew_at_s)
        return granted


def ensure_grants(session: Session) -> None:
    """Create the service account, its Role and the binding, or set them right. Raises: as `Session.call`."""
    for path, wanted in rbac.OBJECTS:
        name = wanted["metadata"]["name"]
        try:
            found = session.get(f"{path}/{name}")
        except ApiError as error:
            if error.status != 404:
                raise
            session.call("POST", path, wanted)
            continue
        if not rbac.is_as_wanted(found, wanted):
            session.call("PUT", f"{path}/{name}", wanted)
