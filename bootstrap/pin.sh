#!/usr/bin/env bash
# Fills in the pins of versions.env, on a machine that reaches the places named there, and compares those that are there.
#
#   bootstrap/pin.sh                       fill in what is empty, compare the rest; exit 1 if something differs
#   bootstrap/pin.sh --check               the same, and change nothing; an empty pin counts as a difference
#   bootstrap/pin.sh --k3s v1.36.6+k3s1    move to another k3s
#   bootstrap/pin.sh --device-plugin nvcr.io/nvidia/k8s-device-plugin:v0.20.2
#   --file FILE                            another file than the versions.env beside this script
#   --accept                               take a value that differs from the pin (a published file never changes:
#                                          read why it differs before you say so)
#
# Each published file is downloaded whole, its sum is computed here and compared with the one published beside it.
# Everything goes over TLS; CURL_CA_BUNDLE is honoured. Needs curl, gpg, python3 and some 400 MB in TMPDIR.
set -Eeuo pipefail

HERE=$(cd "$(dirname "$0")" && pwd)
FILE=$HERE/versions.env CHECK='' ACCEPT='' K3S='' PLUGIN='' DIFFERENT=0 WORK=''
export BETA9_STAGE=pin # who speaks, in lib/log.sh
for part in log settings apt; do
  # shellcheck source=/dev/null
  . "$HERE/lib/$part.sh"
done
declare -A PINS=()

main() {
  arguments "$@"
  WORK=$(mktemp -d)
  trap 'rm -rf "$WORK"' EXIT
  read_settings "$FILE" PINS || fail "$FILE cannot be read"
  [[ -z $K3S ]] || move_k3s
  [[ -z $PLUGIN ]] || move BETA9_DEVICE_PLUGIN_IMAGE "$PLUGIN"
  published BETA9_K3S_SHA256 BETA9_K3S_URL BETA9_K3S_SUMS_URL
  published BETA9_K3S_INSTALL_SHA256 BETA9_K3S_INSTALL_URL
  published BETA9_K3S_IMAGES_SHA256 BETA9_K3S_IMAGES_URL BETA9_K3S_SUMS_URL
  key BETA9_TOOLKIT_KEY_FINGERPRINT "${PINS[BETA9_TOOLKIT_KEY_URL]}"
  key BETA9_NVIDIA_KEY_FINGERPRINT "${PINS[BETA9_NVIDIA_REPOSITORY]:-$NVIDIA_DEBIAN}/3bf863cc.pub"
  key BETA9_TAILSCALE_KEY_FINGERPRINT "${PINS[BETA9_TAILSCALE_KEY_URL]:-$TAILSCALE_DEBIAN}"
  image BETA9_DEVICE_PLUGIN_IMAGE
  ((DIFFERENT == 0)) || fail "$DIFFERENT pin(s) of $FILE do not hold"
}

# What the steps use on Debian 12 where versions.env leaves the place to the machine's release.
NVIDIA_DEBIAN=https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64
TAILSCALE_DEBIAN=https://pkgs.tailscale.com/stable/debian/bookworm.noarmor.gpg

arguments() {
  while (($#)); do
    case $1 in
      --check) CHECK=1 ;;
      --accept) ACCEPT=1 ;;
      --file | --k3s | --device-plugin)
        (($# >= 2)) || fail "$1 needs a value"
        case $1 in --file) FILE=$2 ;; --k3s) K3S=$2 ;; *) PLUGIN=$2 ;; esac
        shift ;;
      *) fail "unknown argument '$1'; the first lines of $0 say what there is" ;;
    esac
    shift
  done
}

fail() {
  say "failed: $*"
  exit 1
}

# --- each kind of pin

# published PIN URL [SUMS]: variables. The file's sum, which must be the one in the release's listing where there is one.
published() {
  local pin=$1 url=${PINS[$2]} sums='' sum listed=''
  [[ -z ${3:-} ]] || sums=${PINS[$3]:-}
  get "$url" "$WORK/file"
  sum=$(sha256sum <"$WORK/file" | cut -d' ' -f1)
  if [[ -n $sums ]]; then
    get "$sums" "$WORK/listing"
    listed=$(awk -v file="${url##*/}" '$2 == file || $2 == "*" file { print $1; exit }' "$WORK/listing")
    [[ $listed == "$sum" ]] || fail "$url has the sum $sum, but $sums says '${listed:-nothing}' of it"
  fi
  rm -f "$WORK/file"
  settle "$pin" "$sum" "$url${sums:+, as in $sums}"
}

# key PIN URL: fingerprints of the primary keys in a repository's key file.
key() {
  get "$2" "$WORK/key"
  settle "$1" "$(fingerprints "$WORK/key" | paste -sd,)" "$2"
}

# image PIN: a reference with a tag gets the digest that its registry answers with, for all platforms.
image() {
  local reference=${PINS[$1]} digest
  local parsed='^([^/]+)/([^:@]+):([^@]+)(@sha256:[0-9a-f]{64})?$'
  [[ $reference =~ $parsed ]] || fail "$1 is '$reference', not HOST/NAME:TAG with or without a digest"
  digest=$(digest_of "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}" "${BASH_REMATCH[3]}")
  settle "$1" "${reference%@*}@$digest" "https://${reference%%/*}"
}

