# shellcheck shell=bash
# What every step sources first: the library, the settings, and how a step ends.
#
# A step ends in one of four ways: main returns (done), `skip WHY` (nothing to do), `fail WHAT [FIX]`, or
# `reboot WHY` (the rest follows after the machine's one reboot). A command that fails unforeseen is a failure, too.

: "${BETA9_BOOTSTRAP:=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}"
: "${BETA9_STAGE:=$(basename "$0" .sh)}"

for part in log exit_codes settings record fetch apt host; do
  # shellcheck source=/dev/null
  . "$BETA9_BOOTSTRAP/lib/$part.sh"
done
unset part

finish() { # finish CODE WHY: ends the whole step, also from within $(…) and ( … )
  [[ -z ${BETA9_RUN:-} ]] || printf '%s\n' "$2" >"$BETA9_RUN/$BETA9_STAGE.why"
  trap - ERR
  ((BASHPID == $$)) || kill -USR1 $$
  exit "$1"
}

skip() {
  say "nothing to do: $1"
  finish "$BETA9_SKIPPED" "$1"
}

reboot() {
  say "needs a reboot: $1"
  finish "$BETA9_REBOOT" "$1"
}

# fail WHAT [FIX]: FIX replaces the one in the step's header.
fail() {
  say "failed: $1"
  if [[ -n ${BETA9_RUN:-} && -n ${2:-} ]]; then printf '%s\n' "$2" >"$BETA9_RUN/$BETA9_STAGE.fix"; fi
  finish 1 "$1"
}

unforeseen() {
  local code=$1 line=$2 command=$3
  # The command as written, not as expanded: no value of a setting is in it.
  fail "'${command%%$'\n'*}' ended with $code ($(basename "${BASH_SOURCE[1]}"), line $line)"
}

trap 'unforeseen $? $LINENO "$BASH_COMMAND"' ERR
trap 'exit 1' USR1
load_settings || fail "a settings file cannot be read" "see the line named above; values are NAME=value or NAME='value'"
