#!/usr/bin/env bash
# Install the agent's unit, command and settings. This comes before k3s, because a daemon-reload can take GPUs away from
# running pods. steps/80-agent.sh starts the unit, once it has written which image to run.
# needs: preflight
# deadline: 60
# fix: see the line above; docs/bootstrap.md lists the files
set -Eeuo pipefail
# shellcheck source=../lib/step.sh
. "${BETA9_BOOTSTRAP:-$(dirname "$0")/..}/lib/step.sh"

UNIT=beta9-worker.service

main() {
  local etc=$BETA9_ROOT/etc/beta9-worker systemd=$BETA9_ROOT/etc/systemd
  put_dir "$etc" 0700
  put_dir "$etc/secrets" 0700
  chmod 0700 "$etc" "$etc/secrets"
  install_settings "$etc/worker.env"
  put_file "$BETA9_ROOT/usr/local/bin/beta9-worker" 0755 <"$BETA9_BOOTSTRAP/systemd/beta9-worker.sh"
  shell_files "$BETA9_ROOT/usr/local/share"
  put_file "$BETA9_ROOT/usr/local/lib/beta9-worker/agent-options" 0755 <"$BETA9_BOOTSTRAP/systemd/agent-options.sh"
  put_file "$systemd/system/$UNIT" 0644 units <"$BETA9_BOOTSTRAP/systemd/$UNIT"
  put_file "$systemd/logind.conf.d/50-beta9-worker.conf" 0644 logind <<EOT
# Written by the Beta9 worker bootstrap: kubelet may delay a shutdown until its pods have ended.
[Login]
InhibitDelayMaxSec=60
EOT
  if is_pending units || ! unit_is enabled "$UNIT"; then
    enable_units "$UNIT"
    settled units
  fi
  if is_pending logind; then
    # The setting matters only at shutdown, and the next boot reads it anyway: not a reason to fail.
    if ! unit_is active systemd-logind || systemctl restart systemd-logind; then
      settled logind
    else
      say "systemd-logind does not restart; its new setting takes effect at the next boot"
    fi
  fi
}

# shell_files SHARE: completion for bash and zsh, and the manual page.
shell_files() {
  local from=$BETA9_BOOTSTRAP/share
  put_file "$1/bash-completion/completions/beta9-worker" 0644 <"$from/beta9-worker.bash"
  put_file "$1/zsh/site-functions/_beta9-worker" 0644 <"$from/_beta9-worker"
  put_file "$1/man/man1/beta9-worker.1" 0644 <"$from/beta9-worker.1"
}

# The agent reads /etc/beta9-worker/worker.env: copy the installer's settings there, unless they are that file.
install_settings() {
  [[ -n $BETA9_ENV_FILE ]] || return 0
  if [[ $BETA9_ENV_FILE -ef $1 ]]; then chmod 0600 "$1"; else put_file "$1" 0600 <"$BETA9_ENV_FILE"; fi
}

main "$@"
