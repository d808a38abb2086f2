"""Reports to this machine's EC2 Auto Scaling group: completed lifecycle hooks, and an unhealthy instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.adapters.aws.access import DENIED, Access, is_transient, read_reply
from agent.errors import AgentError, RejectedError, SettingsError, TransientError
from agent.settings.values import LifecycleHook

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

NOTHING_WAITS = "No active Lifecycle Action"
"""Start of EC2 Auto Scaling's ValidationError when no hook is waiting for this instance."""


class Autoscaling:
    """EC2 Auto Scaling as one instance calls it. Errors name `setting`. The first call loads boto3."""

    def __init__(self, setting: str, metadata_endpoint: str, instance: str) -> None:
        self._setting = setting
        self._metadata_endpoint = metadata_endpoint
        self._instance = instance
        self._client: Any = None

    def complete(self, hook: LifecycleHook, result: str) -> bool:
        """Complete a hook with CONTINUE or ABANDON. Return False if none is waiting for this instance (any more).

        Raises: SettingsError if retrying cannot help; RejectedError or TransientError if it may.
        """
        from botocore.exceptions import ClientError

        try:
            self._call(
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
        """Have the group replace this machine. Raises: as `complete` does."""
        self._call("set_instance_health", InstanceId=self._instance, HealthStatus="Unhealthy")

    def _call(self, action: str, **parameters: str) -> None:
        from botocore import exceptions as boto

        try:
            if self._client is None:
                access = Access(self._setting, self._metadata_endpoint)
                self._client = access.client("autoscaling", access.region("the Auto Scaling group"))
            getattr(self._client, action)(**parameters)
        except boto.ClientError as error:
            raise _from_reply(f"{self._setting}: {action} for {self._instance}", error) from error
        except boto.BotoCoreError as error:
            raise TransientError(
                f"{self._setting}: EC2 Auto Scaling cannot be reached ({error}); will retry. Check this machine's"
                " outbound access (port 443) and that it has an instance role"
            ) from error


def _from_reply(where: str, error: ClientError) -> AgentError:
    code, status, message = read_reply(error)
    if code in DENIED:
        return RejectedError(
            f"{where}: refused ({message}); allow this machine's role autoscaling:CompleteLifecycleAction and"
            " autoscaling:SetInstanceHealth on its group"
        )
    if is_transient(code, status):
        return TransientError(f"{where}: temporarily unavailable ({message}); will retry")
    return SettingsError(f"{where}: not accepted ({message}); check the names of the group and the hook")
