#!/usr/bin/env bash
# The tests: tests/run.sh [--lane default|k2] [--python FILE] [what pytest takes]. Builds the environment if it has to.
set -euo pipefail
export CALLED_AS=tests/run.sh
cd "$(dirname "$0")/.."
. local/env.sh
env_options=(--tests)
while [ $# -gt 0 ]; do
  case "$1" in
    --help | -h) sed -n '2s/^# //p' tests/run.sh; exit 0 ;;
    --lane | --python) env_options+=("$1" "${2-}"); shift $(($# > 1 ? 2 : 1)) ;;
    --lane=* | --python=*) env_options+=("${1%%=*}" "${1#*=}"); shift ;;
    *) break ;;
  esac
done
env_main "${env_options[@]}"
unset CALLED_AS # the programs under test name themselves
echo "$LANE lane, $("$PYTHON" -V)"
python -m pytest -rs "$@" # with the reason of whatever is skipped
