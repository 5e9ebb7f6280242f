# What a job does around its ./run.sh: it records how it stands, passes on that it has to make room, and queues itself
# again when the stage has stopped on request (exit status 85), to go on where it was.

. local/cluster/hooks.sh

# run_job STAGE RECORDS COMMAND...: RECORDS is the folder that ./run.sh --status reads, a file of one line for each job:
# state (running, again, done, failed), time, host, exit status and why, separated by tabs.
run_job() {
  local stage="$1" told="" interrupted status main_process=""
  record="$2/${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
  shift 2
  note running "" "$( [ "${SLURM_RESTART_COUNT:-0}" = 0 ] || echo "for the $((SLURM_RESTART_COUNT + 1)). time")"
  log_begins=$(wc -c <"$(log_file)" 2>/dev/null || echo 0)
  trap 'pass_on USR1' USR1
  trap 'pass_on TERM' TERM
  export IN_CLUSTER_JOB=1
  job_environment
  # In the background, as bash heeds a signal only while it waits.
  "$@" &
  main_process=$!
  [ -z "$told" ] || pass_on "$told" # it came during job_environment
  while :; do
    interrupted=false
    wait "$main_process"
    status=$?
    [ "$interrupted" = true ] || break
  done
  case "$status:$told" in
    0:*) note done 0 "" ;;
    # Whoever cancels a job sends TERM alone, and does not want it back. Where a partition makes room with TERM alone,
    # Slurm queues the job again itself, if it has not ended before it is killed.
    85:TERM | 138:TERM | 143:TERM) note again "$status" "told to end"; wait_for_the_end ;;
    85:* | 138:USR1 | 143:USR1)
      note again "$status" "made room; goes on when it is its turn"
      scontrol requeue "$SLURM_JOB_ID" && wait_for_the_end
      note failed "$status" "could not be queued again: scontrol requeue $SLURM_JOB_ID" ;;
    *) note failed "$status" "$(what_it_said)" ;;
  esac
  exit "$status"
}

# pass_on SIGNAL: to ./run.sh, which ends when the program that it runs has ended, and to that program.
pass_on() {
  interrupted=true
  [ "$told" = USR1 ] || told="$1"
  [ -n "$main_process" ] || return 0
  kill -s "$1" "$main_process" $(cat "/proc/$main_process/task/$main_process/children") 2>/dev/null
}

wait_for_the_end() {
  trap '' USR1 TERM
  sleep 600
}

note() {
  printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$(date '+%Y-%m-%d %H:%M:%S')" "$(uname -n)" "$2" "$3" >"$record.partial" &&
    mv "$record.partial" "$record"
}

log_file() { readlink /proc/$$/fd/1; }

# The line that says what was wrong: the last of ./run.sh or a program that it ran, without the one that names the stage.
what_it_said() {
  tail -c +"$((log_begins + 1))" "$(log_file)" | tail -n 200 | awk '
    NF { last = $0 }
    /^(run|prepare)\.sh: / && !/ stopped \(exit status [0-9]+\)/ { said = $0 }
    END { print substr(said ? said : last, 1, 500) }' | tr '\t' ' '
}
