#!/usr/bin/env bash
# What the gateway may do at this machine's Kubernetes: the account it logs in with, which the agent keeps in repair.
# needs: k3s
# deadline: 120
# fix: see 'k3s kubectl apply -f bootstrap/manifests/beta9-gateway.yaml'
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/k3s.sh
. "$BETA9_BOOTSTRAP/lib/k3s.sh"

MANIFEST=$BETA9_BOOTSTRAP/manifests/beta9-gateway.yaml

main() {
  local code=0
  kubectl diff -f "$MANIFEST" >/dev/null || code=$?
  ((code)) || skip "they are there"
  # With a k3s of ours they go with it.
  ! k3s_foreign || record run "k3s kubectl -n default delete --ignore-not-found serviceaccount/beta9-gateway role/beta9-gateway rolebinding/beta9-gateway"
  kubectl apply -f "$MANIFEST"
  changed "applied ${MANIFEST##*/}"
}

main "$@"
