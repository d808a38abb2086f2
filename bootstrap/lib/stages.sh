# shellcheck shell=bash
# Runs steps as stages: each as soon as what it needs has ended, side by side, killed with its children at its deadline.

STAGES=()
declare -A STEP_FILE=() NEEDS=() DEADLINE=() FIX=() RESULT=() STARTED=() RUNNING=()
FAILED='' REBOOT=''

# read_stages DIRECTORY: the headers of its steps. Returns 1, saying why, if they make no sense.
read_stages() {
  local file name need scale
  scale=$(number BETA9_DEADLINE_SCALE 1) || return 1
  for file in "$1"/[0-9][0-9]-*.sh; do
    name=$(basename "$file" .sh) name=${name#??-}
    STAGES+=("$name") STEP_FILE[$name]=$file
    NEEDS[$name]=$(header "$file" needs) DEADLINE[$name]=$(header "$file" deadline) FIX[$name]=$(header "$file" fix)
    if [[ ! ${DEADLINE[$name]} =~ ^[1-9][0-9]*$ || -z ${FIX[$name]} ]]; then
      say "$file: the header lacks a deadline in seconds, or a fix"
      return 1
    fi
    DEADLINE[$name]=$((DEADLINE[$name] * scale))
  done
  for name in "${STAGES[@]}"; do
    for need in ${NEEDS[$name]}; do
      if [[ -z ${STEP_FILE[$need]:-} ]]; then
        say "${STEP_FILE[$name]}: needs '$need', and there is no such step"
        return 1
      fi
    done
  done
}

header() { sed -n "/^#/!q; s/^# $2: *//p" "$1"; }

# run_stages: until all have ended, one has failed (FAILED), or the machine must be rebooted first (REBOOT).
run_stages() {
  local name code
  mkfifo "$BETA9_RUN/ended"
  exec {ENDED}<>"$BETA9_RUN/ended"
  while :; do
    [[ -n $FAILED$REBOOT ]] || start_ready
    ((${#RUNNING[@]})) || break
    next_ended || continue
    stage_ended "$name" "$code"
    [[ -z $FAILED ]] || kill_stages
  done
  if [[ -z $FAILED$REBOOT ]] && ((${#RESULT[@]} < ${#STAGES[@]})); then
    FAILED=installer FIX[installer]="mend the headers in $BETA9_BOOTSTRAP/steps"
    why installer "the steps need each other in a circle"
  fi
}

# next_ended: sets name and code of the next stage that has ended. Bounded, so that a signal is heard; on a machine that
# is starved the time can run out in the middle of a line, and what was read by then must not be lost.
PART=''
next_ended() {
  local line
  if ! IFS= read -r -t 1 -u "$ENDED" line; then
    PART+=$line
    return 1
  fi
  line=$PART$line PART=''
  name=${line%%$'\t'*} code=${line#*$'\t'}
}

start_ready() {
  local name need
  for name in "${STAGES[@]}"; do
    [[ -z ${STARTED[$name]:-} ]] || continue
    for need in ${NEEDS[$name]}; do
      [[ -n ${RESULT[$need]:-} ]] || continue 2
    done
    start_stage "$name"
  done
}

start_stage() {
  elapsed
  STARTED[$1]=$ELAPSED RUNNING[$1]=yes
  run_stage "$1" &
}

# In a subshell of its own. `timeout` gives the stage a process group, whose number is its pid; whatever the step
# leaves behind in that group ends with it.
run_stage() {
  local name=$1 pid code=0
  trap - ERR
  BETA9_STAGE=$name timeout --kill-after=10 "${DEADLINE[$name]}" \
    bash "${STEP_FILE[$name]}" </dev/null >"$BETA9_LOGS/$name.log" 2>&1 9>&- {ENDED}>&- &
  pid=$!
  printf '%s' "$pid" >"$BETA9_RUN/$name.pid"
  wait "$pid" || code=$?
  kill -KILL -- "-$pid" 2>/dev/null || true
  printf '%s\t%s\n' "$name" "$code" >&"$ENDED"
}

# stage_ended NAME CODE
stage_ended() {
  local name=$1 outcome=failed
  unset "RUNNING[$name]"
  case $2 in
    0) outcome=ok ;;
    "$BETA9_SKIPPED") outcome=skipped ;;
    "$BETA9_REBOOT") outcome=ok REBOOT=$name ;;
    124 | 137) [[ -n $FAILED ]] || why "$name" "it did not end within its deadline of ${DEADLINE[$name]} s" ;;
  esac
  elapsed
  RESULT[$name]=$outcome
  if [[ $outcome == failed ]]; then
    [[ -z $FAILED ]] || return 0 # ended because another one failed: not to be shown as a culprit
    FAILED=$name
  fi
  timeline_add "$name"$'\t'"${STARTED[$name]}"$'\t'$((ELAPSED - STARTED[$name]))$'\t'"$outcome"$'\t'"${NEEDS[$name]}"
  say "$name: $outcome after $(seconds $((ELAPSED - STARTED[$name]))) s"
  timeline_write running
}

why() { printf '%s\n' "$2" >"$BETA9_RUN/$1.why"; }

# kill_stages: TERM to each stage and its children; `timeout` follows with KILL.
kill_stages() {
  local name _
  for name in "${!RUNNING[@]}"; do
    for _ in {1..50}; do # it is written right after the start
      [[ ! -s $BETA9_RUN/$name.pid ]] || break
      sleep 0.1
    done
    [[ ! -s $BETA9_RUN/$name.pid ]] || kill -TERM -- "-$(<"$BETA9_RUN/$name.pid")" 2>/dev/null || true
  done
}
