# shellcheck shell=bash
# Change the host only where something differs, and record each change for uninstall.sh.
#
# The record has one line per change, KIND<TAB>ARGUMENTS, oldest first; uninstall.sh undoes them from the end:
#   file PATH SHA256     created; removed unless it was modified since
#   original PATH COPY   existed before; COPY (under originals/) is restored
#   dir PATH             created; removed if empty
#   tree PATH            created; removed with its contents
#   link PATH TARGET     created; removed
#   package NAME         was not installed before; purged
#   hold NAME            was not held before; unheld
#   unit NAME            stopped and disabled
#   run COMMAND…         one line for bash, where a program undoes the change (k3s-uninstall.sh)

BETA9_ROOT=${BETA9_ROOT:-}
BETA9_STATE=$BETA9_ROOT/var/lib/beta9-worker/bootstrap
export KUBECACHEDIR=${BETA9_RUN:-$BETA9_STATE}/kubectl # not in root's home, and removed with the run

# record KIND ARGUMENT…: add a line unless it exists. Call it *before* the change, so that an interrupted step can be
# undone.
record() {
  local line
  line=$(IFS=$'\t' && printf '%s' "$*")
  state_dir
  {
    flock 9
    grep -qxF -- "$line" "$BETA9_STATE/record" 2>/dev/null || printf '%s\n' "$line" >>"$BETA9_STATE/record"
  } 9>>"$BETA9_STATE/record.lock"
}

recorded() { # recorded KIND ARGUMENT…: whether a line starts with these fields
  local line
  line=$(IFS=$'\t' && printf '%s' "$*")
  awk -v want="$line" '$0 == want || index($0, want "\t") == 1 { found = 1 } END { exit !found }' \
    "$BETA9_STATE/record" 2>/dev/null
}

state_dir() { [[ -d $BETA9_STATE ]] || install -d -m 0700 "$(dirname "$BETA9_STATE")" "$BETA9_STATE"; }

# changed TEXT: report that this step has changed something. A second run must never call it.
changed() {
  say "$*"
  [[ -z ${BETA9_RUN:-} ]] || printf '%s\n' "$*" >>"$BETA9_RUN/${BETA9_STAGE:-installer}.changes"
}

# Follow-up work of a change (a restart) is marked on disk, so that it survives a step that is killed before doing it.
pending() { state_dir && touch "$BETA9_STATE/pending-$1"; }
is_pending() { [[ -e $BETA9_STATE/pending-$1 ]]; }
settled() { rm -f "$BETA9_STATE/pending-$1"; }

# put_dir PATH [MODE]: create the directory and its missing parents; existing ones keep their mode.
put_dir() {
  local path=$1 mode=${2:-0755}
  [[ ! -d $path ]] || return 0
  put_dir "$(dirname "$path")"
  record dir "$path"
  mkdir -m "$mode" "$path"
}

# put_file PATH MODE [PENDING]: replace the file with stdin, atomically; mark PENDING first if anything differs.
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

# keep_original PATH: save a file that existed before, for uninstall.sh to restore.
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
  [[ ! -e $1 || -L $1 ]] || fail "$1 exists and is not a link created by this bootstrap" "move $1 away"
  put_dir "$(dirname "$1")"
  record link "$1" "$2"
  ln -sfn "$2" "$1"
  changed "linked $1 to $2"
}

# own_tree PATH [MODE]: create a directory that uninstall.sh removes with its contents; an existing one is kept.
own_tree() {
  [[ ! -d $1 ]] || return 0
  put_dir "$(dirname "$1")"
  record tree "$1"
  mkdir -m "${2:-0755}" "$1"
}
