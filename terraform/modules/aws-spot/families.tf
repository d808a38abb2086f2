# A pool has one GPU model, so all instance types of a group must have the same one.
#
# Source: EC2's DescribeInstanceTypes (GpuInfo). Deliberately left out: g5g (arm64), g6f and gr6f (fractional GPUs), p2,
# g3 and p3 (older than Turing, which the open kernel modules of the GPU image do not support).

locals {
  gpu_of_family = merge({
    "g4dn"    = "T4"
    "g5"      = "A10G"
    "g6"      = "L4"
    "gr6"     = "L4"
    "g6e"     = "L40S"
    "g7"      = "RTX PRO 4500"
    "g7e"     = "RTX PRO Server 6000"
    "p4d"     = "A100 40 GB"
    "p4de"    = "A100 80 GB"
    "p5"      = "H100"
    "p5e"     = "H200"
    "p5en"    = "H200"
    "p6-b200" = "B200"
    "p6-b300" = "B300"
  }, var.more_gpu_families)
}
