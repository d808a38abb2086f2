"""The token for the gateway's access to this machine's Kubernetes, created by the agent and renewed in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.adapters.kubernetes.api import Api, ApiError, Session
from agent.core.kubernetes import rbac
from agent.errors import SettingsError


@dataclass(frozen=True)
class Granted:
    """A token and the cluster that issued it; `renew_at_s` is on the clock of its GatewayToken."""

    text: str = field(repr=False)
    cluster: tuple[str, int, str | None] = field(repr=False)
    renew_at_s: float


class GatewayToken:
    """Requests tokens of the gateway's own service account, which it creates if it is missing.

    A token is valid only for the cluster that issued it: after k3s was reinstalled there is none until `renew`. Only
    one thread may call `renew`; any may read `granted`.
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
        """The token, or None if there is none for the cluster that the kubeconfig names."""
        granted = self._granted
        return granted if granted is not None and granted.cluster == self._api.cluster else None

    @property
    def is_due(self) -> bool:
        """Whether there is no token yet, or half of its life has passed."""
        granted = self.granted
        return granted is None or self._now_s() >= granted.renew_at_s

    def renew(self, timeout_s: float) -> Granted:
        """Request a new token. The previous one stays valid until it expires.

        Raises: RejectedError, SettingsError, TransientError.
        """
        with self._api.session(timeout_s) as session:
            ensure_grants(session)
            reply = session.call("POST", rbac.TOKEN_PATH, rbac.token_request(self._life_s))
        try:
            text, life_s = str(reply["status"]["token"]), float(reply["spec"]["expirationSeconds"])
        except (KeyError, TypeError) as error:
            raise SettingsError("the Kubernetes API's reply to a TokenRequest holds no token") from error
        self._learned(text)
        # The server may grant a shorter life than requested. It is relative, so the wall clock does not matter.
        renew_at_s = self._now_s() + min(self._renew_s, life_s / 2)
        self._granted = granted = Granted(text, session.cluster, renew_at_s)
        return granted


def ensure_grants(session: Session) -> None:
    """Create or correct the service account, its Role and the binding. Raises: as `Session.call`."""
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
