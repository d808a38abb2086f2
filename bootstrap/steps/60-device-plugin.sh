#!/usr/bin/env bash
# RuntimeClass `nvidia` and NVIDIA's device plugin: k3s learns of the GPUs.
# needs: k3s
# deadline: 300
# fix: see "k3s kubectl -n kube-system describe ds nvidia-device-plugin"
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/nvidia.sh
. "$BETA9_BOOTSTRAP/lib/nvidia.sh"
# shellcheck source=../lib/k3s.sh
. "$BETA9_BOOTSTRAP/lib/k3s.sh"

# k3s applies what lies there, now and at every start
MANIFEST=$BETA9_ROOT/var/lib/rancher/k3s/server/manifests/beta9-nvidia-device-plugin.yaml

main() {
  local image strategy
  wants_gpu
  if k3s_foreign; then yield; fi
  image=$(setting BETA9_DEVICE_PLUGIN_IMAGE)
  strategy=$(setting BETA9_MIG_STRATEGY single)
  [[ $image =~ ^[A-Za-z0-9._/:@-]+$ ]] || fail "BETA9_DEVICE_PLUGIN_IMAGE is '$image', not an image reference"
  [[ $strategy =~ ^(none|single|mixed)$ ]] || fail "BETA9_MIG_STRATEGY is '$strategy', not none, single or mixed"
  [[ $image == *@sha256:* ]] || unpinned BETA9_DEVICE_PLUGIN_IMAGE "the image $image" "names no digest"
  runtime_class
  sed -e "s|@IMAGE@|$image|" -e "s|@MIG_STRATEGY@|$strategy|" "$BETA9_BOOTSTRAP/manifests/nvidia-device-plugin.yaml" |
    put_file "$MANIFEST" 0600
}

# yield: a k3s of somebody else's may have a plugin already, and two of them would deny each other the GPUs.
yield() {
  if [[ ! -e $MANIFEST ]] && (($(allocatable) > 0)); then skip "this k3s offers GPUs already"; fi
  # k3s forgets a manifest that is gone, and keeps what it made of it.
  record run "k3s kubectl -n kube-system delete --ignore-not-found daemonset/nvidia-device-plugin serviceaccount/nvidia-device-plugin"
}

# k3s brings the class itself since 1.28 or so; two owners of one object would take it from each other, so ours is
# applied only where there is none. Whoever gives the GPUs less than a minute to appear gives the class no more.
runtime_class() {
  local limit
  limit=$(number BETA9_GPU_TIMEOUT 300) || fail "BETA9_GPU_TIMEOUT is '$(setting BETA9_GPU_TIMEOUT)', not a number of seconds"
  wait_for $((limit < 60 ? limit : 60)) "k3s' own RuntimeClass nvidia" kubectl get runtimeclass nvidia --request-timeout=5s && return 0
  kubectl apply -f "$BETA9_BOOTSTRAP/manifests/nvidia-runtimeclass.yaml" ||
    fail "the RuntimeClass nvidia cannot be made" "see whether k3s answers: k3s kubectl get nodes"
  changed "made the RuntimeClass nvidia"
}

main "$@"
