#!/bin/bash
# For clouds that run a plain bash script at startup: writes worker.env, unless it exists; boot.sh follows below.
(
  set -euC
  umask 077
  mkdir -p "${BETA9_ROOT:-}/etc/beta9-worker"
  cd "${BETA9_ROOT:-}/etc/beta9-worker"
  if [[ -e worker.env ]]; then echo "beta9-boot: $PWD/worker.env exists and is kept"; exit 0; fi
  rm -f .worker.env.new
  cat >.worker.env.new <<'BETA9_END_OF_SETTINGS'
# settings
# end of settings
BETA9_END_OF_SETTINGS
  mv .worker.env.new worker.env
)
