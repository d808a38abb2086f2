# shellcheck shell=bash
# Facts about this machine, its systemd units, and waiting.

# os_release KEY: print a value of /etc/os-release, such as ID, VERSION_ID or VERSION_CODENAME.
os_release() {
  local -A os=()
  read_settings "$BETA9_ROOT/etc/os-release" os
  printf %s "${os[$1]:-}"
}

# has_gpu: whether the PCI bus has an NVIDIA display device (class 03xx, vendor 10de), with or without a driver.
has_gpu() {
  local device
  for device in "$BETA9_ROOT"/sys/bus/pci/devices/*; do
    [[ -r $device/vendor && -r $device/class ]] || continue
    [[ $(<"$device/vendor") != 0x10de || $(<"$device/class") != 0x03* ]] || return 0
  done
  return 1
}

# unit_is STATE UNIT: STATE is active or enabled
unit_is() { systemctl --quiet "is-$1" "$2" 2>/dev/null; }

# refuse_masked UNIT…: fail if somebody has masked one of these units, so that nothing can start it.
refuse_masked() {
  local each
  for each in "$@"; do
    [[ $(systemctl is-enabled "$each" 2>/dev/null) != masked* ]] ||
      fail "$each is masked: nothing can start it" "systemctl unmask $each, unless it was masked on purpose; then run the installer again"
  done
}

# enable_units UNIT…: start them at every boot. `enable` also makes systemd reload all unit files, so that no separate
# daemon-reload is needed; each can take half a minute on a slow machine.
enable_units() {
  local each
  for each in "$@"; do record unit "$each"; done
  systemctl enable --quiet "$@"
  changed "enabled $*"
}

# free_mib PATH: print the free space of the file system that contains PATH, which need not exist yet.
free_mib() {
  local path=$1
  until [[ -e $path ]]; do path=$(dirname "$path"); done
  df --output=avail -BM "$path" | tail -1 | tr -dc 0-9
}

# scaled_timeout SECONDS: print SECONDS multiplied by BETA9_DEADLINE_SCALE.
scaled_timeout() { printf %s $(($1 * $(number BETA9_DEADLINE_SCALE 1))); }

# pause SECONDS: sleep between attempts. BETA9_POLL in the environment (for tests) replaces every duration.
pause() { sleep "${BETA9_POLL:-$1}"; }

# wait_for SECONDS WHAT COMMAND…: repeat COMMAND until it succeeds; return 1 after SECONDS. Logs progress every minute.
wait_for() {
  local limit=$1 what=$2 start=$SECONDS last_report=-60
  shift 2
  [[ $limit =~ ^[0-9]{1,7}$ ]] || fail "the timeout for $what is '$limit', not a whole number of seconds"
  until "$@"; do
    ((SECONDS - start < limit)) || return 1
    if ((SECONDS - start - last_report >= 60)); then
      last_report=$((SECONDS - start))
      say "waiting for $what ($last_report s of $limit s)"
    fi
    pause 1
  done
}
