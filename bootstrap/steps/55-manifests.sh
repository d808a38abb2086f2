#!/usr/bin/env bash
# Create the gateway's service account and permissions in this machine's Kubernetes; the agent repairs them later.
# needs: k3s
# deadline: 120
# fix: run 'k3s kubectl apply -f bootstrap/manifests/beta9-gateway.yaml' and read its output
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/k3s.sh
. "$BETA9_BOOTSTRAP/lib/k3s.sh"

MANIFEST=$BETA9_BOOTSTRAP/manifests/beta9-gateway.yaml

main() {
  local code=0
  kubectl diff -f "$MANIFEST" >/dev/null || code=$?
  ((code)) || skip "the account is up to date"
  # A k3s installed by this bootstrap is removed as a whole; in any other one, delete the objects.
  ! k3s_foreign || record run "k3s kubectl -n default delete --ignore-not-found serviceaccount/beta9-gateway role/beta9-gateway rolebinding/beta9-gateway"
  kubectl apply -f "$MANIFEST"
  changed "applied ${MANIFEST##*/}"
}

main "$@"
