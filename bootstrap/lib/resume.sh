# shellcheck shell=bash
# The unit that runs the installer again at a boot: after the single reboot that a driver may need, and when directories
# that the installer has put on a scratch disk are missing.

RESUME_UNIT=beta9-worker-resume.service

place_resume_unit() {
  local unit
  unit=$(<"$BETA9_BOOTSTRAP/systemd/$RESUME_UNIT")
  unit=${unit//@BOOTSTRAP@/"$(unit_text "$BETA9_BOOTSTRAP")"}
  unit=${unit//@ENV_FILE@/"$(unit_text "$BETA9_ENV_FILE")"}
  put_file "$BETA9_ROOT/etc/systemd/system/$RESUME_UNIT" 0644 resume <<<"$unit"
  if is_pending resume || ! unit_is enabled "$RESUME_UNIT"; then
    enable_units "$RESUME_UNIT"
    settled resume
  fi
}

# resume_without MOUNT_POINT…: also run the installer at a boot at which one of these is not mounted.
resume_without() {
  local each
  {
    printf '# Written by the Beta9 worker bootstrap.\n[Unit]\n'
    for each in "$@"; do
      printf 'After=%s\nConditionPathIsMountPoint=|!%s\n' "$(systemd-escape --path --suffix=mount "$each")" "$each"
    done
  } | put_file "$BETA9_ROOT/etc/systemd/system/$RESUME_UNIT.d/50-scratch.conf" 0644 resume
  place_resume_unit
}

unit_text() { # escape TEXT for double quotes in a unit file
  local text=${1//%/%%}
  text=${text//\\/\\\\}
  printf %s "${text//\"/\\\"}"
}
