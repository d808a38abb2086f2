"""A stand-in for AWS: moto's server, with additions and corrections for the calls made here.

Added: `StartInstanceRefresh` and `DescribeInstanceRefreshes` (every machine of the group is replaced at once, with
moto's own functions) and `CompleteLifecycleAction` (recorded in a list; only an existing hook can be completed).
Corrected: the user data of later versions of a launch template, the template's own tags among those of its machines, a
group's mixed instances policy after an update that does not mention it, the queue and role that moto gives every hook,
and a bucket policy's Deny, which moto applies although its condition is not met. Every request counts as made over TLS.
"""

from __future__ import annotations

import json
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
    """The running server, and the calls that moto does not record."""

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
    """Serve an empty AWS on a free loopback port; one at a time, since moto keeps its state in the process."""
    import requests
    from moto.autoscaling.responses import AutoScalingResponse
    from moto.ec2.responses.launch_templates import LaunchTemplates
    from moto.s3.models import FakeBucket
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it logs every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    aws = Aws(f"http://{host}:{port}")
    requests.post(f"{aws.url}/moto-api/reset", timeout=30).raise_for_status()
    with ExitStack() as patches:
        for owner, methods in (
            (AutoScalingResponse, _corrected_group_methods(AutoScalingResponse)),
            (AutoScalingResponse, _added_group_methods(aws)),
            (LaunchTemplates, _corrected_template_methods(LaunchTemplates)),
            (FakeBucket, {"get_permission": _permission_over_tls}),
        ):
            for name, method in methods.items():
                patches.enter_context(mock.patch.object(owner, name, method, create=True))
        try:
            yield aws
        finally:
            server.stop()


def _corrected_group_methods(owner: Any) -> dict[str, Callable[[Any], Any]]:
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

    return {each.__name__: each for each in (update_auto_scaling_group, put_lifecycle_hook)}


def _added_group_methods(aws: Aws) -> dict[str, Callable[[Any], Any]]:
    from moto.autoscaling.exceptions import ValidationError
    from moto.core.responses import ActionResult, EmptyResult

    def complete_lifecycle_action(self: Any) -> Any:
        request = dict(self._get_params())
        group, hook = request["AutoScalingGroupName"], request["LifecycleHookName"]
        if not self.autoscaling_backend.describe_lifecycle_hooks(group, [hook]):
            raise ValidationError(
                f"No active Lifecycle Action found with instance ID {request['InstanceId']}"
            )
        aws.completed.append(request)
        return EmptyResult()

    def start_instance_refresh(self: Any) -> Any:
        request = dict(self._get_params())
        aws.refreshes.append(request)
        group = self.autoscaling_backend.autoscaling_groups[request["AutoScalingGroupName"]]
        for each in list(group.instance_states):
            self.autoscaling_backend.terminate_instance(each.instance.id, should_decrement=False)
        return ActionResult({"InstanceRefreshId": f"refresh-{len(aws.refreshes)}"})

    def describe_instance_refreshes(self: Any) -> Any:
        ids = [f"refresh-{n + 1}" for n in range(len(aws.refreshes))]
        refreshes = [{"InstanceRefreshId": each, "Status": "Successful"} for each in reversed(ids)]
        return ActionResult({"InstanceRefreshes": refreshes})

    added = (complete_lifecycle_action, start_instance_refresh, describe_instance_refreshes)
    return {each.__name__: each for each in added}


def _permission_over_tls(bucket: Any, action: str, resource: str) -> Any:
    from moto.iam.access_control import IAMPolicy, PermissionResult

    if bucket.policy is None:
        return PermissionResult.NEUTRAL
    document = json.loads(bucket.policy)
    plain_http = [{"Bool": {"aws:SecureTransport": value}} for value in ("false", ["false"])]
    applying = [each for each in document["Statement"] if each.get("Condition") not in plain_http]
    return IAMPolicy(json.dumps({**document, "Statement": applying})).is_action_permitted(action, resource)


def _corrected_template_methods(owner: Any) -> dict[str, Callable[[Any], Any]]:
    from moto.ec2.utils import parse_user_data

    create, create_version = owner.create_launch_template, owner.create_launch_template_version

    def create_launch_template(self: Any) -> Any:
        done = create(self)
        template = self.ec2_backend.get_launch_template_by_name(self._get_param("LaunchTemplateName"))
        data = template.latest_version().data
        tags = data.get("TagSpecifications", [])
        data["TagSpecifications"] = [each for each in tags if each["ResourceType"] != "launch-template"]
        return done

    def create_launch_template_version(self: Any) -> Any:
        done = create_version(self)
        template = self.ec2_backend.get_launch_template(self._get_param("LaunchTemplateId"))
        data = template.latest_version().data
        if isinstance(data.get("UserData"), str):
            data["UserData"] = parse_user_data(data["UserData"])
        return done

    return {each.__name__: each for each in (create_launch_template, create_launch_template_version)}
