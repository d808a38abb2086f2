#!/usr/bin/env bash
# Install NVIDIA's device plugin and the RuntimeClass `nvidia`, so that k3s offers the GPUs.
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

# k3s applies manifests in this directory, now and at every start
MANIFEST=$BETA9_ROOT/var/lib/rancher/k3s/server/manifests/beta9-nvidia-device-plugin.yaml

main() {
  local image strategy
  skip_without_gpu
  if k3s_foreign; then prepare_existing_k3s; fi
  image=$(setting BETA9_DEVICE_PLUGIN_IMAGE)
  strategy=$(setting BETA9_MIG_STRATEGY single)
  [[ $image =~ ^[A-Za-z0-9._/:@-]+$ ]] || fail "BETA9_DEVICE_PLUGIN_IMAGE is '$image', not an image reference"
  [[ $strategy =~ ^(none|single|mixed)$ ]] || fail "BETA9_MIG_STRATEGY is '$strategy', not none, single or mixed"
  [[ $image == *@sha256:* ]] || report_unpinned BETA9_DEVICE_PLUGIN_IMAGE "the image $image" "has no digest"
  ensure_runtime_class
  sed -e "s|@IMAGE@|$image|" -e "s|@MIG_STRATEGY@|$strategy|" "$BETA9_BOOTSTRAP/manifests/nvidia-device-plugin.yaml" |
    put_file "$MANIFEST" 0600
}

# prepare_existing_k3s: it may already have a device plugin; two of them would conflict over the GPUs.
prepare_existing_k3s() {
  if [[ ! -e $MANIFEST ]] && (($(allocatable_gpus) > 0)); then skip "the existing k3s already offers GPUs"; fi
  # Deleting the manifest file does not delete the objects that k3s created from it.
  record run "k3s kubectl -n kube-system delete --ignore-not-found daemonset/nvidia-device-plugin serviceaccount/nvidia-device-plugin"
}

# k3s creates the class itself since about 1.28. Two owners of one object would overwrite each other, so create it only
# if it does not appear within a minute, or within BETA9_GPU_TIMEOUT if that is shorter.
ensure_runtime_class() {
  local limit
  limit=$(number BETA9_GPU_TIMEOUT 300) || fail "BETA9_GPU_TIMEOUT is '$(setting BETA9_GPU_TIMEOUT)', not a number of seconds"
  wait_for $((limit < 60 ? limit : 60)) "k3s' own RuntimeClass nvidia" kubectl get runtimeclass nvidia --request-timeout=5s && return 0
  kubectl apply -f "$BETA9_BOOTSTRAP/manifests/nvidia-runtimeclass.yaml" ||
    fail "cannot create the RuntimeClass nvidia" "check whether k3s answers: k3s kubectl get nodes"
  changed "created the RuntimeClass nvidia"
}

main "$@"
