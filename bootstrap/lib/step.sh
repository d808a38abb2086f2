# shellcheck shell=bash
# Sourced first by every step: load the library and the settings, and define how a step ends.
#
# A step ends in one of four ways: main returns (done), `skip REASON` (nothing to do), `fail WHAT [FIX]`, or
# `reboot REASON` (continue after the single reboot). An unhandled failing command fails the step as well.

: "${BETA9_BOOTSTRAP:=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}"
: "${BETA9_STAGE:=$(basename "$0" .sh)}"

for part in log exit_codes settings record fetch apt repositories host; do
  # shellcheck source=/dev/null
  . "$BETA9_BOOTSTRAP/lib/$part.sh"
done
unset part

end_step() { # end_step CODE REASON: exit the whole step, even from within $(…) and ( … )
  [[ -z ${BETA9_RUN:-} ]] || printf '%s\n' "$2" >"$BETA9_RUN/$BETA9_STAGE.reason"
  trap - ERR
  ((BASHPID == $$)) || kill -USR1 $$
  exit "$1"
}

skip() {
  say "nothing to do: $1"
  end_step "$BETA9_SKIPPED" "$1"
}

reboot() {
  say "needs a reboot: $1"
  end_step "$BETA9_REBOOT" "$1"
}

# fail WHAT [FIX]: FIX overrides the fix in the step's header.
fail() {
  say "failed: $1"
  if [[ -n ${BETA9_RUN:-} && -n ${2:-} ]]; then printf '%s\n' "$2" >"$BETA9_RUN/$BETA9_STAGE.fix"; fi
  end_step 1 "$1"
}

on_error() {
  local code=$1 line=$2 command=$3
  # BASH_COMMAND is unexpanded, so the message cannot contain the value of a setting.
  fail "'${command%%$'\n'*}' failed with exit code $code ($(basename "${BASH_SOURCE[1]}"), line $line)"
}

trap 'on_error $? $LINENO "$BASH_COMMAND"' ERR
trap 'exit 1' USR1
load_settings || fail "$SETTINGS_PROBLEM" "$SETTINGS_FIX"
