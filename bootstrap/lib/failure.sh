# shellcheck shell=bash
# How a run ends that does not end well: the failure policy, and the one reboot a driver may need.

RESUME_UNIT=beta9-worker-resume.service

# end_failed STAGE WHY FIX: says it where a person looks, then does what BETA9_ON_FAILURE says. Does not return.
end_failed() {
  local stage=$1 why=$2 fix=$3 log=$BETA9_LOGS/$1.log
  # shellcheck disable=SC2034 # install.sh, at_exit
  SAID=yes
  trap - ERR
  # Nothing here may keep the machine from being powered off: a full disk, for one.
  timeline_write failed "$stage" "$fix" || say "$TIMELINE could not be written"
  if [[ -s $log ]]; then
    say "the end of $log:"
    tail -n 20 "$log" | sed 's/^/    /' >&2
  fi
  console "FAILED in stage '$stage': $why"
  console "fix: $fix"
  case $(on_failure) in
    poweroff) power_off ;;
    *) console "this machine is kept and goes on costing (BETA9_ON_FAILURE=keep): mend it and run the installer again" ;;
  esac
  exit 1
}

# The policy counts even where worker.env cannot be read as a whole.
on_failure() {
  local policy
  policy=$(setting BETA9_ON_FAILURE)
  if [[ -z $policy && -n ${BETA9_ENV_FILE:-} ]] &&
    grep -qE "^BETA9_ON_FAILURE=[\"']?poweroff" "$BETA9_ENV_FILE" 2>/dev/null; then policy=poweroff; fi
  printf %s "${policy:-keep}"
}

power_off() {
  if unit_is active beta9-worker.service; then
    console "not powered off (BETA9_ON_FAILURE=poweroff): the worker that was here before still runs"
    return
  fi
  console "powering off (BETA9_ON_FAILURE=poweroff); where a stopped machine is still billed (Lambda), terminate it"
  sync
  pause 5 # a serial console needs a moment to be read
  systemctl --no-block poweroff
}

# end_rebooting STAGE: once; a stage that asks again within the hour after a reboot has failed.
end_rebooting() {
  local stage=$1 last=0 row
  if [[ -r $BETA9_STATE/rebooted ]]; then last=$(<"$BETA9_STATE/rebooted"); fi
  if (($(date +%s) - last < 3600)); then
    end_failed "$stage" "it asks for a reboot again: $(reason "$stage")" "${FIX[$stage]}"
  fi
  place_resume_unit
  elapsed
  {
    printf '%s\t%s\t%s\n' "$(<"${BETA9_BOOT_ID:-/proc/sys/kernel/random/boot_id}")" "$BEGAN_AT" "$(($(date +%s) - ELAPSED / 100))"
    for row in "${TIMELINE_ROWS[@]}"; do printf '%s\n' "$row"; done
  } >"$BETA9_STATE/resume"
  date +%s >"$BETA9_STATE/rebooted"
  timeline_write rebooting
  console "rebooting once, for stage '$stage': $(reason "$stage")"
  sync
  systemctl --no-block reboot
  exit 0
}

place_resume_unit() {
  local unit
  unit=$(<"$BETA9_BOOTSTRAP/systemd/$RESUME_UNIT")
  unit=${unit//@BOOTSTRAP@/"$(unit_text "$BETA9_BOOTSTRAP")"}
  unit=${unit//@ENV_FILE@/"$(unit_text "$BETA9_ENV_FILE")"}
  put_file "$BETA9_ROOT/etc/systemd/system/$RESUME_UNIT" 0644 <<<"$unit"
  enable_units "$RESUME_UNIT"
}

unit_text() { # inside double quotes in a unit file
  local text=${1//%/%%}
  text=${text//\\/\\\\}
  printf %s "${text//\"/\\\"}"
}

# resume_or_begin: starts the timeline, as the second part of a run where the machine was rebooted for it.
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
      say "going on after the reboot"
    fi
  } <"$BETA9_STATE/resume"
  rm -f "$BETA9_STATE/resume"
}

reason() { cat "$BETA9_RUN/$1.why" 2>/dev/null || printf 'no reason was given'; }
