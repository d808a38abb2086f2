# shellcheck shell=bash
# Every change to the host goes through here: it is made only where something differs, and written down for uninstall.sh.
#
# The record is one line per thing, KIND<TAB>ARGUMENTS, oldest first; uninstall.sh takes it back from the end:
#   file PATH SHA256     made by us; removed, unless somebody has changed it since
#   original PATH COPY   was there before; COPY (under originals/) is put back
#   dir PATH             made by us; removed if nothing is left in it
#   tree PATH            made by us, contents and all
#   link PATH TARGET     made by us
#   package NAME         was not installed before
#   hold NAME            was not held before
#   unit NAME            stopped and disabled
#   run COMMAND…         one line for bash, for what is undone by a program (k3s-uninstall.sh)

BETA9_ROOT=${BETA9_ROOT:-}
BETA9_STATE=$BETA9_ROOT/var/lib/beta9-worker/bootstrap
export KUBECACHEDIR=${BETA9_RUN:-$BETA9_STATE}/kubectl # it goes with the run; root's home is not ours

# record KIND ARGUMENT…: once, however often it is said. Call it *before* the change, so that nothing goes unrecorded.
record() {
  local line
  line=$(IFS=$'\t' && printf '%s' "$*")
  state_dir
  {
    flock 9
    grep -qxF -- "$line" "$BETA9_STATE/record" 2>/dev/null || printf '%s\n' "$line" >>"$BETA9_STATE/record"
  } 9>>"$BETA9_STATE/record.lock"
}

recorded() { # recorded KIND ARGUMENT…: whether a line begins so
  local line
  line=$(IFS=$'\t' && printf '%s' "$*")
  awk -v want="$line" '$0 == want || index($0, want "\t") == 1 { found = 1 } END { exit !found }' \
    "$BETA9_STATE/record" 2>/dev/null
}

state_dir() { [[ -d $BETA9_STATE ]] || install -d -m 0700 "$(dirname "$BETA9_STATE")" "$BETA9_STATE"; }

# changed TEXT: says that this step has changed something. A second run must never call it.
changed() {
  say "$*"
  [[ -z ${BETA9_RUN:-} ]] || printf '%s\n' "$*" >>"$BETA9_RUN/${BETA9_STAGE:-installer}.changes"
}

# Work that a change makes necessary later (a restart) outlives a step that is killed in between.
pending() { state_dir && touch "$BETA9_STATE/pending-$1"; }
is_pending() { [[ -e $BETA9_STATE/pending-$1 ]]; }
settled() { rm -f "$BETA9_STATE/pending-$1"; }

# put_dir PATH [MODE]: makes what is missing of it; what exists keeps its mode.
put_dir() {
  local path=$1 mode=${2:-0755}
  [[ ! -d $path ]] || return 0
  put_dir "$(dirname "$path")"
  record dir "$path"
  mkdir -m "$mode" "$path"
}

# put_file PATH MODE [PENDING]: stdin becomes the file, atomically; PENDING is marked first if anything differs.
put_file() {
  local path=$1 mode=$2 later=${3:-} temporary sum
  put_dir "$(dirname "$path")"
  temporary=$(mktemp "$path.XXXXXX")
  cat >"$temporary"
  chmod "$mode" "$temporary"
  if [[ -f $path ]] && cmp -s "$temporary" "$path" && [[ $(stat -c %a "$path") == "${mode#0}" ]]; then
    rm -f "$temporary"
    return 0
  fi
  [[ -z $later ]] || pending "$later"
  sum=$(sha256sum <"$temporary")
  keep_original "$path"
  record file "$path" "${sum%% *}"
  mv -f "$temporary" "$path"
  changed "wrote $path"
}

# keep_original PATH: what was there before us is put back by uninstall.sh.
keep_original() {
  local path=$1 copy
  if [[ ! -e $path ]] || recorded file "$path" || recorded original "$path"; then return 0; fi
  copy=originals/$(printf %s "$path" | sha256sum | cut -c1-16)
  state_dir
  install -d -m 0700 "$BETA9_STATE/originals"
  cp -a "$path" "$BETA9_STATE/$copy"
  record original "$path" "$copy"
}

# put_link PATH TARGET
put_link() {
  [[ $(readlink "$1" 2>/dev/null) != "$2" ]] || return 0
  [[ ! -e $1 || -L $1 ]] || fail "$1 is there and is not ours" "move $1 away"
  put_dir "$(dirname "$1")"
  record link "$1" "$2"
  ln -sfn "$2" "$1"
  changed "linked $1 to $2"
}

# own_tree PATH [MODE]: a directory whose contents are ours, too, if it was not there before.
own_tree() {
  [[ ! -d $1 ]] || return 0
  put_dir "$(dirname "$1")"
  record tree "$1"
  mkdir -m "${2:-0755}" "$1"
}
