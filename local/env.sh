#!/usr/bin/env bash
# The Python that everything runs on. Sourced by run.sh, prepare.sh and tests/run.sh; may also be run by hand:
#
#   local/env.sh [--lane default|k2] [--python FILE] [--tests] [-- COMMAND...]
#
# With a command, that is run in the environment: local/env.sh -- python -m icefall_ext.bin.doctor
# It takes --python if that satisfies the lane's requirements, else the active environment if it does, else .venv
# (.venv-k2 for the k2 lane), which it builds from the package index when it is missing or out of date. Sourced, it
# defines the shell function `python`. Nothing outside the repository's folder is changed.

env_fail() { echo "${CALLED_AS:-local/env.sh}: $*" >&2; return 2; }

env_fits() { [ -n "$1" ] && [ "$("$1" -c "import sys; print($env_versions)" 2>/dev/null)" = True ]; }

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
  local log="$env_dir/install.log" pid step seconds=0 status=0
  "$env_dir/bin/python" -m pip --disable-pip-version-check install --progress-bar off "$@" </dev/null >>"$log" 2>&1 &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    sleep 1
    seconds=$((seconds + 1))
    if [ $((seconds % 10)) = 0 ]; then
      step=$(grep -Eo '^ *(Collecting|Downloading|Building|Installing) [^ ]+' "$log" | tail -n 1 | xargs || true)
      echo "         ${seconds} s  $step ($(du -sm "$env_dir" | cut -f 1) MB in place)"
    fi
  done
  wait "$pid" || status=$?
  [ "$status" = 0 ] && return 0
  env_fail "pip could not install ${env_requirements[*]}: $(grep -E '^ERROR' "$log" | tail -n 1) (all of it: $log)"
}

# The wheel with the hash that the requirements name, whatever k2 an earlier build left; the rest of them finds it in place.
env_pip_k2() {
  local wheel="$env_dir/k2-wheel.txt"
  sed -nE 's/^(k2==[^ ]+) +# (sha256:[0-9a-f]{64})$/\1 --hash=\2/p' "${env_requirements[0]}" >"$wheel"
  [ -s "$wheel" ] || { env_fail "${env_requirements[0]}: no line 'k2==VERSION   # sha256:HASH'"; return; }
  env_pip "pip<24.1" && env_pip --force-reinstall --no-deps -r "$wheel"
}

env_k2_loads() {
  local error
  error=$("$env_dir/bin/python" -c "import k2" 2>&1) && return 0
  env_fail "k2 is installed and does not load: ${error##*$'\n'} (${env_dir#"$env_root"/}; $(uname -sm))"
}

# Debian's python3 comes without ensurepip; its pip, virtualenv or uv can stand in, without root.
env_make_venv() {
  local base="$1" way
  for way in venv pip virtualenv uv; do
    rm -rf "$env_dir"
    case "$way" in
      venv) "$base" -m venv "$env_dir" ;;
      pip) "$base" -m venv --without-pip "$env_dir" && "$base" -m pip --python "$env_dir/bin/python" install -q pip ;;
      virtualenv) "$base" -m virtualenv -q "$env_dir" ;;
      uv) command -v uv && uv venv -q --seed --python "$base" "$env_dir" ;;
    esac >/dev/null 2>&1 && return 0
  done
  rm -rf "$env_dir"
  return 1
}

# Leaves an environment with pip in $env_dir: the one that an interrupted build left there, or a new one from the first
# Python that fits and can make one.
env_make_any_venv() {
  local base seen=""
  env_fits "$env_dir/bin/python" && "$env_dir/bin/python" -c "import pip" 2>/dev/null && return 0
  while IFS= read -r base; do
    "$base" -V >/dev/null 2>&1 || continue
    seen="$seen${seen:+, }$base ($("$base" -V 2>&1))"
    env_fits "$base" || continue
    echo "$(date +%H:%M:%S) building ${env_dir#"$env_root"/} from $(command -v "$base") ($("$base" -V 2>&1)), once," \
      "a few minutes; log in ${env_dir#"$env_root"/}/install.log"
    env_make_venv "$base" && return 0
    seen="$seen without venv, pip, virtualenv or uv"
  done < <(env_candidates)
  env_fail "no $env_wanted that can make a virtual environment; found: ${seen:-no Python}. Give one with --python FILE"
}

