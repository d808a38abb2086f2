#!/usr/bin/env bash
# k3s, pinned, as a single node; restarted only if its program, its script or its configuration differ. One that somebody
# else installed is used as it is.
# needs: k3s-files storage units firewall docker-gpu fabric gpu-devices tailscale
# deadline: 600
# fix: see 'journalctl -u k3s'
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"
# shellcheck source=../lib/k3s.sh
. "$BETA9_BOOTSTRAP/lib/k3s.sh"

ETC=$BETA9_ROOT/etc/rancher/k3s
KUBELET=$BETA9_ROOT/var/lib/rancher/k3s/agent/etc/kubelet.conf.d

main() {
  if k3s_foreign; then
    wait_for "$(patience 120)" "the k3s that is here" k3s_ready || fail "the k3s that is here does not answer" "start it, or remove it"
    skip "k3s is here and was not installed by this bootstrap"
  fi
  keep_configuration
  put_dir "$ETC"
  configuration | put_file "$ETC/config.yaml" 0600 k3s
  registries
  kubelet
  put_file "$K3S" 0755 k3s <"$K3S_FILES/k3s"
  # The gateway's worker pods keep images and logs there.
  own_tree "$BETA9_ROOT/images"
  own_tree "$BETA9_ROOT/var/log/worker"
  k3s_service
  start
}

# k3s's own uninstaller takes its whole directory along; what was there before us comes back afterwards.
keep_configuration() {
  local each
  if recorded file "$K3S" || [[ ! -d $ETC ]]; then return 0; fi
  while IFS= read -r -d '' each; do keep_original "$each"; done < <(find "$ETC" -type f -print0)
}

configuration() {
  cat <<'EOT'
# Written by the Beta9 worker bootstrap; put additions of your own into config.yaml.d/.
write-kubeconfig-mode: "0600"
secrets-encryption: true
disable:
  - traefik
  - servicelb
  - metrics-server
EOT
  # Named only where it is found: k3s does not start with a default runtime that is not there.
  if command -v nvidia-container-runtime >/dev/null; then echo 'default-runtime: nvidia'; fi
}

# Private registries and mirrors for worker images: as k3s wants them, or made of Docker's login file.
registries() {
  local yaml auth
  yaml=$(setting BETA9_REGISTRIES_FILE) auth=$(setting BETA9_REGISTRY_AUTH_FILE)
  if [[ -n $yaml ]]; then
    put_file "$ETC/registries.yaml" 0600 k3s <"$BETA9_ROOT$yaml"
  elif [[ -n $auth ]]; then
    python3 "$BETA9_BOOTSTRAP/lib/registries.py" <"$BETA9_ROOT$auth" | put_file "$ETC/registries.yaml" 0600 k3s
  fi
}

# On a shutdown, pods get a minute to end, the system's own the last ten seconds of it.
kubelet() {
  put_file "$KUBELET/50-beta9-worker.conf" 0600 k3s <<'EOT'
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
shutdownGracePeriod: 60s
shutdownGracePeriodCriticalPods: 10s
EOT
}

start() {
  if is_pending k3s; then
    timeout "$(patience 240)" systemctl restart k3s || fail "k3s does not start: $(journalctl -u k3s -n 1 -o cat --grep 'level=(fatal|error)' 2>/dev/null || true)"
    changed "started k3s"
  elif ! unit_is active k3s; then
    timeout "$(patience 240)" systemctl start k3s || fail "k3s does not start"
    changed "started k3s"
  fi
  wait_for "$(patience 300)" "k3s to answer" k3s_ready || fail "k3s was started and does not answer"
  wait_for "$(patience 300)" "the node to be ready" node_ready || fail "k3s answers, and its node does not get ready" "see 'k3s kubectl describe nodes'"
  settled k3s
  say "k3s $(setting BETA9_K3S_VERSION) answers"
}

main "$@"
