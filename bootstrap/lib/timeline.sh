# shellcheck shell=bash
# The duration of each stage: bootstrap.json for programs, one log line for people.

TIMELINE=${BETA9_ROOT:-}/var/lib/beta9-worker/bootstrap.json
TIMELINE_ROWS=() # one per stage: name, start and duration in hundredths of a second, result, needs; tab-separated
BEGAN_AT='' BEGAN_UPTIME=0 EARLIER=0

# now: set NOW to hundredths of a second since boot. The wall clock may jump when a new machine first syncs its time.
now() {
  local up
  read -r up _ </proc/uptime
  NOW=$((10#${up/./}))
}

# timeline_begin [AT EARLIER]: after a reboot, AT is when the run began and EARLIER the seconds since then.
timeline_begin() {
  BEGAN_AT=${1:-$(date -u +%FT%TZ)} EARLIER=$((${2:-0} * 100))
  now
  BEGAN_UPTIME=$NOW
}

elapsed() { # set ELAPSED, in hundredths of a second
  now
  ELAPSED=$((NOW - BEGAN_UPTIME + EARLIER))
}

seconds() { printf '%d.%02d' $(($1 / 100)) $(($1 % 100)); }

# timeline_add ROW: append a stage. Its JSON is made once, not at each write, to save processes on slow machines.
TIMELINE_STAGES=''
timeline_add() {
  local name started length outcome needs
  TIMELINE_ROWS+=("$1")
  IFS=$'\t' read -r name started length outcome needs <<<"$1"
  TIMELINE_STAGES+="${TIMELINE_STAGES:+,}{\"name\":$(json_text "$name"),\"started_s\":$(seconds "$started")"
  TIMELINE_STAGES+=",\"seconds\":$(seconds "$length"),\"result\":$(json_text "$outcome"),\"needs\":[$(json_texts "$needs")]}"
}

# timeline_write RESULT [FAILED_STAGE FIX]
timeline_write() {
  local result=$1 finished=null temporary
  [[ $result == running || $result == rebooting ]] || finished=$(json_text "$(date -u +%FT%TZ)")
  install -d -m 0700 "$(dirname "$TIMELINE")"
  temporary=$(mktemp "$TIMELINE.XXXXXX")
  printf '{"version":1,"started_at":%s,"finished_at":%s,"result":%s,"failed_stage":%s,"fix":%s,"stages":[%s]}\n' \
    "$(json_text "$BEGAN_AT")" "$finished" "$(json_text "$result")" "$(json_or_null "${2:-}")" \
    "$(json_or_null "${3:-}")" "$TIMELINE_STAGES" >"$temporary"
  chmod 0644 "$temporary"
  mv -f "$temporary" "$TIMELINE"
}

json_text() {
  local text=$1
  text=${text//\\/\\\\} text=${text//\"/\\\"} text=${text//$'\n'/\\n} text=${text//$'\t'/\\t}
  printf '"%s"' "${text//[[:cntrl:]]/}"
}

json_or_null() { if [[ -n $1 ]]; then json_text "$1"; else printf null; fi; }

json_texts() { # json_texts WORDS: a JSON list without brackets
  local word separator=''
  for word in $1; do
    printf '%s%s' "$separator" "$(json_text "$word")"
    separator=,
  done
}

# timeline_line: print the whole run in one line.
timeline_line() {
  local row name started length outcome sum=0 parts=''
  for row in "${TIMELINE_ROWS[@]}"; do
    IFS=$'\t' read -r name started length outcome _ <<<"$row"
    sum=$((sum + length)) parts+=", $name $(seconds "$length")"
    [[ $outcome == ok ]] || parts+=" ($outcome)"
  done
  elapsed
  printf '%s s (stages one after the other: %s s): %s' "$(seconds "$ELAPSED")" "$(seconds "$sum")" "${parts#, }"
}