env_build() {
  local free_kb file wanted=() status=0
  for file in "${env_requirements[@]}"; do wanted+=(-r "$file"); done
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
  {
    env_make_any_venv && : >"$env_dir/install.log" &&
      { [ "$env_lane" != k2 ] || env_pip_k2; } &&
      env_pip "${wanted[@]}" &&
      { [ "$env_lane" != k2 ] || env_k2_loads; } &&
      env_digest "${env_requirements[0]}" >"$env_dir/.satisfies-run" &&
      env_digest "${env_requirements[@]}" >"$env_dir/.satisfies-$env_what"
  } || status=$?
  rm -rf "$env_dir.lock"
  [ "$status" = 0 ] && echo "$(date +%H:%M:%S) built    ${env_dir#"$env_root"/}"
  return "$status"
}

env_is_satisfied_by() {
  env_fits "$1" && "$1" "$env_root/local/check_requirements.py" "${env_requirements[@]}" >/dev/null 2>&1 &&
    { [ "$env_lane" != k2 ] || "$1" -c "import k2" 2>/dev/null; } && PYTHON="$(command -v "$1")"
}

env_main() {
  env_root="$(unset CDPATH && cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
  env_lane="${LANE:-default}" env_python="" env_what=run env_command=()
  while [ $# -gt 0 ]; do
    case "$1" in
      --lane | --python) [ $# -ge 2 ] || { env_fail "$1: needs a value"; return; } ;;
    esac
    case "$1" in
      --lane) env_lane="$2"; shift 2 ;;
      --python) env_python="$2"; shift 2 ;;
      --tests) env_what=tests; shift ;;
      --) shift; env_command=("$@"); break ;;
      --help | -h) sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; return 0 ;;
      *) env_fail "$1: unknown option (--lane default|k2, --python FILE, --tests, -- COMMAND)"; return ;;
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
  # The matrix products of torch 1.13 (MKL 2020) take an AMD processor for one without AVX2: a third of the speed.
  if [ "$env_lane" = k2 ] && grep -q AuthenticAMD /proc/cpuinfo 2>/dev/null && grep -qw avx2 /proc/cpuinfo; then
    export MKL_DEBUG_CPU_TYPE="${MKL_DEBUG_CPU_TYPE-5}"
  fi
  python() { "$PYTHON" "$@"; }
}

# Sets PYTHON. Only a Python that is asked for or active goes before the environment that was built earlier.
env_choose() {
  local active=""
  # That of a job was looked at when the job was submitted.
  if [ -n "${IN_CLUSTER_JOB:-}" ] && [ -n "$env_python" ]; then PYTHON="$env_python"; return; fi
  [ -n "$env_python" ] || [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] || active=python
  if env_is_satisfied_by "$env_python" || env_is_satisfied_by "$active"; then return; fi
  env_stamped || { [ -z "$env_python" ] && env_is_satisfied_by python3 && return; } || env_build || return
  PYTHON="$env_dir/bin/python"
  [ -z "$env_python" ] || echo "$env_python alone is not enough for the $env_lane lane; in use: $PYTHON" >&2
}

# A stamp counts for the very requirements it was made from, and only while the interpreter behind it still runs.
env_stamped() {
  [ "$(cat "$env_dir/.satisfies-$env_what" 2>/dev/null)" = "$(env_digest "${env_requirements[@]}")" ] &&
    "$env_dir/bin/python" -c "" 2>/dev/null
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  set -euo pipefail
  env_main "$@"
  if [ ${#env_command[@]} -gt 0 ]; then
    "${env_command[@]}"
  elif [ -n "${PYTHON:-}" ]; then
    echo "$LANE lane: $PYTHON ($("$PYTHON" -V))"
  fi
fi
