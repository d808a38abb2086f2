"""An AWS to apply to and to call: moto's server, with what it lacks or gets wrong for our calls put right.

Added: `StartInstanceRefresh` and its description (here every machine of the group is replaced at once, by moto's own
means) and `CompleteLifecycleAction` (kept in a list; only a hook that exists can be completed). Put right: user data
of a launch template's later versions, tags of the template itself among those of its machines, a group's mixed
instances after an update that does not name them, and the queue and role that every hook has there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

REGION = "eu-west-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": REGION}


@dataclass
class Aws:
    """The server, and what it heard of what moto does not keep."""

    url: str
    completed: list[dict[str, str]] = field(default_factory=list)
    refreshes: list[dict[str, Any]] = field(default_factory=list)

    def client(self, service: str) -> Any:
        import boto3

        return boto3.client(  # type: ignore[call-overload]
            service,
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )


@contextmanager
def serving() -> Generator[Aws, None, None]:
    """Serve an empty AWS on a free port of loopback; one at a time, since moto keeps its state in the process."""
    import requests
    from moto.autoscaling.responses import AutoScalingResponse
    from moto.ec2.responses.launch_templates import LaunchTemplates
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request tells nothing
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    aws = Aws(f"http://{host}:{port}")
    requests.post(f"{aws.url}/moto-api/reset", timeout=30).raise_for_status()
    with ExitStack() as replaced:
        for owner, methods in (
            (AutoScalingResponse, _of_groups(aws, AutoScalingResponse)),
            (LaunchTemplates, _of_templates(LaunchTemplates)),
        ):
            for name, method in methods.items():
                replaced.enter_context(mock.patch.object(owner, name, method, create=True))
        try:
            yield aws
        finally:
            server.stop()


def _of_groups(aws: Aws, owner: Any) -> dict[str, Callable[[Any], Any]]:
    from moto.autoscaling.exceptions import ValidationError
    from moto.core.responses import ActionResult, EmptyResult

    update, put_hook = owner.update_auto_scaling_group, owner.put_lifecycle_hook

    def update_auto_scaling_group(self: Any) -> Any:
        group = self.autoscaling_backend.autoscaling_groups[self._get_param("AutoScalingGroupName")]
        before = group.mixed_instances_policy
        done = update(self)
        group.mixed_instances_policy = group.mixed_instances_policy or before
        return done

    def put_lifecycle_hook(self: Any) -> Any:
        done = put_hook(self)
        group, hook = self._get_param("AutoScalingGroupName"), self._get_param("LifecycleHookName")
        (made,) = self.autoscaling_backend.describe_lifecycle_hooks(group, [hook])
        made.role_arn = made.notification_target_arn = None
        return done

    def complete_lifecycle_action(self: Any) -> Any:
        asked = dict(self._get_params())
        group, hook = asked["AutoScalingGroupName"], asked["LifecycleHookName"]
        if not self.autoscaling_backend.describe_lifecycle_hooks(group, [hook]):
            raise ValidationError(f"No active Lifecycle Action found with instance ID {asked['InstanceId']}")
        aws.completed.append(asked)
        return EmptyResult()

    def start_instance_refresh(self: Any) -> Any:
        asked = dict(self._get_params())
        aws.refreshes.append(asked)
        group = self.autoscaling_backend.autoscaling_groups[asked["AutoScalingGroupName"]]
        for each in list(group.instance_states):
            self.autoscaling_backend.terminate_instance(each.instance.id, should_decrement=False)
        return ActionResult({"InstanceRefreshId": f"refresh-{len(aws.refreshes)}"})

    def describe_instance_refreshes(self: Any) -> Any:
        known = [f"refresh-{n + 1}" for n in range(len(aws.refreshes))]
        found = [{"InstanceRefreshId": each, "Status": "Successful"} for each in reversed(known)]
        return ActionResult({"InstanceRefreshes": found})

    own = (
        update_auto_scaling_group,
        put_lifecycle_hook,
        complete_lifecycle_action,
        start_instance_refresh,
        describe_instance_refreshes,
    )
    return {each.__name__: each for each in own}


def _of_templates(owner: Any) -> dict[str, Callable[[Any], Any]]:
    from moto.ec2.utils import parse_user_data

    create, create_version = owner.create_launch_template, owner.create_launch_template_version

    def create_launch_template(self: Any) -> Any:
        done = create(self)
        template = self.ec2_backend.get_launch_template_by_name(self._get_param("LaunchTemplateName"))
        data = template.latest_version().data
        named = data.get("TagSpecifications", [])
        data["TagSpecifications"] = [each for each in named if each["ResourceType"] != "launch-template"]
        return done

    def create_launch_template_version(self: Any) -> Any:
        done = create_version(self)
        template = self.ec2_backend.get_launch_template(self._get_param("LaunchTemplateId"))
        data = template.latest_version().data
        if isinstance(data.get("UserData"), str):
            data["UserData"] = parse_user_data(data["UserData"])
        return done

    return {each.__name__: each for each in (create_launch_template, create_launch_template_version)}
