# shellcheck shell=bash
# Give Docker, k3s and tailscaled the site's proxy: they download by themselves, as units of systemd.

# unit_proxy UNIT: write a drop-in with the proxy of the settings, or remove it if there is none any more. UNIT-proxy is
# then pending: systemd and the unit have to be told.
unit_proxy() {
  local drop_in=$BETA9_ROOT/etc/systemd/system/$1.service.d/beta9-proxy later=$1-proxy
  if [[ -n ${http_proxy:-}${https_proxy:-} ]]; then
    # Not in the drop-in itself: systemctl shows its variables to every user, and there may be a password.
    proxy_variables | put_file "$drop_in.env" 0600 "$later"
    put_file "$drop_in.conf" 0644 "$later" <<EOT
# Written by the Beta9 worker bootstrap: the proxy of worker.env.
[Service]
EnvironmentFile=${drop_in#"$BETA9_ROOT"}.env
EOT
  elif [[ -e $drop_in.conf ]]; then
    pending "$later"
    rm -f "$drop_in.conf" "$drop_in.env"
    changed "removed the proxy of $1"
  fi
}

# proxy_variables: print the lines of a systemd EnvironmentFile.
proxy_variables() {
  local name value
  for name in HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    value=${!name:-}
    value=${value//\\/\\\\} value=${value//\"/\\\"}
    [[ -z $value ]] || printf '%s="%s"\n' "$name" "$value"
  done
}
