"""A real agent in an Auto Scaling group: completes the launch hook once ready, the termination hook once drained."""

from __future__ import annotations

from pathlib import Path

from tests.aws.standin import CREDENTIALS, Aws
from tests.integration.lab import laboratory, wait_for
from tests.integration.metadata_service import INSTANCE_ID, MetadataService

GROUP = "beta9-gpu"


def test_launch_and_termination_hooks_are_completed(aws: Aws, tmp_path: Path) -> None:
    autoscaling = aws.client("autoscaling")
    ec2 = aws.client("ec2")
    ec2.create_launch_template(LaunchTemplateName="worker", LaunchTemplateData={"InstanceType": "g5.xlarge"})
    autoscaling.create_auto_scaling_group(
        AutoScalingGroupName=GROUP,
        LaunchTemplate={"LaunchTemplateName": "worker"},
        MinSize=0,
        MaxSize=1,
        VPCZoneIdentifier=ec2.describe_subnets()["Subnets"][0]["SubnetId"],
    )
    for name, transition in (("launch", "LAUNCHING"), ("termination", "TERMINATING")):
        autoscaling.put_lifecycle_hook(
            AutoScalingGroupName=GROUP,
            LifecycleHookName=name,
            LifecycleTransition=f"autoscaling:EC2_INSTANCE_{transition}",
            DefaultResult="ABANDON",
        )
    with MetadataService() as cloud, laboratory(tmp_path) as lab:
        agent = lab.ready_agent(
            {"force_before_s": 15, "node_interval_s": 1},
            BETA9_INTERRUPTION="auto",
            BETA9_METADATA_ENDPOINT=cloud.url,
            BETA9_KUBECONFIG=str(lab.kubeconfig),
            BETA9_KEEPALIVE_INTERVAL="1",
            BETA9_AWS_LAUNCH_HOOK=f"{GROUP}/launch",
            BETA9_AWS_TERMINATION_HOOK=f"{GROUP}/termination",
            AWS_ENDPOINT_URL=aws.url,
            **CREDENTIALS,
        )
        wait_for("the launch is completed", lambda: len(aws.completed) == 1)
        cloud.documents["autoscaling/target-lifecycle-state"] = "Terminated"
        wait_for("the termination is completed", lambda: len(aws.completed) == 2)
        assert agent.wait_exit() == 0
    completed = [
        (each["LifecycleHookName"], each["LifecycleActionResult"], each["InstanceId"])
        for each in aws.completed
    ]
    assert completed == [("launch", "CONTINUE", INSTANCE_ID), ("termination", "CONTINUE", INSTANCE_ID)]


def test_a_machine_that_leaves_its_group_says_that_it_goes_on_costing(tmp_path: Path) -> None:
    """Field case 13.2: the group is not told, so the person is, with what to do; also at each later start."""
    with MetadataService() as cloud, laboratory(tmp_path) as lab:
        agent = lab.ready_agent(
            BETA9_INTERRUPTION="auto",
            BETA9_METADATA_ENDPOINT=cloud.url,
            BETA9_AWS_TERMINATION_HOOK=f"{GROUP}/termination",
        )
        told = agent.command("leave")
        assert told.returncode == 0
        assert agent.wait_exit() == 0
        agent.start()
        assert agent.wait_exit() == 0
        (stays,) = agent.events("stays_away")
        for text in (told.stdout, stays["text"]):
            assert f"the Auto Scaling group {GROUP} is not told" in text
            assert "keeps accruing charges" in text
            assert f"set-instance-health --instance-id {INSTANCE_ID} --health-status Unhealthy" in text
        again = agent.command("leave")
        assert "No agent is running" in again.stdout
        assert "costing" in again.stdout
