# shellcheck shell=bash
# What this machine is, and how its services are asked.

# os_release KEY: a value of /etc/os-release, e.g. ID, VERSION_ID, VERSION_CODENAME.
os_release() {
  local -A os=()
  read_settings "$BETA9_ROOT/etc/os-release" os
  printf %s "${os[$1]:-}"
}

# has_gpu: an NVIDIA display device on the PCI bus, driver or not (class 03xx, vendor 10de).
has_gpu() {
  local device
  for device in "$BETA9_ROOT"/sys/bus/pci/devices/*; do
    [[ -r $device/vendor && -r $device/class ]] || continue
    [[ $(<"$device/vendor") != 0x10de || $(<"$device/class") != 0x03* ]] || return 0
  done
  return 1
}

# unit_is STATE UNIT: active, enabled
unit_is() { systemctl --quiet "is-$1" "$2" 2>/dev/null; }

# enable_units UNIT…: at every boot from now on, and known to systemd: `enable` reads all unit files anew, so that no
# daemon-reload is needed beside it. Each of those can take half a minute on a slow machine.
enable_units() {
  local each
  for each in "$@"; do record unit "$each"; done
  systemctl enable --quiet "$@"
  changed "enabled $*"
}

# free_mib PATH: of the file system that PATH is, or would be, on.
free_mib() {
  local path=$1
  until [[ -e $path ]]; do path=$(dirname "$path"); done
  df --output=avail -BM "$path" | tail -1 | tr -dc 0-9
}

# patience SECONDS: as many as a machine of this speed gets (BETA9_DEADLINE_SCALE).
patience() { printf %s $(($1 * $(number BETA9_DEADLINE_SCALE 1))); }

# pause SECONDS: between tries. BETA9_POLL in the environment (tests) is how long every pause takes instead.
pause() { sleep "${BETA9_POLL:-$1}"; }

# wait_for SECONDS WHAT COMMAND…: until it succeeds; the wait is said once, and every minute.
wait_for() {
  local limit=$1 what=$2 start=$SECONDS said=-60
  shift 2
  [[ $limit =~ ^[0-9]{1,7}$ ]] || fail "the time to wait for $what is not a whole number of seconds"
  until "$@"; do
    ((SECONDS - start < limit)) || return 1
    if ((SECONDS - start - said >= 60)); then
      said=$((SECONDS - start))
      say "waiting for $what (${said} s of $limit s)"
    fi
    pause 1
  done
}
