# shellcheck shell=bash
# Download files and verify their checksums before anything uses them.

# fetch LOCATION DEST [SHA256]: LOCATION is https://…, http://… (only with a checksum), file:///… or an absolute path,
# and may end in #sha256=…. A file of the same name in BETA9_FILES_DIR takes precedence. DEST is replaced atomically.
fetch() {
  local location=${1%%#*} dest=$2 sum=${3:-} temporary
  [[ $1 != *'#sha256='* ]] || sum=${1##*#sha256=}
  [[ -z $sum || $sum =~ ^[0-9a-f]{64}$ ]] || fail "the checksum given for $location is not 64 hexadecimal digits"
  if [[ -n $sum ]] && checksum_matches "$dest" "$sum"; then return 0; fi
  mkdir -p "$(dirname "$dest")"
  temporary=$(mktemp "$dest.XXXXXX")
  if ! transfer "$location" "$temporary" "$sum"; then
    rm -f "$temporary"
    fail "could not download $location" "make sure that this machine can reach it, or put the file into BETA9_FILES_DIR"
  fi
  if [[ -n $sum ]] && ! checksum_matches "$temporary" "$sum"; then
    sum="is $(sha256sum <"$temporary" | cut -d' ' -f1), not $sum"
    rm -f "$temporary"
    fail "$location: the checksum $sum" \
      "the file was modified in transit or at its source, or the checksum belongs to another version: set URL and checksum together"
  fi
  chmod 0644 "$temporary"
  mv -f "$temporary" "$dest"
}

checksum_matches() { [[ -f $1 && $(sha256sum <"$1" | cut -d' ' -f1) == "$2" ]]; }

# transfer LOCATION FILE SUM: copy or download, with bounded time and retries.
transfer() {
  local location=$1 file=$2 local_copy
  local_copy=$(setting BETA9_FILES_DIR)/${location##*/}
  if [[ $local_copy == /?*/* && -f $local_copy ]]; then
    say "using ${location##*/} from $(setting BETA9_FILES_DIR)"
    cp "$local_copy" "$file"
    return
  fi
  case $location in
    /*) cp "$location" "$file" ;;
    file:///*) cp "${location#file://}" "$file" ;;
    http://*) [[ -n $3 ]] || fail "$location: http requires a checksum" "use https, or append #sha256=…"
      download "$location" "$file" http,https ;;
    https://*) download "$location" "$file" https ;;
    *) fail "'$location' is not https://…, file:///… or an absolute path" ;;
  esac
}

# Ignores ~/.curlrc; redirects may not downgrade from TLS; less than 1 kB/s for a minute aborts. BETA9_RETRY_DELAY in
# the environment (for tests): whole seconds between retries, instead of curl's own 1, 2, 4, 8 and 16.
download() {
  curl --disable --fail --silent --show-error --location --proto "=$3" --proto-redir "=$3" --tlsv1.2 \
    --connect-timeout 15 --speed-limit 1024 --speed-time 60 --retry 5 --retry-all-errors --retry-max-time 300 \
    --retry-delay "${BETA9_RETRY_DELAY:-0}" --output "$2" -- "$1"
}

# fetch_pinned NAME LOCATION SHA256 DEST [SUMS]: like fetch. Without a pin, the checksums that the release publishes
# next to the file (SUMS, a `sha256sum` listing) prove integrity but not origin: the console shows a warning, and
# BETA9_REQUIRE_PINS turns it into a failure.
fetch_pinned() {
  local name=$1 location=$2 sum=$3 dest=$4 sums=${5:-} listing
  [[ -z $sum && $location == *'#sha256='* ]] && sum=${location##*#sha256=}
  if [[ -n $sum ]]; then
    fetch "${location%%#*}" "$dest" "$sum"
    return
  fi
  report_unpinned "$name" "${location##*/}"
  [[ -n $sums ]] || fail "$name is empty, and no published checksums are known for $location" "set the checksum in worker.env"
  listing=$(mktemp)
  fetch "$sums" "$listing"
  sum=$(awk -v file="${location##*/}" '$2 == file || $2 == "*" file { print $1; exit }' "$listing")
  rm -f "$listing"
  [[ $sum =~ ^[0-9a-f]{64}$ ]] || fail "$sums has no entry for ${location##*/}" "check the URLs in worker.env"
  fetch "$location" "$dest" "$sum"
}

# report_unpinned NAME WHAT [REASON]: warn that NAME does not pin WHAT, or fail the step if pins are required.
report_unpinned() {
  if enabled BETA9_REQUIRE_PINS; then
    fail "$1 is not pinned, and BETA9_REQUIRE_PINS is set" "fill in the pins with bootstrap/pin.sh, or set $1 in worker.env"
  fi
  console "warning: the origin of $2 is not pinned ($1 ${3:-is empty}): using what its publisher serves now"
}
