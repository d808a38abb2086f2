# shellcheck shell=bash
# Read worker.env and versions.env. Values are data: the shell never evaluates anything in them.
#
# docs/settings.md describes the syntax, which agent/core/provisioning/env_file.py reads in the same way. boot.sh, which
# runs before this file is on the machine, has the same read_settings, setting and use_proxy; a test compares them.
# Precedence: the environment, worker.env, versions.env, the default. An empty value counts as not set.

declare -gA BETA9_SETTINGS=() BETA9_PINS=()
SETTINGS_PROBLEM=''
# shellcheck disable=SC2034 # used by install.sh and step.sh
SETTINGS_FIX="correct it, then run the installer again; the syntax is NAME=value, NAME='value' or NAME=\"value\" (docs/settings.md)"

# read_settings FILE ARRAY: fill the associative array ARRAY. If a line cannot be read, go on with the next one, so that
# the failure policy below it still counts, put the first such line into SETTINGS_PROBLEM, and return 1. The problem
# never has the line's text, which may be a secret.
# shellcheck disable=SC2004,SC2034,SC2059,SC2094 # subscripts are names; the caller reads `into`; the format is one of seven
read_settings() {
  local LC_ALL=C lines=() line name value quote rest char wrong at=0 next
  local -n into=$2
  SETTINGS_PROBLEM=''
  [[ ! -d $1 ]] && mapfile -t lines <"$1" && tr -d '\0' <"$1" | iconv -f UTF-8 -t UTF-8 2>/dev/null | cmp -s - "$1" ||
    SETTINGS_PROBLEM="$1 cannot be read as UTF-8 text"
  line=${lines[0]-} lines[0]=${line#$'\xef\xbb\xbf'}
  while ((at < ${#lines[@]})); do
    line=${lines[at]%$'\r'} at=$((at + 1)) wrong=''
    next=$at rest=$line
    if [[ $line =~ ^[[:blank:]]*(export[[:blank:]]+)?([A-Za-z0-9_.-]+)[[:blank:]]*=(.*)$ ]]; then
      name=${BASH_REMATCH[2]} value=${BASH_REMATCH[3]}
      quote=${value#"${value%%[![:blank:]]*}"} rest=${quote:1} quote=${quote:0:1}
      if [[ $quote == [\"\'] ]]; then
        until [[ ${rest//\\?/} == *"$quote"* ]] || ((next == ${#lines[@]})); do
          rest+=$'\n'${lines[next]%$'\r'} next=$((next + 1))
        done
        [[ $rest =~ ^((\\.|[^\\${quote}])*)${quote}[[:blank:]]*(#.*)?$ ]] ||
          wrong="the quotes around $name are not closed, or text follows them"
        line=${BASH_REMATCH[1]-} value=''
        while [[ $line == *\\* ]]; do
          value+=${line%%\\*} line=${line#*\\}
          char=${line:0:1} line=${line:1}
          case $quote$char in
            \"[abfnrtv]) printf -v char "\\$char" ;;
            ?\\ | ?\' | \"\") ;;
            *) char=\\$char ;;
          esac
          value+=$char
        done
        value+=$line
      else
        rest=$value value=${value%%[[:blank:]]#*} value=${value#"${value%%[![:blank:]]*}"}
        value=${value%"${value##*[![:blank:]]}"}
      fi
    elif [[ ! $line =~ ^[[:blank:]]*(#|$) ]]; then
      wrong='not NAME=value'
    else
      name=''
    fi
    [[ ${rest//[$'\t\n']/} != *[[:cntrl:]]* ]] || wrong='a control character'
    if [[ -n $wrong ]]; then
      : "${SETTINGS_PROBLEM:=$1, line $at: $wrong}"
    elif [[ -n $name ]]; then
      into[$name]=$value at=$next
    fi
  done
  [[ -z $SETTINGS_PROBLEM ]]
}

load_settings() {
  local pins
  read_settings "$BETA9_BOOTSTRAP/versions.env" BETA9_PINS || true
  pins=$SETTINGS_PROBLEM SETTINGS_PROBLEM=''
  [[ -z ${BETA9_ENV_FILE:-} ]] || read_settings "$BETA9_ENV_FILE" BETA9_SETTINGS || true
  : "${SETTINGS_PROBLEM:=$pins}"
  use_proxy
  [[ -z $SETTINGS_PROBLEM ]]
}

# use_proxy: export the proxy of the settings under all names that curl, apt, pip and Docker know. What is on this
# machine or in its cluster is never asked for through a proxy: loopback, the cloud's metadata service, pods, services.
use_proxy() {
  local lower upper value any=''
  local direct=localhost,127.0.0.1,127.0.0.0/8,::1,169.254.169.254,fd00:ec2::254,10.42.0.0/16,10.43.0.0/16,.svc,.cluster.local
  for lower in http_proxy https_proxy no_proxy; do
    upper=${lower^^}
    value=${!lower:-${!upper:-${BETA9_SETTINGS[$lower]:-${BETA9_SETTINGS[$upper]:-}}}} value=${value//[[:blank:]]/}
    if [[ $lower != no_proxy ]]; then
      [[ -z $value || $value == *://* ]] || value=http://$value
      any+=$value
    elif [[ -n $any && $value != *"$direct" ]]; then
      value+=${value:+,}$direct
    fi
    [[ -z $value ]] || export "$lower=$value" "$upper=$value"
  done
}

# setting NAME [DEFAULT]: print the value.
setting() {
  local name=$1 value
  value=${!name:-}
  [[ -n $value ]] || value=${BETA9_SETTINGS[$name]:-}
  [[ -n $value ]] || value=${BETA9_PINS[$name]:-}
  printf %s "${value:-${2:-}}"
}

# enabled NAME: whether a boolean setting is true.
enabled() {
  case $(setting "$1" | tr '[:upper:]' '[:lower:]') in
    1 | yes | true | on) return 0 ;;
    *) return 1 ;;
  esac
}

# number NAME DEFAULT: print a whole number, or return 1. Only such values may be used in shell arithmetic, which would
# evaluate others as expressions.
number() {
  local value
  value=$(setting "$1" "$2")
  if [[ ! $value =~ ^(0|[1-9][0-9]{0,6})$ ]]; then
    say "$1 is not a whole number"
    return 1
  fi
  printf %s "$value"
}