# digest_of HOST NAME TAG: of the manifest as it was received; the registry's own word for it must agree.
digest_of() {
  local url=https://$1/v2/$2/manifests/$3 digest said
  manifest "$url" "$WORK/manifest" "$WORK/headers" </dev/null || authorised "$url" "$2"
  digest=sha256:$(sha256sum <"$WORK/manifest" | cut -d' ' -f1)
  said=$(sed -n 's/^docker-content-digest: *//Ip' "$WORK/headers" | tr -d '\r' | tail -1)
  [[ -z $said || $said == "$digest" ]] || fail "$url: the digest is $digest, but the registry says $said"
  printf %s "$digest"
}

# authorised URL NAME: registries hand out tokens for what is public, too.
authorised() {
  local asked realm service token
  asked=$(grep -i '^www-authenticate: bearer' "$WORK/headers" | tail -1) || fail "$1 cannot be read"
  realm=$(sed -n 's/.*realm="\([^"]*\)".*/\1/p' <<<"$asked")
  service=$(sed -n 's/.*service="\([^"]*\)".*/\1/p' <<<"$asked")
  get "$realm?service=$service&scope=repository:$2:pull" "$WORK/token"
  token=$(python3 -c 'import json, sys; answer = json.load(sys.stdin); print(answer.get("token") or answer["access_token"])' <"$WORK/token")
  manifest "$1" "$WORK/manifest" "$WORK/headers" <<<"header = \"Authorization: Bearer $token\"" || fail "$1 cannot be read"
}

manifest() { # manifest URL BODY HEADERS <CONFIG
  local kinds=application/vnd.oci.image.index.v1+json,application/vnd.docker.distribution.manifest.list.v2+json
  kinds+=,application/vnd.oci.image.manifest.v1+json,application/vnd.docker.distribution.manifest.v2+json
  curl --disable --config - --fail --silent --location --proto =https --proto-redir =https --connect-timeout 15 \
    --max-time 60 --header "Accept: $kinds" --dump-header "$3" --output "$2" -- "$1"
}

get() { # get URL FILE
  curl --disable --fail --silent --show-error --location --proto =https --proto-redir =https --tlsv1.2 \
    --connect-timeout 15 --speed-limit 1024 --speed-time 60 --retry 3 --output "$2" -- "$1" || fail "cannot get $1"
}

# --- what becomes of it

# settle PIN VALUE SOURCE
settle() {
  local pin=$1 value=$2 source=$3 old=${PINS[$1]:-}
  [[ -n $value ]] || fail "nothing was found for $pin at $source"
  [[ $value != *@sha256:* || $old == *@sha256:* ]] || old='' # an image by its tag only is not pinned
  if [[ $old == "$value" ]]; then
    say "$pin holds"
  elif [[ -n $CHECK || ( -n $old && -z $ACCEPT ) ]]; then
    say "$pin is ${old:-empty}, but $source has $value"
    DIFFERENT=$((DIFFERENT + 1))
  else
    write "$pin" "$value" "$source, read by bootstrap/pin.sh on $(date -u +%F)"
    say "$pin is now $value"
  fi
}

# move PIN VALUE: to something else, whose sum is not known yet.
move() {
  PINS[$1]=$2
  [[ -n $CHECK ]] || write "$1" "$2" ''
}

move_k3s() {
  local version=${K3S/+/%2B} old=${PINS[BETA9_K3S_VERSION]/+/%2B} each
  [[ $K3S =~ ^v[0-9]+\.[0-9]+\.[0-9]+\+k3s[0-9]+$ ]] || fail "'$K3S' is not a k3s version as v1.36.5+k3s1"
  [[ $K3S != "${PINS[BETA9_K3S_VERSION]}" ]] || return 0
  write BETA9_K3S_VERSION "$K3S" "chosen by who ran bootstrap/pin.sh on $(date -u +%F)"
  for each in URL SUMS_URL INSTALL_URL IMAGES_URL; do move "BETA9_K3S_$each" "${PINS[BETA9_K3S_$each]//"$old"/"$version"}"; done
  for each in SHA256 INSTALL_SHA256 IMAGES_SHA256; do PINS[BETA9_K3S_$each]=''; done
}

# write PIN VALUE SOURCE: the line, and the comment beside it that says where the value comes from.
write() {
  python3 - "$FILE" "$@" <<'PYTHON'
import os, pathlib, sys
path, pin, value, source = pathlib.Path(sys.argv[1]), *sys.argv[2:5]
lines = path.read_text().split("\n")
at = next((n for n, line in enumerate(lines) if line.startswith(pin + "=")), None)
if at is None:
    sys.exit(f"{path} has no line {pin}=")
first = at
while first and lines[first - 1].startswith("#"):
    first -= 1
beside = lines[first:at]
told = next((n for n, line in enumerate(beside) if line.startswith("# Source:")), len(beside))
if source:
    beside = [*beside[:told], f"# Source: {source}."]
lines[first : at + 1] = [*beside, f"{pin}={value}"]
draft = path.with_name(path.name + ".new")
draft.write_text("\n".join(lines))
draft.chmod(path.stat().st_mode & 0o7777)
os.replace(draft, path)
PYTHON
}

main "$@"
