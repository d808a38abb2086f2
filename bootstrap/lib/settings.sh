# shellcheck shell=bash
# Read worker.env and versions.env. Values are data: the shell never evaluates anything in them.
#
# The syntax is dotenv's: NAME=value, NAME='value' (may span lines) or NAME="value"; `#` starts a comment.
# Precedence: the environment, worker.env, versions.env, the default. An empty value counts as not set.

declare -gA BETA9_SETTINGS=() BETA9_PINS=()

# read_settings FILE ARRAY: fill the associative array ARRAY. On a syntax error, name the line and return 1.
# shellcheck disable=SC2004 # the subscripts are names, not arithmetic
read_settings() {
  local file=$1 line name value number=0 first quoted
  local -n into=$2
  local assignment="^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)[[:space:]]*=[[:space:]]*(.*)$"
  local single="^'((\\\\'|[^'])*)'[[:space:]]*(#[^"$'\n'"]*)?$" double="^\"((\\\\.|[^\"\\\\])*)\"[[:space:]]*(#[^"$'\n'"]*)?$"
  while IFS= read -r line || [[ -n $line ]]; do
    number=$((number + 1)) first=$number line=${line%$'\r'}
    [[ $line =~ ^[[:space:]]*(#|$) ]] && continue
    if [[ ! $line =~ $assignment ]]; then
      say "$file, line $number: not NAME=value" # the line itself may hold a secret
      return 1
    fi
    name=${BASH_REMATCH[2]} value=${BASH_REMATCH[3]}
    case $value in
      \'*) quoted=$single ;;
      \"*) quoted=$double ;;
      *) value=${value%%[[:space:]]#*} into[$name]=${value%"${value##*[![:space:]]}"} && continue ;;
    esac
    until [[ $value =~ $quoted ]]; do
      if ! IFS= read -r line && [[ -z $line ]]; then
        say "$file, line $first: the quotes around $name are not closed, or text follows them"
        return 1
      fi
      number=$((number + 1)) value+=$'\n'${line%$'\r'}
    done
    into[$name]=$(unescape "${value:0:1}" "${BASH_REMATCH[1]}"; printf .)
    into[$name]=${into[$name]%.}
  done <"$file"
}

# Inside quotes a backslash escapes itself and the quote; inside double quotes \n is a newline.
unescape() {
  local quote=$1 text=$2 out='' at char next
  for ((at = 0; at < ${#text}; at++)); do
    char=${text:at:1} next=${text:at+1:1}
    if [[ $char == "\\" && ( $next == "\\" || $next == "$quote" ) ]]; then
      out+=$next at=$((at + 1))
    elif [[ $char == "\\" && $next == n && $quote == '"' ]]; then
      out+=$'\n' at=$((at + 1))
    else
      out+=$char
    fi
  done
  printf %s "$out"
}

load_settings() {
  read_settings "$BETA9_BOOTSTRAP/versions.env" BETA9_PINS || return 1
  [[ -z ${BETA9_ENV_FILE:-} ]] || read_settings "$BETA9_ENV_FILE" BETA9_SETTINGS
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
