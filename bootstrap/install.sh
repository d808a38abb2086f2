#!/usr/bin/env bash
# Makes this machine a Beta9 worker: Ubuntu 22.04 or 24.04, or Debian 12. May be run again at any time.
#
#   sudo bootstrap/install.sh --env-file worker.env    (without it: /etc/beta9-worker/worker.env)
#
#   --dry-run      say what would run, in which order and with which settings; change nothing
#   --steps DIR    other steps than those beside this script
#
# What it did and how long it took: /var/lib/beta9-worker/bootstrap.json; what each step printed:
# /var/log/beta9-worker/bootstrap/. Exit 0: done, or rebooting to go on; 1: failed, with stage and fix; 2: called wrongly.
set -Eeuo pipefail
umask 022
export LC_ALL=C HOME=${HOME:-/root} PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# A machine that is busy with its first boot can keep systemctl waiting for longer than the 25 s that it gives itself.
export SYSTEMD_BUS_TIMEOUT=${SYSTEMD_BUS_TIMEOUT:-300}

BETA9_BOOTSTRAP=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
BETA9_ROOT=${BETA9_ROOT:-} BETA9_ENV_FILE=''
BETA9_LOGS=$BETA9_ROOT/var/log/beta9-worker/bootstrap
steps=$BETA9_BOOTSTRAP/steps dry_run=''
for part in log settings record host exit_codes timeline stages failure; do
  # shellcheck source=/dev/null
  . "$BETA9_BOOTSTRAP/lib/$part.sh"
done

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }

parse() {
  while (($#)); do
    case $1 in
      --dry-run) dry_run=yes ;;
      --env-file | --steps)
        (($# > 1)) || { usage >&2; exit 2; }
        if [[ $1 == --steps ]]; then steps=$2; else BETA9_ENV_FILE=$(realpath -- "$2"); fi
        shift
        ;;
      --help | -h) usage; exit 0 ;;
      *) printf 'install.sh: %s is not an option\n' "$1" >&2; usage >&2; exit 2 ;;
    esac
    shift
  done
  local standard=$BETA9_ROOT/etc/beta9-worker/worker.env
  [[ -n $BETA9_ENV_FILE || ! -f $standard ]] || BETA9_ENV_FILE=$standard
}

main() {
  parse "$@"
  if [[ -n $dry_run ]]; then dry; exit; fi
  ((EUID == 0)) || { say "this changes the system: run it as root (sudo $0)"; exit 1; }
  one_at_a_time
  export BETA9_BOOTSTRAP BETA9_ROOT BETA9_ENV_FILE BETA9_RUN
  BETA9_RUN=$(mktemp -d "${TMPDIR:-/tmp}/beta9-bootstrap.XXXXXX")
  trap at_exit EXIT
  trap 'stopped' INT TERM HUP
  trap 'unforeseen $? $LINENO "$BASH_COMMAND"' ERR
  prepare
  timeline_write running
  exec 3>&2 # what steps say to people
  run_stages
  [[ -z $FAILED ]] || end_failed "$FAILED" "$(reason "$FAILED")" "$(fix_of "$FAILED")"
  [[ -z $REBOOT ]] || end_rebooting "$REBOOT"
  ended_well
}

# A second installer (a boot script and a person) waits for the first, and then finds everything done.
one_at_a_time() {
  state_dir
  # shellcheck disable=SC2153 # lib/record.sh names it
  exec 9>>"$BETA9_STATE/installer.lock"
  flock -n 9 && return
  say "another run of the installer is at work; waiting for it"
  flock -w 7200 9 || { say "it did not end within two hours"; exit 1; }
}

prepare() {
  own_tree "$(dirname "$BETA9_LOGS")" 0755
  mkdir -p "$BETA9_LOGS"
  chmod 0700 "$BETA9_LOGS"
  resume_or_begin
  load_settings || end_failed settings "a settings file cannot be read" "see the line above; values are NAME=value or NAME='value'"
  read_stages "$steps" || end_failed installer "the steps cannot be read" "see the line above"
}

# The last net: what passes no ERR trap (an unset variable, say) still follows the failure policy.
at_exit() {
  local code=$?
  trap - EXIT ERR
  if ((code)) && [[ -z ${SAID:-} ]]; then
    kill_stages
    (end_failed installer "it ended unforeseen, see the line above" "this is a mistake in the installer: report it with its output") || true
  fi
  rm -rf "$BETA9_RUN"
  exit "$code"
}

# unforeseen CODE LINE COMMAND: in a subshell only that ends; the line that waits for it then fails, too.
unforeseen() {
  ((BASH_SUBSHELL == 0)) || exit "$1"
  end_failed installer "'$3' ended with $1 (line $2)" "this is a mistake in the installer: report it with its output"
}

fix_of() { cat "$BETA9_RUN/$1.fix" 2>/dev/null || printf %s "${FIX[$1]}"; }

ended_well() {
  local changes
  rm -f "$BETA9_STATE/rebooted"
  touch "$BETA9_STATE/ready"
  timeline_write ok
  changes=$(find "$BETA9_RUN" -name '*.changes' -exec cat {} + | wc -l)
  console "done, $changes changes, in $(timeline_line)"
}

# stopped: by a signal; nothing of ours goes on.
stopped() {
  SAID=yes
  trap - ERR
  kill_stages
  say "stopped by a signal"
  timeline_write failed installer "it was stopped by a signal: run it again"
  exit 1
}

dry() {
  local name
  load_settings && read_stages "$steps"
  printf 'settings: %s\n' "$(printf '%s\n' "${!BETA9_SETTINGS[@]}" | sort | paste -sd' ')"
  printf 'on failure: %s\n' "$(on_failure)"
  for name in "${STAGES[@]}"; do
    printf '%-16s deadline %5s s, after: %s\n' "$name" "${DEADLINE[$name]}" "${NEEDS[$name]:--}"
  done
}

main "$@"
