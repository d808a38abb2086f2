"""Inputs that a cloud would take, and the machine refuse or suffer from: module, input, and what the plan must say.

Field cases 12.1 to 12.4, and others of their kind.
"""

from __future__ import annotations

from typing import Any

UUID = "0b2c6f7e-3c5b-4d9e-8d63-0e9a2f6b7c11"

ARM, NO_GPU, AMD = "has an ARM processor", "has no NVIDIA GPU", "has AMD GPUs"
SUFFERS: list[tuple[str, dict[str, Any], str]] = [
    # Field case 12.1: machines that the bootstrap refuses, or that get no work.
    ("lambda", {"instance_type": "gpu_1x_gh200"}, ARM),
    ("lambda", {"instance_type": "gpu_4x_gb200"}, ARM),
    ("lambda", {"instance_type": "cpu_4x_general"}, NO_GPU),
    ("crusoe", {"type": "gb200-186gb-nvl.4x", "image": None}, ARM),
    ("crusoe", {"type": "mi300x-192gb-ib.8x"}, AMD),
    ("crusoe", {"type": "c1a.8x"}, NO_GPU),
    ("crusoe", {"type": "s1a.20x"}, NO_GPU),
    ("crusoe", {"type": "h100-80gb-sxm-ib.8x"}, "SXM GPUs need an image with -sxm-"),
    ("crusoe", {"image": "ubuntu22.04-nvidia-sxm-docker:latest"}, "others one with -pcie-"),
    ("crusoe", {"image": "ubuntu22.04-rocm-docker:latest"}, "not for x86-64 machines with NVIDIA"),
    *(
        ("aws-spot", {"instance_types": [kind]}, f"{kind}: {message}")
        for kind, message in {
            "g5g.xlarge": "arm64",
            "c7g.xlarge": "arm64",
            "p6e-gb200.36xlarge": "arm64",
            "g4ad.xlarge": "AMD GPUs",
            "inf2.xlarge": "no NVIDIA GPU",
            "trn1.2xlarge": "no NVIDIA GPU",
            "m5.xlarge": "no NVIDIA GPU",
            "dl1.24xlarge": "no NVIDIA GPU",
            "p3.2xlarge": "GPUs older than Turing",
            "g6f.xlarge": "fractional GPUs",
            "g99.xlarge": "unknown GPU model",
        }.items()
    ),
    ("aws-spot", {"instance_types": ["g5"]}, "give family and size"),
    ("aws-spot", {"more_gpu_families": {"g5g": "T4G"}}, "g5g: arm64"),
    ("aws-spot", {"more_gpu_families": {"g4ad": "V520"}}, "g4ad: AMD GPUs"),
    # Field case 12.2: networks that a worker uses inside, by arithmetic and not by text.
    *(
        ("crusoe", {"network_cidr": network}, message)
        for network, message in {
            "10.40.0.0/13": "network_cidr 10.40.0.0/13 overlaps 10.42.0.0/16",
            "10.0.0.0/8": "overlaps 10.42.0.0/16 or 10.43.0.0/16 (k3s)",
            "10.42.0.0/24": "(k3s)",
            "10.43.255.0/24": "(k3s)",
            "192.168.0.0/23": "overlaps 192.168.1.0/24",
            "192.168.1.128/25": "use it for containers",
            "198.18.0.0/24": "must be private",
            "8.8.8.0/24": "must be private",
            "10.200.0.7/24": "with its first address",
            "10.200.0.0/30": "room for at least 8",
            "fd00::/64": "an IPv4 CIDR block",
            "10.200.0.0": "an IPv4 CIDR block",
        }.items()
    ),
    # Field case 12.3: host names that Kubernetes takes for no node.
    *(
        ("lambda", {"hostname": name}, "beginning and ending with a letter or digit")
        for name in ("box-", "-box", "gpu_box_1", "box.", "a" * 64, "", "Box")
    ),
    ("crusoe", {"name": "box-"}, "beginning and ending with a letter or digit"),
    ("crusoe", {"name": "gpu_box"}, "beginning and ending with a letter or digit"),
    # Field case 12.4: the address of a machine that exists.
    (
        "ssh",
        {"host": "10.42.0.15", "settings": {"BETA9_K3S_CLUSTER_CIDR": "10.32.0.0/12"}},
        "10.42.0.15/32 overlaps 10.32.0.0/12 (BETA9_K3S_CLUSTER_CIDR gives it to k3s)",
    ),
    ("ssh", {"host": "198.18.0.2"}, "the tunnel uses it"),
    ("ssh", {"host": "192.0.2.9:22"}, "not a valid one"),
    ("ssh", {"host": "192.0.2"}, "not a valid one"),
    # What else a machine would refuse or suffer from.
    (
        "lambda",
        {"region": "us-south-1", "firewall_ruleset_ids": ["0" * 32]},
        "no firewall rules in us-south-1",
    ),
    ("crusoe", {"settings": {"BETA9_DRAIN_TIMEOUT": "100"}}, "Crusoe ends a shutdown after 90 s"),
    ("crusoe", {"create_network": True, "ssh_from": "0.0.0.0/0"}, "/0 is not allowed"),
    ("crusoe", {"create_network": True, "ssh_from": "2001:db8::/32"}, "an IPv4 CIDR block"),
    ("crusoe", {"ssh_from": "192.0.2.7/32"}, "only with create_network"),
    ("aws-spot", {"settings": {"BETA9_DRAIN_TIMEOUT": "170s"}}, "must exceed the time for draining"),
    ("aws-spot", {"termination_timeout_s": 60}, "must exceed the time for draining"),
    ("aws-spot", {"settings": {"BETA9_DEADLINE_SCALE": "2"}}, "BETA9_DEADLINE_SCALE cannot be used here"),
    ("aws-spot", {"on_demand_base": 2}, "from 0 to max_size"),
    ("aws-spot", {"max_size": 3, "desired_size": 1.5}, "a whole number between min_size and max_size"),
    ("aws-spot", {"min_size": 2}, "at least min_size"),
    ("aws-spot", {"launch_timeout_s": 600}, "6100-7200"),
    ("aws-spot", {"root_volume_gib": 20}, "50-16384"),
    ("aws-spot", {"root_device_name": "sda1"}, "must be the image's root device"),
    ("aws-spot", {"volume_kms_key_arn": "mine"}, "must be the ARN of a key"),
    ("aws-spot", {"permissions_boundary_arn": "mine"}, "must be the ARN of a policy"),
    ("aws-spot", {"security_group_ids": ["default"]}, "ids of security groups"),
    ("aws-spot", {"key_name": " "}, "name of a key pair"),
    ("aws-spot", {"tags": {"aws:x": "y"}}, "do not begin with aws:"),
    ("aws-spot", {"market": "0.25"}, "spot, on-demand, or the id of a capacity reservation"),
    ("aws-spot", {"subnet_ids": []}, "at least one subnet id"),
    ("ssh", {"login_user": "root me"}, "not a valid login name"),
    ("ssh", {"login_key_file": "/nowhere"}, "no such local file"),
]
FITS: list[tuple[str, dict[str, Any]]] = [
    ("lambda", {"instance_type": "cpu_4x_general", "require_gpu": False}),
    ("lambda", {"instance_type": "gpu_8x_h100_sxm5", "hostname": "gpu-box-1"}),
    ("lambda", {"settings": {"BETA9_KEEPALIVE_INTERVAL": "90s", "BETA9_K3S": "REQUIRED"}}),
    ("crusoe", {"type": "c1a.8x", "require_gpu": False}),
    ("crusoe", {"type": "l40s-48gb.4x"}),
    ("crusoe", {"type": "h100-80gb-sxm-ib.8x", "image": None}),
    ("crusoe", {"image": None, "custom_image": UUID}),
    ("crusoe", {"create_network": True, "network_cidr": "10.44.0.0/14"}),
    ("crusoe", {"create_network": True, "network_cidr": "192.168.2.0/23"}),
    ("crusoe", {"create_network": True, "network_cidr": "10.40.0.0/15", "ssh_from": "192.0.2.7/32"}),
    ("aws-spot", {"instance_types": ["g9x.xlarge"], "more_gpu_families": {"g9x": "N9"}}),
    ("aws-spot", {"instance_types": ["p5.48xlarge"], "termination_timeout_s": 105}),
    ("aws-spot", {"instance_types": ["g4dn.metal"]}),
    ("ssh", {"host": "10.44.0.1"}),
    ("ssh", {"host": "gpu-box.example.com"}),
    ("ssh", {"host": "2001:db8::7", "host_key": None}),
    ("lambda", {"ssh_host_key_fingerprint": None, "ssh_host_key_file": "given"}),
]
