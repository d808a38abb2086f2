# shellcheck shell=bash
# Where k3s is, and whose it is.

# shellcheck disable=SC2034 # for the steps that source this
K3S_FILES=$BETA9_STATE/downloads/k3s K3S=$BETA9_ROOT/usr/local/bin/k3s

# k3s_foreign: somebody else has put it here; it is used as it is, neither changed nor removed.
k3s_foreign() { [[ -e $K3S ]] && ! recorded file "$K3S"; }

kubectl() { "$K3S" kubectl "$@"; }

k3s_ready() { kubectl get --raw /readyz --request-timeout=5s >/dev/null 2>&1; }

node_ready() {
  [[ $(kubectl get nodes --request-timeout=5s -o jsonpath='{.items[*].status.conditions[?(@.type=="Ready")].status}' 2>/dev/null) == *True* ]]
}
