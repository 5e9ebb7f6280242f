#!/usr/bin/env bash
# The Python that everything runs on. Sourced by run.sh, prepare.sh and tests/run.sh; may also be run by hand:
#
#   local/env.sh [--lane default|k2] [--python FILE] [--tests]
#
# It takes --python if that satisfies the lane's requirements, else the active environment if it does, else .venv
# (.venv-k2 for the k2 lane), which it builds from the package index when it is missing or out of date. Sourced, it
# defines the shell function `python`. Nothing outside the repository's folder is changed.

env_fail() { echo "${CALLED_AS:-local/env.sh}: $*" >&2; return 2; }

# First of the given commands that is a Python of a version the lane can use.
env_find_base() {
  local candidate
  for candidate in "$@"; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c "import sys; sys.exit(not ($env_versions))" >/dev/null 2>&1; then
      command -v "$candidate"
      return 0
    fi
  done
  return 1
}

env_candidates() {
  local minor prefix
  [ -n "$env_python" ] && { echo "$env_python"; return; }
  for minor in "" .12 .11 .13 .10 .14; do echo "python3$minor"; done
  # pyenv's own names refuse to run a version that is installed but not selected, so ask for the files.
  if command -v pyenv >/dev/null 2>&1; then
    for prefix in "$(pyenv root)"/versions/3.1*; do echo "$prefix/bin/python3"; done
  fi
}

env_digest() { cat "$@" | cksum | tr ' ' '-'; }

# Runs pip with a line every ten seconds: silence and a hang look the same.
env_pip() {
  local log="$env_dir/install.log" pid seconds=0 status=0
  "$env_dir/bin/python" -m pip --disable-pip-version-check install --progress-bar off "$@" </dev/null >>"$log" 2>&1 &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    sleep 1
    seconds=$((seconds + 1))
    if [ $((seconds % 10)) = 0 ]; then
      echo "         ${seconds} s  $(grep -Eo '^ *(Collecting|Downloading|Building|Installing) [^ ]+' "$log" | tail -n 1 | xargs)" \
        "($(du -sm "$env_dir" | cut -f 1) MB in place)"
    fi
  done
  wait "$pid" || status=$?
  [ "$status" = 0 ] && return 0
  env_fail "pip could not install ${env_requirements[*]}: $(grep -E '^ERROR' "$log" | tail -n 1) (all of it: $log)"
}

env_make_venv() {
  local base="$1"
  "$base" -m venv "$env_dir" >/dev/null 2>&1 && return 0
  # Debian's python3 comes without ensurepip; its pip, virtualenv or uv can stand in, without root.
  rm -rf "$env_dir"
  if "$base" -m venv --without-pip "$env_dir" >/dev/null 2>&1 &&
    "$base" -m pip --python "$env_dir/bin/python" install -q pip >/dev/null 2>&1; then return 0; fi
  rm -rf "$env_dir"
  "$base" -m virtualenv -q "$env_dir" >/dev/null 2>&1 && return 0
  rm -rf "$env_dir"
  command -v uv >/dev/null 2>&1 && uv venv -q --seed --python "$base" "$env_dir" >/dev/null 2>&1 && return 0
  rm -rf "$env_dir"
  env_fail "$base cannot make a virtual environment (no ensurepip, pip, virtualenv or uv); give another with --python FILE"
}

