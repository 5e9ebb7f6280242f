# Submission to Slurm: each stage a job, which runs the very ./run.sh --stage N --stop-stage N that a person would type,
# from a copy of the code and with the options of now. local/cluster/job.sbatch is what a job looks like.

# needs NUMBER: sets machine (cpu, gpu, or all the machines of a training), after (the stages that come before it) and
# tasks (in how many parts it can be done); prepare.sh and the recipe know.
needs() {
  machine=cpu after="" tasks=1
  [ "$1" = 0 ] || after=$(($1 - 1))
  ! declare -F data_needs >/dev/null || data_needs "$1"
  ! declare -F recipe_needs >/dev/null || recipe_needs "$1"
}

submit_to_slurm() {
  local IFS=$' \n' here="$PWD" number title machine after tasks
  local place stamp code commit job_ids=() submitted=() scripts=() force_it
  place="$(absolute "$exp_dir")/cluster"
  stamp=$(date +%Y%m%d-%H%M%S) commit=$(code_version)
  code="$place/code-$stamp"
  [ "$dry_run" = true ] || start_submission
  while read -r number title; do
    needs "$number"
    force_it=()
    ! is_forced "$number" || force_it=(--force "$number")
    if [ "$tasks" -gt 1 ]; then
      add_job "$number" "$title, in $tasks parts" --part '"$SLURM_ARRAY_TASK_ID/'"$tasks"'"' ${force_it[@]+"${force_it[@]}"}
      after="$number" machine=cpu tasks=1 force_it=() # what is left is to put the parts together
    fi
    add_job "$number" "$title" ${force_it[@]+"${force_it[@]}"}
  done < <(stages_to_run)
  [ "${#scripts[@]}" -gt 0 ] || fail "--stage $stage --stop-stage $stop_stage: no such stage in egs/$recipe (see --list-stages)"
  [ "$dry_run" = true ] && return
  for number in "${!scripts[@]}"; do try_job "${scripts[$number]}"; done
  for number in "${!scripts[@]}"; do submit_job "$number"; done
  say "submitted ${#scripts[@]} jobs; code and options are those of now ($code)"
  say "logs are in $exp_dir/cluster/logs; ./$CALLED_AS --status true with the same options shows how they stand"
}

stages_to_run() {
  (
    list_stages=true
    data_stages
    ! declare -F recipe_stages >/dev/null || [ "$last_stage" -le 4 ] || recipe_stages
  ) | while read -r number title; do
    [ "$number" -lt "$stage" ] || [ "$number" -gt "$stop_stage" ] || echo "$number $title"
  done
}

