#!/usr/bin/env bash
# RuntimeClass `nvidia` and NVIDIA's device plugin: k3s learns of the GPUs.
# needs: k3s driver fabric toolkit gpu-devices
# deadline: 300
# fix: see `k3s kubectl -n kube-system describe ds nvidia-device-plugin`
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/nvidia.sh
. "$BETA9_BOOTSTRAP/lib/nvidia.sh"

MANIFESTS=/var/lib/rancher/k3s/server/manifests # k3s applies what lies there, now and at every start

main() {
  local image strategy
  wants_gpu
  image=$(setting BETA9_DEVICE_PLUGIN_IMAGE)
  strategy=$(setting BETA9_MIG_STRATEGY single)
  [[ $image =~ ^[A-Za-z0-9._/:@-]+$ ]] || fail "BETA9_DEVICE_PLUGIN_IMAGE is '$image', not an image reference"
  [[ $strategy =~ ^(none|single|mixed)$ ]] || fail "BETA9_MIG_STRATEGY is '$strategy', not none, single or mixed"
  [[ $image == *@sha256:* ]] || unpinned BETA9_DEVICE_PLUGIN_IMAGE "the image $image" "names no digest"
  runtime_class
  sed -e "s|@IMAGE@|$image|" -e "s|@MIG_STRATEGY@|$strategy|" "$BETA9_BOOTSTRAP/manifests/nvidia-device-plugin.yaml" |
    put_file "$BETA9_ROOT$MANIFESTS/beta9-nvidia-device-plugin.yaml" 0600
}

# k3s brings the class itself since 1.28 or so; two owners of one object would take it from each other, so ours is
# applied only where there is none.
runtime_class() {
  wait_for 60 "k3s' own RuntimeClass nvidia" kube get runtimeclass nvidia && return 0
  kube apply -f "$BETA9_BOOTSTRAP/manifests/nvidia-runtimeclass.yaml" ||
    fail "the RuntimeClass nvidia cannot be made" "see whether k3s answers: k3s kubectl get nodes"
  changed "made the RuntimeClass nvidia"
}

main "$@"
