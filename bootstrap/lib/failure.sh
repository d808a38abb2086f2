# shellcheck shell=bash
# Runs that do not finish: the failure policy, and the single reboot that a driver may need.

# end_failed STAGE REASON FIX: report the failure, then apply BETA9_ON_FAILURE. Does not return.
end_failed() {
  local stage=$1 reason=$2 fix=$3 log=$BETA9_LOGS/$1.log
  # shellcheck disable=SC2034 # read by on_exit in install.sh
  FAILURE_REPORTED=yes
  trap - ERR
  # A failing write (a full disk, for example) must not prevent the power-off below.
  timeline_write failed "$stage" "$fix" || say "$TIMELINE could not be written"
  if [[ -s $log ]]; then
    say "last lines of $log:"
    tail -n 20 "$log" | sed 's/^/    /' >&2
  fi
  console "FAILED in stage '$stage': $reason"
  console "fix: $fix"
  case $(setting BETA9_ON_FAILURE) in # as far as worker.env can be read, if it cannot be read as a whole
    poweroff) power_off ;;
    *) console "this machine is left running and keeps accruing charges (BETA9_ON_FAILURE=keep): fix the problem and run the installer again: $(same_run)" ;;
  esac
  exit 1
}

# same_run: print the command that repeats this run, with its settings file.
same_run() {
  printf 'sudo %q' "$BETA9_BOOTSTRAP/install.sh"
  [[ -z ${BETA9_ENV_FILE:-} ]] || printf ' --env-file %q' "$BETA9_ENV_FILE"
}

power_off() {
  if unit_is active beta9-worker.service; then
    console "not powered off despite BETA9_ON_FAILURE=poweroff: an earlier installation of the agent is still running"
    return
  fi
  console "powering off (BETA9_ON_FAILURE=poweroff); if your cloud bills stopped machines (Lambda does), terminate it"
  sync
  pause 5 # give readers of a serial console time to receive the last lines
  systemctl --no-block poweroff
}

# end_rebooting STAGE: reboot once. A stage that asks again within an hour of that reboot has failed.
end_rebooting() {
  local stage=$1 last=0 row
  if [[ -r $BETA9_STATE/rebooted ]]; then last=$(<"$BETA9_STATE/rebooted"); fi
  if (($(date +%s) - last < 3600)); then
    end_failed "$stage" "it requests a second reboot: $(failure_reason "$stage")" "${FIX[$stage]}"
  fi
  place_resume_unit
  elapsed
  {
    printf '%s\t%s\t%s\n' "$(<"${BETA9_BOOT_ID:-/proc/sys/kernel/random/boot_id}")" "$BEGAN_AT" "$(($(date +%s) - ELAPSED / 100))"
    for row in "${TIMELINE_ROWS[@]}"; do printf '%s\n' "$row"; done
  } >"$BETA9_STATE/resume"
  date +%s >"$BETA9_STATE/rebooted"
  timeline_write rebooting
  console "rebooting once, for stage '$stage': $(failure_reason "$stage")"
  sync
  systemctl --no-block reboot
  exit 0
}

# resume_or_begin: start the timeline; after the installer's own reboot, continue the timeline of the interrupted run.
resume_or_begin() {
  local boot at since row
  if [[ ! -r $BETA9_STATE/resume ]]; then timeline_begin && return; fi
  {
    IFS=$'\t' read -r boot at since
    if [[ $boot == "$(<"${BETA9_BOOT_ID:-/proc/sys/kernel/random/boot_id}")" ]]; then
      timeline_begin
    else
      timeline_begin "$at" $(($(date +%s) - since))
      while IFS= read -r row; do timeline_add "$row"; done
      say "continuing after the reboot"
    fi
  } <"$BETA9_STATE/resume"
  rm -f "$BETA9_STATE/resume"
}

failure_reason() { cat "$BETA9_RUN/$1.reason" 2>/dev/null || printf 'no reason was given'; }
