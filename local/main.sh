# What run.sh and prepare.sh have in common: options, the environment, and the stages in order, here or on a cluster.

CALLED_AS="$(basename "$0")"
export CALLED_AS
trap 'exit 130' INT # whatever the program that runs makes of it
# A job tells the program that runs too; bash comes to this when that has ended.
[ -z "${IN_CLUSTER_JOB:-}" ] || trap 'exit 85' USR1 TERM
unset CDPATH # with it, cd may go elsewhere and say so
called_from="$PWD"
cd "$(dirname "$0")"
[ "$PWD" != "$called_from" ] || called_from="" # then a relative path stays as it was typed
. local/parse_options.sh
. local/stages.sh
. local/tables.sh
. local/cluster/options.sh

common_options() {
  section "What to run"
  option stage 0 int "first stage"
  option stop_stage "$1" int "last stage"
  option recipe clift "$(cd egs && echo * | tr ' ' '|')" "which of egs/"
  option force "" stages "stages to run again although up to date: 4, 2,4 or all"
  option verbose false bool "print every command"
  option lane "${LANE:-default}" "default|k2" "the environment: requirements.txt or requirements-k2.txt"
  option python "" program "a Python 3.10 or newer to use or to build the environment from"
  section "Where"
  option data_dir "" path "manifests, text, cuts; by default data/<corpus>"
  option exp_dir "" path "models and results; by default exp/<recipe>-<corpus>"
  option nj "$(getconf _NPROCESSORS_ONLN)" "int>=1" "processes for data preparation"
  cluster_options
}

# main LAST_STAGE ARGS...
main() {
  local last="$1" chosen
  last_stage="$last"
  shift
  common_options "$last"
  data_options
  chosen=$(peek recipe clift "$@")
  [ -n "$chosen" ] || fail "--recipe: needs a value"
  [ -f "egs/$chosen/stages.sh" ] || fail "--recipe $chosen: no egs/$chosen/stages.sh; there is: $(cd egs && echo *)"
  . "egs/$chosen/stages.sh"
  recipe_options
  list_stages=false
  parse_options "$@"
  [ "$stage" -le "$stop_stage" ] || fail "--stage $stage: is after --stop-stage $stop_stage"
  [ "$stop_stage" -le "$last" ] || fail "--stop-stage $stop_stage: the last stage here is $last"
  ! declare -F recipe_settings >/dev/null || recipe_settings
  data_paths
  [ -n "$exp_dir" ] || exp_dir="exp/$recipe-$corpus"
  cluster_check
  if [ "$status" = true ]; then
    show_status
    return
  fi
  if [ "$list_stages" = false ]; then
    data_check
    env_options=(--lane "$lane")
    [ -z "$python" ] || env_options+=(--python "$python")
    . local/env.sh
    env_main "${env_options[@]}"
    if [ "$cluster" = slurm ]; then
      . local/cluster/submit.sh
      submit_to_slurm
      return
    fi
    if [ -n "${IN_CLUSTER_JOB:-}" ]; then
      . local/cluster/hooks.sh
      python() { in_container "$PYTHON" "$@"; }
    fi
    [ "${table:-none}" = none ] || run_table --check-only true
    stages_dir="$data_dir/stages"
    mkdir -p "$stages_dir" "$exp_dir" 2>/dev/null && [ -w "$stages_dir" ] ||
      fail "--data-dir $data_dir, --exp-dir $exp_dir: one cannot be made or written to; give another"
    if [ -n "$part" ]; then
      take_part # beside others of the same stage
    else # Runs of the later stages alone (the rows of a table) may share the data.
      [ "$stage" -gt 4 ] || take_lock 9 "$data_dir"
      [ "$stop_stage" -le 4 ] || take_lock 8 "$exp_dir"
    fi
    trap stage_failed EXIT
  fi
  data_stages
  if [ "$last" -gt 4 ]; then
    stages_dir="$exp_dir/stages"
    if [ "${table:-none}" = none ] || [ "$list_stages" = true ]; then
      recipe_stages
    else
      close_stage
      stages_seen=1
      say "table $table"
      run_table
    fi
  fi
  [ "$list_stages" = true ] && return
  close_stage
  [ "$stages_seen" -gt 0 ] ||
    fail "--stage $stage --stop-stage $stop_stage: no such stage in egs/$recipe (see --list-stages)"
}

# Needs no environment: it uses any Python's standard library.
show_status() {
  local IFS=' ' name current=()
  for name in $option_names; do current+=("$name=${!name}"); done
  PYTHONPATH="$PWD" "${python:-${PYTHON:-python3}}" -m icefall_ext.bin.status --exp-dir "$exp_dir" --data-dir "$data_dir" \
    --stages "$(list_stages=true; data_stages; [ "$last_stage" -le 4 ] || recipe_stages)" --options "${current[@]}"
}
