# shellcheck shell=bash
# Run steps as stages: in parallel, each once the stages it needs have ended. At its deadline a stage is killed together
# with its children.

STAGES=()
declare -A STEP_FILE=() NEEDS=() DEADLINE=() FIX=() RESULT=() STARTED=() RUNNING=()
FAILED='' REBOOT=''

# read_stages DIRECTORY: read the headers of its steps. If one is invalid, print the reason and return 1.
read_stages() {
  local file name need scale
  scale=$(number BETA9_DEADLINE_SCALE 1) || return 1
  for file in "$1"/[0-9][0-9]-*.sh; do
    name=$(basename "$file" .sh) name=${name#??-}
    STAGES+=("$name") STEP_FILE[$name]=$file
    NEEDS[$name]=$(header "$file" needs) DEADLINE[$name]=$(header "$file" deadline) FIX[$name]=$(header "$file" fix)
    if [[ ! ${DEADLINE[$name]} =~ ^[1-9][0-9]*$ || -z ${FIX[$name]} ]]; then
      say "$file: the header needs a deadline in seconds and a fix"
      return 1
    fi
    DEADLINE[$name]=$((DEADLINE[$name] * scale))
  done
  for name in "${STAGES[@]}"; do
    for need in ${NEEDS[$name]}; do
      if [[ -z ${STEP_FILE[$need]:-} ]]; then
        say "${STEP_FILE[$name]}: needs '$need', which does not exist"
        return 1
      fi
    done
  done
}

header() { sed -n "/^#/!q; s/^# $2: *//p" "$1"; }

# run_stages: run until all stages have ended, one has failed (sets FAILED), or one needs a reboot (sets REBOOT).
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
    FAILED=installer FIX[installer]="correct the headers in $BETA9_BOOTSTRAP/steps"
    set_reason installer "the steps depend on each other in a cycle"
  fi
}

# next_ended: set name and code of the next stage that has ended. Times out after 1 s, so that signals are handled. On
# an overloaded machine that can happen in the middle of a line, whose first part must not be lost.
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

# Runs in a subshell. `timeout` puts the stage into a process group whose id is the pid of `timeout`; processes that
# the step leaves behind in that group are killed afterwards.
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
    124 | 137) [[ -n $FAILED ]] || set_reason "$name" "it did not finish within its deadline of ${DEADLINE[$name]} s" ;;
  esac
  elapsed
  RESULT[$name]=$outcome
  if [[ $outcome == failed ]]; then
    [[ -z $FAILED ]] || return 0 # killed because another stage failed: not a failure of its own
    FAILED=$name
  fi
  timeline_add "$name"$'\t'"${STARTED[$name]}"$'\t'$((ELAPSED - STARTED[$name]))$'\t'"$outcome"$'\t'"${NEEDS[$name]}"
  say "$name: $outcome after $(seconds $((ELAPSED - STARTED[$name]))) s"
  timeline_write running
}

set_reason() { printf '%s\n' "$2" >"$BETA9_RUN/$1.reason"; } # set_reason STAGE TEXT

# kill_stages: send TERM to each stage and its children; `timeout` sends KILL later.
kill_stages() {
  local name _
  for name in "${!RUNNING[@]}"; do
    for _ in {1..50}; do # run_stage writes the pid file shortly after the start
      [[ ! -s $BETA9_RUN/$name.pid ]] || break
      sleep 0.1
    done
    [[ ! -s $BETA9_RUN/$name.pid ]] || kill -TERM -- "-$(<"$BETA9_RUN/$name.pid")" 2>/dev/null || true
  done
}
