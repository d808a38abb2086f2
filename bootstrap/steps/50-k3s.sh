#!/usr/bin/env bash
# Run the pinned k3s as a single node; restart it only if its binary, script or configuration changed. A k3s that this
# bootstrap did not install is used unchanged.
# needs: k3s-files storage units firewall docker-gpu fabric gpu-devices tailscale
# deadline: 600
# fix: see 'journalctl -u k3s'
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/proxy.sh
. "$BETA9_BOOTSTRAP/lib/proxy.sh"
# shellcheck source=../lib/k3s.sh
. "$BETA9_BOOTSTRAP/lib/k3s.sh"

KUBELET=$BETA9_ROOT/var/lib/rancher/k3s/agent/etc/kubelet.conf.d

main() {
  if k3s_foreign; then
    wait_for "$(scaled_timeout 120)" "the existing k3s" k3s_ready || fail "the existing k3s does not answer" "start it, or remove it"
    skip "using the existing k3s, which this bootstrap did not install"
  fi
  keep_existing_config
  put_dir "$K3S_ETC"
  choose_networks || fail "k3s's networks $PODS and $SERVICES overlap this machine's own: $TAKEN" \
    "set BETA9_K3S_CLUSTER_CIDR and BETA9_K3S_SERVICE_CIDR to networks that nothing here uses"
  raise_limits
  k3s_config | put_file "$K3S_ETC/config.yaml" 0600 k3s
  write_registries
  write_kubelet_config
  put_file "$K3S" 0755 k3s <"$K3S_FILES/k3s"
  # The gateway's worker pods keep images and logs in these directories.
  own_tree "$BETA9_ROOT/images"
  own_tree "$BETA9_ROOT/var/log/worker"
  unit_proxy k3s
  k3s_service
  if is_pending k3s-proxy; then
    systemctl daemon-reload
    pending k3s
    settled k3s-proxy
  fi
  start_k3s
}

# Kubelet, containerd and each pod's shim watch files, all as root. The kernel's usual limit for one user is 128 instances;
# beyond it k3s does not start, or pods fail with "too many open files".
raise_limits() {
  local conf=$BETA9_ROOT/etc/sysctl.d/90-beta9-worker.conf name least file now lines=''
  for name in fs/inotify/max_user_instances=8192 fs/inotify/max_user_watches=524288; do
    least=${name#*=} name=${name%=*}
    file=$BETA9_ROOT/proc/sys/$name
    now=$(cat "$file" 2>/dev/null) || continue
    if ((now < least)); then
      record run "[[ \$(<'$file') != $least ]] || echo $now >'$file'"
      printf '%s\n' "$least" >"$file"
      changed "raised ${name//\//.} from $now to $least"
    else
      grep -qs "^${name//\//.} = $least$" "$conf" || continue # high enough, and not by us
    fi
    lines+="${name//\//.} = $least"$'\n'
  done
  [[ -z $lines ]] || put_file "$conf" 0644 < <(printf '# Written by the Beta9 worker bootstrap.\n%s' "$lines")
}

# k3s's uninstaller deletes its whole directory; keep existing files, so that uninstall.sh can restore them.
keep_existing_config() {
  local each
  if recorded file "$K3S" || [[ ! -d $K3S_ETC ]]; then return 0; fi
  while IFS= read -r -d '' each; do keep_original "$each"; done < <(find "$K3S_ETC" -type f -print0)
}

k3s_config() {
  cat <<'EOT'
# Written by the Beta9 worker bootstrap; put your own settings into config.yaml.d/.
write-kubeconfig-mode: "0600"
secrets-encryption: true
disable:
  - traefik
  - servicelb
  - metrics-server
EOT
  [[ $(node_name) == "$(host_name)" ]] || printf 'node-name: "%s"\n' "$(node_name)"
  [[ $PODS == 10.42.0.0/16 ]] || printf 'cluster-cidr: %s\n' "$PODS"
  [[ $SERVICES == 10.43.0.0/16 ]] || printf 'service-cidr: %s\n' "$SERVICES"
  # Only if it is installed: k3s does not start with a default runtime that is missing.
  if command -v nvidia-container-runtime >/dev/null; then echo 'default-runtime: nvidia'; fi
}

# Private registries and mirrors for worker images: k3s' own format, or converted from Docker's login file.
write_registries() {
  local yaml auth
  yaml=$(setting BETA9_REGISTRIES_FILE) auth=$(setting BETA9_REGISTRY_AUTH_FILE)
  if [[ -n $yaml ]]; then
    put_file "$K3S_ETC/registries.yaml" 0600 k3s <"$BETA9_ROOT$yaml"
  elif [[ -n $auth ]]; then
    python3 "$BETA9_BOOTSTRAP/lib/registries.py" <"$BETA9_ROOT$auth" | put_file "$K3S_ETC/registries.yaml" 0600 k3s
  fi
}

# On shutdown, pods get 60 s to end, of which the last 10 s are for critical system pods.
write_kubelet_config() {
  put_file "$KUBELET/50-beta9-worker.conf" 0600 k3s <<'EOT'
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
shutdownGracePeriod: 60s
shutdownGracePeriodCriticalPods: 10s
EOT
}

start_k3s() {
  if is_pending k3s; then
    timeout "$(scaled_timeout 240)" systemctl restart k3s || fail "k3s does not start: $(journalctl -u k3s -n 1 -o cat --grep 'level=(fatal|error)' 2>/dev/null || true)"
    changed "started k3s"
  elif ! unit_is active k3s; then
    timeout "$(scaled_timeout 240)" systemctl start k3s || fail "k3s does not start"
    changed "started k3s"
  fi
  wait_for "$(scaled_timeout 300)" "k3s to answer" k3s_ready || fail "k3s was started but does not answer"
  wait_for "$(scaled_timeout 300)" "the node to be ready" node_ready || fail "k3s answers, but its node does not become ready" "see 'k3s kubectl describe nodes'"
  settled k3s
  say "k3s $(setting BETA9_K3S_VERSION) answers"
}

main "$@"
