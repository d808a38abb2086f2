# shellcheck shell=bash
# Locate k3s, tell an existing installation from this one's, and query it.

# shellcheck source=k3s_networks.sh
. "$BETA9_BOOTSTRAP/lib/k3s_networks.sh"

# shellcheck disable=SC2034 # used by the steps that source this file
K3S_FILES=$BETA9_STATE/downloads/k3s K3S=$BETA9_ROOT/usr/local/bin/k3s

# k3s_foreign: whether k3s was not installed by this bootstrap; such a k3s is used but neither changed nor removed.
k3s_foreign() { [[ -e $K3S ]] && ! recorded file "$K3S"; }

# node_name: print the name of k3s's node: the host's, cleaned of what Kubernetes does not accept in one (`gpu_box_1` becomes
# gpu-box-1). At most 63 characters, since it is also the value of a label.
node_name() {
  local name
  name=$(k3s_option node-name)
  if [[ -z $name ]]; then
    name=$(host_name | sed -E 's/[^a-z0-9.-]+/-/g; s/[-.]*\.[-.]*/./g; s/^[-.]+//' | cut -c1-63 | sed -E 's/[-.]+$//')
  fi
  printf %s "${name:-worker}"
}

# host_name: print the host's name as k3s takes it, in lower case.
host_name() { { hostname 2>/dev/null || uname -n; } | tr '[:upper:]' '[:lower:]'; }

is_node_name() { [[ ${#1} -le 63 && $1 =~ ^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$ ]]; }

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
  # Without the proxy, which the script would write into its own file of variables: lib/proxy.sh has one that follows
  # the settings.
  env -u http_proxy -u https_proxy -u no_proxy -u HTTP_PROXY -u HTTPS_PROXY -u NO_PROXY \
    INSTALL_K3S_SKIP_DOWNLOAD=true INSTALL_K3S_SKIP_START=true INSTALL_K3S_EXEC=server \
    INSTALL_K3S_BIN_DIR="${K3S%/*}" INSTALL_K3S_SYSTEMD_DIR="$BETA9_ROOT/etc/systemd/system" sh "$K3S_FILES/install.sh"
  printf '%s\n' "$sum" >"$BETA9_STATE/k3s-script"
  changed "ran k3s's installation script"
}
