"""The machine's calls to its Auto Scaling group, against moto's server (standin.py describes what it adds)."""

from __future__ import annotations

import pytest

from agent.adapters.aws import access
from agent.adapters.aws.autoscaling import Autoscaling
from agent.errors import SettingsError, TransientError
from agent.settings.values import LifecycleHook
from tests.aws.standin import Aws

HOOK = LifecycleHook("beta9-gpu", "beta9-launch")


@pytest.fixture
def instance(aws: Aws) -> str:
    """The one machine of a group with a launch hook."""
    ec2, autoscaling = aws.client("ec2"), aws.client("autoscaling")
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    ec2.create_launch_template(LaunchTemplateName="worker", LaunchTemplateData={"InstanceType": "g5.xlarge"})
    autoscaling.create_auto_scaling_group(
        AutoScalingGroupName=HOOK.group,
        LaunchTemplate={"LaunchTemplateName": "worker"},
        MinSize=1,
        MaxSize=1,
        VPCZoneIdentifier=subnet,
    )
    autoscaling.put_lifecycle_hook(
        AutoScalingGroupName=HOOK.group,
        LifecycleHookName=HOOK.name,
        LifecycleTransition="autoscaling:EC2_INSTANCE_LAUNCHING",
        HeartbeatTimeout=3600,
        DefaultResult="ABANDON",
    )
    groups = autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"]
    return str(groups[0]["Instances"][0]["InstanceId"])


def autoscaling_of(instance: str) -> Autoscaling:
    return Autoscaling("BETA9_AWS_LAUNCH_HOOK", "http://127.0.0.1:1", instance)


@pytest.mark.parametrize("result", ["CONTINUE", "ABANDON"])
def test_a_waiting_hook_is_completed(aws: Aws, instance: str, result: str) -> None:
    assert autoscaling_of(instance).complete(HOOK, result)
    (request,) = aws.completed
    assert request["InstanceId"] == instance
    assert (request["AutoScalingGroupName"], request["LifecycleHookName"]) == (HOOK.group, HOOK.name)
    assert request["LifecycleActionResult"] == result


def test_without_a_waiting_hook_nothing_is_completed(aws: Aws, instance: str) -> None:
    assert not autoscaling_of(instance).complete(LifecycleHook(HOOK.group, "another"), "CONTINUE")


def test_an_unhealthy_machine_is_reported(aws: Aws, instance: str) -> None:
    autoscaling_of(instance).mark_unhealthy()
    groups = aws.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert [each["HealthStatus"] for each in groups[0]["Instances"]] == ["Unhealthy"]


def test_without_a_region_the_error_names_the_setting(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setattr(access, "METADATA_TIMEOUT_S", 1)
    with pytest.raises(SettingsError, match="BETA9_AWS_LAUNCH_HOOK: the Auto Scaling group: no AWS region"):
        autoscaling_of("i-0").complete(HOOK, "CONTINUE")


def test_an_unreachable_aws_is_a_transient_error(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(access, "CONNECT_TIMEOUT_S", 1)
    with pytest.raises(TransientError, match="cannot be reached"):
        autoscaling_of("i-0").complete(HOOK, "CONTINUE")
