# shellcheck shell=bash
# Add signed repositories of packages.

# apt_repository NAME KEY FINGERPRINTS LINE [PIN]: add a repository with a pinned key. KEY is a location (see fetch);
# FINGERPRINTS are the only primary keys it may contain (40 hexadecimal digits each, comma-separated); PIN is the name
# of the variable that holds them. LINE is the sources line without options, such as "deb URL SUITE COMPONENT".
apt_repository() {
  local name=$1 key=$2 expected=$3 line=$4 pin=${5:-$1} ring=$BETA9_ROOT/etc/apt/keyrings/beta9-$1.gpg type rest options
  read -r type rest <<<"$line"
  options="arch=$(dpkg --print-architecture) signed-by=${ring#"$BETA9_ROOT"}"
  if [[ ! -s $ring ]] || ! key_matches "$ring" "$expected"; then apt_key "$pin" "$key" "$expected" "$ring"; fi
  with_apt add_source "$BETA9_ROOT/etc/apt/sources.list.d/beta9-$name.list" "$type [$options] $rest"
}

# add_source FILE LINE: write FILE once its repository can be read, and only if apt still reads all sources together: a
# source that breaks apt would break it for everybody on this machine.
add_source() {
  local file=$1 line=$2 draft uri suite _
  read -r uri suite _ <<<"${line#*] }"
  draft=$(mktemp "$APT_NOTES/source.XXXXXX")
  printf '%s\n' "$line" >"$draft"
  update_only "$draft" || fail_apt "the repository $(shown "$uri") cannot be used" \
    "make sure that this machine can reach it, or set its address in worker.env (docs/settings.md)"
  rm -f "$draft"
  switch_off "$uri" "$suite" "$file"
  put_file "$file" 0644 <<<"$line"
  if ! apt_get update --print-uris >/dev/null; then
    rm -f "$file"
    fail_apt "apt cannot read its list of sources"
  fi
}

# update_only FILE: update the lists of the sources in FILE.
update_only() {
  local try
  for try in 1 2 3 4 5; do
    if apt_get update -o Dir::Etc::sourcelist="$1" -o Dir::Etc::sourceparts=/dev/null -o APT::Get::List-Cleanup=false; then return 0; fi
    if sources_broken || [[ -n $(apt_busy) ]] || ((try == 5)); then return 1; fi
    say "the repository cannot be read (attempt $try of 5)"
    pause $((try * 3))
  done
}

# switch_off URI SUITE FILE: disable a repository wherever it is listed, except in FILE: apt refuses all sources if one is
# listed with two keys. uninstall.sh restores the files.
switch_off() {
  local file draft
  draft=$(mktemp "$APT_NOTES/source.XXXXXX")
  for file in "$BETA9_ROOT"/etc/apt/sources.list "$BETA9_ROOT"/etc/apt/sources.list.d/*.{list,sources}; do
    [[ -f $file && $file != "$3" ]] || continue
    python3 "$BETA9_BOOTSTRAP/lib/apt_sources.py" "${file##*.}" "$(dpkg --print-architecture)" "$1" "$2" <"$file" >"$draft"
    if cmp -s "$draft" "$file"; then continue; fi
    say "$file lists the same repository: disabled there"
    put_file "$file" "0$(stat -c %a "$file")" <"$draft"
  done
  rm -f "$draft"
}

# apt_key PIN LOCATION FINGERPRINTS RING
apt_key() {
  local downloads=$BETA9_STATE/downloads armoured
  install -d -m 0700 "$downloads"
  armoured=$(mktemp "$downloads/key.XXXXXX")
  [[ -n $3 ]] || report_unpinned "$1" "$(shown "$2")"
  fetch "$2" "$armoured"
  if [[ -n $3 ]] && ! key_matches "$armoured" "$3"; then
    fail "$(shown "$2") contains the key $(fingerprints "$armoured" | paste -sd,), not $3" \
      "if the vendor has announced a new key, set $1 in worker.env; otherwise do not trust this source"
  fi
  # The download may be armoured; apt on Ubuntu 22.04 and Debian 12 requires a binary .gpg file.
  (gpg_quiet --dearmor <"$armoured" 2>/dev/null || cat "$armoured") | put_file "$4" 0644
  rm -f "$armoured"
}

key_matches() { [[ -z $2 || $(fingerprints "$1") == "$(tr -d ' ' <<<"$2" | tr ',a-f' '\nA-F' | sort)" ]]; }

# fingerprints FILE: print the primary keys' fingerprints, one per line, sorted.
fingerprints() {
  gpg_quiet --show-keys --with-colons "$1" |
    awk -F: '$1 == "pub" { primary = 1 } $1 == "fpr" && primary { print $10; primary = 0 }' | sort
}

gpg_quiet() {
  local home code=0
  home=$(mktemp -d)
  gpg --homedir "$home" --batch --no-tty --quiet "$@" || code=$?
  rm -rf "$home"
  return "$code"
}