absolute() { case "$1" in /*) echo "$1" ;; *) echo "$here/$1" ;; esac; }

code_version() {
  local changed=""
  [ -z "$(git status --porcelain -uno 2>/dev/null)" ] || changed=+
  echo "$(git rev-parse --short=10 HEAD 2>/dev/null || echo unknown)$changed"
}

start_submission() {
  local queued
  mkdir -p "$data_dir" "$place/jobs" "$place/logs" "$place/scripts"
  if [ -f "$place/submitted.tsv" ]; then
    queued=$(squeue --noheader --me --format='%F %j' | sort -u | while read -r id name; do
      ! grep -qxF "$id" <(cut -f 2 "$place/submitted.tsv") || echo "$id ($name)"; done | xargs || true)
    [ -z "$queued" ] ||
      fail "--exp-dir $exp_dir: jobs of an earlier submission are in the queue: $queued; wait for them, or scancel them"
  fi
  take_snapshot
}

# The copy stands in for the repository: what is no code is a link, so that data/... and exp/... mean what they mean here,
# and a training that was begun here goes on there.
take_snapshot() {
  local entry
  mkdir -p "$code"
  cp -R ./*.sh requirements*.txt pyproject.toml local egs icefall_ext "$code"
  find "$code" -name __pycache__ -prune -exec rm -rf {} +
  echo "$commit" >"$code/COMMIT"
  for entry in *; do
    [ -e "$code/$entry" ] || ln -s "$here/$entry" "$code/$entry"
  done
}

# options_of_job: all of them with their values, a word each, but those that say where and which stages.
options_of_job() {
  local name value type IFS=' '
  for name in $option_names; do
    case "$name" in
      stage | stop_stage | force | cluster | dry_run | status | partition | data_partition | time | cpus_per_process | \
        grace | sbatch_options | part | python) continue ;;
      num_nodes | gpus_per_node) [ "$machine" = training ] || continue ;;
    esac
    eval "value=\$$name type=\$type_$name"
    case "$value" in
      "") continue ;;
      ../*) case "$type" in path | text | program) value="$here/$value" ;; esac ;;
    esac
    printf '%s\n%s\n' "--${name//_/-}" "$value"
  done
}

# add_job NUMBER TITLE OPTIONS...: writes the script of a job, or prints it.
add_job() {
  local number="$1" title="$2" word words=() command name kind text log IFS=$'\n'
  shift 2
  set -f
  words=($(options_of_job))
  set +f
  kind="stage-$number" log="%j"
  [ "$tasks" = 1 ] || kind="$kind-parts" log="%A_%a"
  command="./$CALLED_AS --stage $number --stop-stage $number"
  for word in "$@"; do command="$command $word"; done
  for word in "${words[@]}" --python "$PYTHON"; do command="$command $(printf '%q' "$word")"; done
  text=$(<local/cluster/job.sbatch)
  name=$(basename "$exp_dir")
  text=$(
    shopt -u patsub_replacement 2>/dev/null || true # of bash 5.2: else & in a value has a meaning
    text="${text//@name@/${name// /_}-$number}" text="${text//@log@/$place/logs/$kind.$log.log}"
    text="${text//@grace@/$grace}" text="${text//@resources@/$(resources)}" text="${text//@stage@/$number}"
    text="${text//@title@/$title}" text="${text//@commit@/$commit}" text="${text//@code@/$(printf '%q' "$code")}"
    text="${text//@records@/$(printf '%q' "$place/jobs")}"
    echo "${text//@command@/$command}"
  )
  scripts+=("$place/scripts/$stamp-$kind.sbatch")
  job_stages+=("$number") job_titles+=("$title") job_tasks+=("$tasks")
  job_after+=("$after")
  if [ "$dry_run" = true ]; then
    printf '%s\n%s\n\n' "# sbatch$(dependency_options "$after" shown) ${scripts[${#scripts[@]} - 1]}" "$text"
    job_ids[$number]="<job of stage $number>"
  else
    echo "$text" >"${scripts[${#scripts[@]} - 1]}"
  fi
}

resources() {
  local word where="$partition" cpus="$nj" IFS=' '
  case "$machine" in
    cpu) where="${data_partition:-$partition}" ;;
    gpu) [ "$gpus_per_node" = 0 ] && where="${data_partition:-$partition}" || cpus="$cpus_per_process" ;;
    training) cpus=$((${processes:-$num_nodes} / num_nodes * cpus_per_process)) ;;
  esac
  echo "#SBATCH --nodes=$([ "$machine" = training ] && echo "$num_nodes" || echo 1)"
  echo "#SBATCH --ntasks-per-node=1"
  echo "#SBATCH --cpus-per-task=$cpus"
  case "$machine:$gpus_per_node" in
    *:0 | cpu:*) ;;
    gpu:*) echo "#SBATCH --gpus-per-node=1" ;;
    training:*) echo "#SBATCH --gpus-per-node=$gpus_per_node" ;;
  esac
  [ -z "$where" ] || echo "#SBATCH --partition=$where"
  [ -z "$time" ] || echo "#SBATCH --time=$time"
  [ "$tasks" = 1 ] || echo "#SBATCH --array=1-$tasks"
  for word in $sbatch_options; do echo "#SBATCH $word"; done
}

# dependency_options STAGES: on the jobs of those that are submitted now; the others were done before.
dependency_options() {
  local number ids="" IFS=' '
  for number in $1; do
    [ -z "${job_ids[$number]:-}" ] || ids="$ids:${job_ids[$number]}"
  done
  [ -z "$ids" ] || echo " --dependency=afterok$ids --kill-on-invalid-dep=yes"
}

# try_job SCRIPT: Slurm's own opinion before anything is queued, of partition, account, time and machines.
try_job() {
  local said
  said=$(sbatch --test-only "$1" 2>&1) || fail "--cluster slurm: $(echo "$said" | grep . | tail -n 1) ($1)"
}

submit_job() {
  local index="$1" id number="${job_stages[$1]}"
  # shellcheck disable=SC2046 # options without spaces
  if ! id=$(sbatch --parsable $(dependency_options "${job_after[$index]}") "${scripts[$index]}" 2>&1); then
    [ ${#submitted[@]} = 0 ] || scancel "${submitted[@]}"
    fail "--cluster slurm: $(echo "$id" | tail -n 1); nothing stays in the queue"
  fi
  id="${id%%;*}" # a federation adds its cluster's name
  submitted+=("$id") job_ids[$number]="$id"
  printf '%s\t' "$stamp" "$id" "$number" "${job_tasks[$index]}" "${job_after[$index]}" >>"$place/submitted.tsv"
  echo "${job_titles[$index]}" >>"$place/submitted.tsv"
  say "job $id  stage $number  ${job_titles[$index]}"
}