env_build() {
  local base free_kb
  if ! base=$(env_find_base $(env_candidates)); then
    env_fail "no Python that fits (${env_wanted}); found: $(env_found). Give one with --python FILE"
    return
  fi
  free_kb=$(df -Pk "$env_root" | awk 'NR == 2 {print $4}')
  if [ "$free_kb" -lt 6500000 ]; then
    env_fail "$env_root: $((free_kb / 1000000)) GB free; the environment takes 5 to 6 GB"
    return
  fi
  # Two builds into one folder would spoil each other. A lock of a process that is gone does not count.
  if ! mkdir "$env_dir.lock" 2>/dev/null; then
    if kill -0 "$(cat "$env_dir.lock/pid" 2>/dev/null)" 2>/dev/null; then
      env_fail "$env_dir: process $(cat "$env_dir.lock/pid") is building it; wait for it and start again"
      return
    fi
  fi
  echo $$ >"$env_dir.lock/pid"
  echo "$(date +%H:%M:%S) building ${env_dir#"$env_root"/} from $base ($("$base" -V 2>&1)), once, a few minutes; log in ${env_dir#"$env_root"/}/install.log"
  local status=0
  {
    { "$env_dir/bin/python" -c "import sys, pip; sys.exit(not ($env_versions))" >/dev/null 2>&1 ||
      { rm -rf "$env_dir" && env_make_venv "$base"; }; } &&
      : >"$env_dir/install.log" &&
      { [ "$env_lane" != k2 ] || env_pip "pip<24.1"; } &&
      env_pip $(printf -- '-r %s ' "${env_requirements[@]}") &&
      env_digest "${env_requirements[0]}" >"$env_dir/.satisfies-run" &&
      env_digest "${env_requirements[@]}" >"$env_dir/.satisfies-$env_what"
  } || status=$?
  rm -rf "$env_dir.lock"
  [ "$status" = 0 ] && echo "$(date +%H:%M:%S) built    ${env_dir#"$env_root"/}"
  return "$status"
}

env_found() {
  local candidate found=""
  for candidate in $(env_candidates); do
    "$candidate" -V >/dev/null 2>&1 && found="$found $candidate ($("$candidate" -V 2>&1))"
  done
  echo "${found:- none}"
}

env_is_satisfied_by() {
  [ -n "$1" ] && "$1" "$env_root/local/check_requirements.py" "${env_requirements[@]}" >/dev/null 2>&1 &&
    PYTHON="$(command -v "$1")"
}

env_main() {
  env_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
  env_lane="${LANE:-default}" env_python="" env_what=run
  while [ $# -gt 0 ]; do
    case "$1" in
      --lane | --python) [ $# -ge 2 ] || { env_fail "$1: needs a value"; return; } ;;
    esac
    case "$1" in
      --lane) env_lane="$2"; shift 2 ;;
      --python) env_python="$2"; shift 2 ;;
      --tests) env_what=tests; shift ;;
      --help | -h) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; return 0 ;;
      *) env_fail "$1: unknown option (--lane default|k2, --python FILE, --tests)"; return ;;
    esac
  done
  case "$env_lane" in
    default)
      env_dir="$env_root/.venv" env_requirements=("$env_root/requirements.txt")
      env_wanted="Python 3.10 to 3.14" env_versions="(3, 10) <= sys.version_info < (3, 15)" ;;
    k2)
      env_dir="$env_root/.venv-k2" env_requirements=("$env_root/requirements-k2.txt")
      env_wanted="Python 3.10" env_versions="sys.version_info[:2] == (3, 10)" ;;
    *) env_fail "--lane $env_lane: must be default or k2"; return ;;
  esac
  [ "$env_what" = run ] || env_requirements+=("$env_root/tests/requirements.txt")
  if [ -n "$env_python" ] && ! command -v "$env_python" >/dev/null; then
    env_fail "--python $env_python: no such program"
    return
  fi

  env_choose || return
  export PYTHON LANE="$env_lane" PYTHONPATH="$env_root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
  python() { "$PYTHON" "$@"; }
}

# Sets PYTHON. Only a Python that is asked for or active goes before the environment that was built earlier.
env_choose() {
  local active=""
  [ -n "$env_python" ] || [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] || active=python
  if env_is_satisfied_by "$env_python" || env_is_satisfied_by "$active"; then return; fi
  env_stamped || { [ -z "$env_python" ] && env_is_satisfied_by python3 && return; } || env_build || return
  PYTHON="$env_dir/bin/python"
}

# A stamp counts for the very requirements it was made from, and only while the interpreter behind it still runs.
env_stamped() {
  [ "$(cat "$env_dir/.satisfies-$env_what" 2>/dev/null)" = "$(env_digest "${env_requirements[@]}")" ] && [ -x "$env_dir/bin/python" ] &&
    "$env_dir/bin/python" -c "" 2>/dev/null
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  set -euo pipefail
  env_main "$@"
  [ -z "${PYTHON:-}" ] || echo "$LANE lane: $PYTHON ($("$PYTHON" -V))"
fi
