#!/usr/bin/env bash
# Turns this machine into a Beta9 worker: Ubuntu 22.04 or 24.04, or Debian 12. Safe to run again at any time.
#
#   sudo bootstrap/install.sh --env-file worker.env    (default: /etc/beta9-worker/worker.env)
#
#   --dry-run      show what would run, in which order and with which settings; change nothing
#   --steps DIR    run the steps in DIR instead of those next to this script
#
# Results and timings: /var/lib/beta9-worker/bootstrap.json. Output of each step: /var/log/beta9-worker/bootstrap/.
# Exit 0: done, or rebooting to continue; 1: failed (the failed stage and its fix are printed); 2: usage error.
set -Eeuo pipefail
umask 022
export LC_ALL=C HOME=${HOME:-/root} PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# During a busy first boot systemd may take longer to answer than systemctl's default timeout of 25 s.
export SYSTEMD_BUS_TIMEOUT=${SYSTEMD_BUS_TIMEOUT:-300}

BETA9_BOOTSTRAP=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
BETA9_ROOT=${BETA9_ROOT:-} BETA9_ENV_FILE=''
BETA9_LOGS=$BETA9_ROOT/var/log/beta9-worker/bootstrap
steps=$BETA9_BOOTSTRAP/steps dry_run=''
for part in log settings record host exit_codes timeline stages resume failure; do
  # shellcheck source=/dev/null
  . "$BETA9_BOOTSTRAP/lib/$part.sh"
done

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

parse_arguments() {
  while (($#)); do
    case $1 in
      --dry-run) dry_run=yes ;;
      --env-file | --steps)
        (($# > 1)) || { usage >&2; exit 2; }
        if [[ $1 == --steps ]]; then steps=$2; else BETA9_ENV_FILE=$(realpath -- "$2"); fi
        shift
        ;;
      --help | -h) usage; exit 0 ;;
      *) printf 'install.sh: unknown option %s\n' "$1" >&2; usage >&2; exit 2 ;;
    esac
    shift
  done
  local standard=$BETA9_ROOT/etc/beta9-worker/worker.env
  # A link that leads nowhere is not the same as no file.
  [[ -n $BETA9_ENV_FILE || ! ( -e $standard || -L $standard ) ]] || BETA9_ENV_FILE=$standard
}

main() {
  parse_arguments "$@"
  if [[ -n $dry_run ]]; then show_plan; exit; fi
  ((EUID == 0)) || { say "this script changes the system: run it as root (sudo $0)"; exit 1; }
  take_installer_lock
  # Before anything that can fail, since the settings say what to do then. What is wrong in them ends the run below.
  load_settings || true
  export BETA9_BOOTSTRAP BETA9_ROOT BETA9_ENV_FILE BETA9_RUN
  BETA9_RUN=$(mktemp -d "${TMPDIR:-/tmp}/beta9-bootstrap.XXXXXX")
  trap on_exit EXIT
  trap 'on_signal' INT TERM HUP
  trap 'on_error $? $LINENO "$BASH_COMMAND"' ERR
  prepare
  timeline_write running
  exec 3>&2 # messages that steps send to the installer's output
  run_stages
  [[ -z $FAILED ]] || end_failed "$FAILED" "$(failure_reason "$FAILED")" "$(fix_of "$FAILED")"
  [[ -z $REBOOT ]] || end_rebooting "$REBOOT"
  report_success
}

# A second installer (for example the boot script and a person) waits for the first and then finds nothing left to do.
take_installer_lock() {
  state_dir
  # shellcheck disable=SC2153 # set in lib/record.sh
  exec 9>>"$BETA9_STATE/installer.lock"
  flock -n 9 && return
  say "another installer is running; waiting for it to finish"
  flock -w 7200 9 || { say "the other installer did not finish within two hours"; exit 1; }
}

prepare() {
  own_tree "$(dirname "$BETA9_LOGS")" 0755
  mkdir -p "$BETA9_LOGS"
  chmod 0700 "$BETA9_LOGS"
  resume_or_begin
  [[ -z $SETTINGS_PROBLEM ]] || end_failed settings "$SETTINGS_PROBLEM" "$SETTINGS_FIX"
  read_stages "$steps" || end_failed installer "the headers of the steps are invalid" "see the line above"
}

# Some failures, such as an unset variable, bypass the ERR trap; the failure policy applies to them as well.
on_exit() {
  local code=$?
  trap - EXIT ERR
  if ((code)) && [[ -z ${FAILURE_REPORTED:-} ]]; then
    kill_stages
    (end_failed installer "it stopped unexpectedly, see the line above" "this is a bug in the installer: report it with its output") || true
  fi
  rm -rf "$BETA9_RUN"
  exit "$code"
}

# on_error CODE LINE COMMAND: in a subshell, exit only the subshell; the command that waits for it then fails as well.
on_error() {
  ((BASH_SUBSHELL == 0)) || exit "$1"
  end_failed installer "'$3' failed with exit code $1 (line $2)" "this is a bug in the installer: report it with its output"
}

fix_of() { cat "$BETA9_RUN/$1.fix" 2>/dev/null || printf %s "${FIX[$1]}"; }

report_success() {
  local changes
  rm -f "$BETA9_STATE/rebooted"
  touch "$BETA9_STATE/ready"
  timeline_write ok
  changes=$(find "$BETA9_RUN" -name '*.changes' -exec cat {} + | wc -l)
  console "done, $changes changes, in $(timeline_line)"
}

# on_signal: kill all running stages and record the failure.
on_signal() {
  FAILURE_REPORTED=yes
  trap - ERR
  kill_stages
  say "stopped by a signal"
  timeline_write failed installer "stopped by a signal: run the installer again: $(same_run)"
  exit 1
}

show_plan() {
  local name
  load_settings || { say "$SETTINGS_PROBLEM; $SETTINGS_FIX"; exit 1; }
  read_stages "$steps" || exit 1
  printf 'settings: %s\n' "$(printf '%s\n' "${!BETA9_SETTINGS[@]}" | sort | paste -sd' ')"
  printf 'on failure: %s\n' "$(setting BETA9_ON_FAILURE keep)"
  for name in "${STAGES[@]}"; do
    printf '%-16s deadline %5s s, after: %s\n' "$name" "${DEADLINE[$name]}" "${NEEDS[$name]:--}"
  done
}

main "$@"
