# What a person says about where the stages run, and what can be wrong with it.

cluster_options() {
  section "Cluster (docs/cluster.md)"
  option cluster local "local|slurm" "run the stages here, or submit each as a job"
  option dry_run false bool "slurm: print the jobs and submit nothing"
  option status false bool "show stages, jobs and how far a training is, and stop"
  option partition "" text "slurm: of the jobs"
  option data_partition "" text "slurm: of the jobs that need no GPU; by default the same"
  option time "" time "slurm: limit of each job, as in 30 (minutes), 12:00:00 or 2-00:00:00"
  option num_nodes 1 "int>=1" "slurm: machines of a training"
  option gpus_per_node 0 int "slurm: GPUs of each; 0: train on CPUs"
  option cpus_per_process 4 "int>=1" "slurm: cores for each process of a training, its loading of data included"
  option grace 120 "int>=1" "slurm: seconds that a job is told before it is taken away or its time is over"
  option sbatch_options "" text "slurm: more for sbatch: --sbatch-options='--account=speech --mem=64G'"
  option part "" part "of a stage that splits: 2/6 does the second of six shares, and no more"
}

# in_allocation: whether this runs on machines that Slurm has given.
in_allocation() { [ -n "${SLURM_JOB_ID:-}" ]; }

cluster_check() {
  local name there
  if [ "$cluster" = local ]; then
    for name in $options_given; do
      case "$name" in
        partition | data_partition | time | cpus_per_process | grace | sbatch_options | dry_run) ;;
        num_nodes | gpus_per_node) ! in_allocation || continue ;;
        *) continue ;;
      esac
      fail "--${name//_/-} ${!name}: has no use without --cluster slurm"
    done
    [ "$num_nodes" = 1 ] || [ "${SLURM_JOB_NUM_NODES:-}" = "$num_nodes" ] ||
      fail "--num-nodes $num_nodes: this allocation has ${SLURM_JOB_NUM_NODES:-one}"
    return 0
  fi
  [ "${table:-none}" = none ] || fail "--table $table: its rows are runs of their own; start it inside an allocation"
  [ -z "$part" ] || fail "--part $part: has no use with --cluster slurm, which splits what can be split"
  case "$partition$data_partition$time$sbatch_options$exp_dir" in
    *$'\n'* | *%*) fail "--partition, --time, --sbatch-options, --exp-dir: neither line breaks nor %" ;;
  esac
  if ! command -v sbatch >/dev/null; then
    [ "$dry_run" = true ] || fail "--cluster slurm: no sbatch on this machine; submit from one that has it (--dry-run true shows the jobs)"
  elif there=$(sinfo --noheader --format=%R 2>&1); then
    there=$(echo "$there" | sort -u | xargs)
    for name in "$partition" "$data_partition"; do
      case " $there " in *" ${name:-$there} "*) ;; *) fail "--partition $name: no such partition; there is: $there" ;; esac
    done
  elif [ "$dry_run" = false ]; then
    fail "--cluster slurm: $(echo "$there" | head -n 1)"
  fi
}

# across_machines COMMAND...: one on each machine of a training; icefall_ext.bin.launch starts the processes there.
across_machines() {
  if [ "$num_nodes" = 1 ]; then
    "$@"
    return
  fi
  [ "$1" != python ] || set -- "$PYTHON" "${@:2}" # srun knows no functions of this shell
  srun --kill-on-bad-exit=1 --nodes="$num_nodes" --ntasks="$num_nodes" --ntasks-per-node=1 \
    ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} \
    bash -c '. local/cluster/hooks.sh && in_container "$@"' srun "$@"
}

# share ITEM...: sets taken to those that --part gives to this run, all without it. It counts on from call to call.
shares_seen=0
share() {
  local item
  taken=()
  for item in "$@"; do
    [ -n "$part" ] && [ $((shares_seen % ${part#*/} + 1)) != "${part%/*}" ] || taken+=("$item")
    shares_seen=$((shares_seen + 1))
  done
}

# With --part, a stage is what this run does of it: the run that does the rest says that it is done.
take_part() {
  [ "$stage" = "$stop_stage" ] || fail "--part $part: is of one stage; give --stage N --stop-stage N"
  stage() {
    [ "$list_stages" = false ] && [ "$1" = "$stage" ] || return 1
    stages_seen=1
    say "stage $1  $2, part $part"
  }
}
