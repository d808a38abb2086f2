"""What a machine tells its EC2 Auto Scaling group: that a lifecycle hook may go on, or that it is no good itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.adapters.aws.access import DENIED, Access, is_passing, read_reply
from agent.errors import AgentError, RejectedError, SettingsError, TransientError
from agent.settings.values import LifecycleHook

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

NOTHING_WAITS = "No active Lifecycle Action"
"""How EC2 Auto Scaling begins its ValidationError where no hook waits for this instance."""


class Autoscaling:
    """Speaks for one instance. `setting` is named in what goes wrong. boto3 is loaded by the first call."""

    def __init__(self, setting: str, metadata_endpoint: str, instance: str) -> None:
        self._setting = setting
        self._metadata_endpoint = metadata_endpoint
        self._instance = instance
        self._client: Any = None

    def complete(self, hook: LifecycleHook, result: str) -> bool:
        """Complete a hook with CONTINUE or ABANDON; False where none waits for this instance (any more).

        Raises: AgentError of the kind that says whether trying again helps.
        """
        from botocore.exceptions import ClientError

        try:
            self._ask(
                "complete_lifecycle_action",
                AutoScalingGroupName=hook.group,
                LifecycleHookName=hook.name,
                InstanceId=self._instance,
                LifecycleActionResult=result,
            )
        except SettingsError as error:
            cause = error.__cause__
            if isinstance(cause, ClientError) and NOTHING_WAITS in str(cause):
                return False
            raise
        return True

    def mark_unhealthy(self) -> None:
        """Have the group replace this machine. Raises: AgentError, as `complete` does."""
        self._ask("set_instance_health", InstanceId=self._instance, HealthStatus="Unhealthy")

    def _ask(self, action: str, **what: str) -> None:
        from botocore import exceptions as boto

        try:
            if self._client is None:
                access = Access(self._setting, self._metadata_endpoint)
                self._client = access.client("autoscaling", access.region("the Auto Scaling group"))
            getattr(self._client, action)(**what)
        except boto.ClientError as error:
            raise _from_reply(f"{self._setting}: {action} for {self._instance}", error) from error
        except boto.BotoCoreError as error:
            raise TransientError(
                f"{self._setting}: EC2 Auto Scaling cannot be asked ({error}); tried again later. Check the"
                " way out of this machine (port 443) and that it has an instance role"
            ) from error


def _from_reply(where: str, error: ClientError) -> AgentError:
    code, status, said = read_reply(error)
    if code in DENIED:
        return RejectedError(
            f"{where}: refused ({said}); allow this machine's role autoscaling:CompleteLifecycleAction and"
            " autoscaling:SetInstanceHealth on its group"
        )
    if is_passing(code, status):
        return TransientError(f"{where}: not answered now ({said}); tried again later")
    return SettingsError(f"{where}: not accepted ({said}); are the names of group and hook right?")
