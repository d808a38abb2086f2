# shellcheck shell=bash
# Locate k3s, tell an existing installation from this one's, and query it.

# shellcheck disable=SC2034 # used by the steps that source this file
K3S_FILES=$BETA9_STATE/downloads/k3s K3S=$BETA9_ROOT/usr/local/bin/k3s

# k3s_foreign: whether k3s was not installed by this bootstrap; such a k3s is used but neither changed nor removed.
k3s_foreign() { [[ -e $K3S ]] && ! recorded file "$K3S"; }

kubectl() { "$K3S" kubectl "$@"; }

k3s_ready() { kubectl get --raw /readyz --request-timeout=5s >/dev/null 2>&1; }

node_ready() {
  [[ $(kubectl get nodes --request-timeout=5s -o jsonpath='{.items[*].status.conditions[?(@.type=="Ready")].status}' 2>/dev/null) == *True* ]]
}

# k3s's own script creates the unit, the links and the uninstaller; here it downloads and starts nothing.
k3s_service() {
  local sum
  sum=$(sha256sum <"$K3S_FILES/install.sh" | cut -d' ' -f1)
  if [[ $(cat "$BETA9_STATE/k3s-script" 2>/dev/null) == "$sum" && -e $BETA9_ROOT/etc/systemd/system/k3s.service ]]; then return 0; fi
  pending k3s
  record run "${K3S%/*}/k3s-uninstall.sh"
  INSTALL_K3S_SKIP_DOWNLOAD=true INSTALL_K3S_SKIP_START=true INSTALL_K3S_EXEC=server \
    INSTALL_K3S_BIN_DIR="${K3S%/*}" INSTALL_K3S_SYSTEMD_DIR="$BETA9_ROOT/etc/systemd/system" sh "$K3S_FILES/install.sh"
  printf '%s\n' "$sum" >"$BETA9_STATE/k3s-script"
  changed "ran k3s's installation script"
}
