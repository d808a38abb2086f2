# A pool has one GPU model, so all instance types of a group must have the same one.
#
# Source: EC2's DescribeInstanceTypes (GpuInfo).

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

  # What is wrong with families that cannot become workers, by a regular expression; the first that matches counts.
  unfit_families = [
    { name = "^[a-z]+[0-9]+[a-z]*g[a-z]*$|-gb[0-9]+$", reason = "arm64; the bootstrap supports only x86-64" },
    { name = "^g4ad$", reason = "AMD GPUs" },
    { name = "^(p[23][a-z]*|g[23][a-z]*)$", reason = "GPUs older than Turing, which the GPU image's driver does not support" },
    { name = "^g[a-z]*[0-9]+f$", reason = "fractional GPUs, which Kubernetes cannot allocate" },
    { name = "^(inf|trn|dl|vt|mac|f|c|m|r|t|x|z|i|d|h|hpc|u)[0-9]+", reason = "no NVIDIA GPU" },
  ]
}
