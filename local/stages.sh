# Numbered stages that run once: `if stage 3 "title" --reads ... --writes ... --options ...; then run ...; fi`.
#
# A stage is up to date while everything it reads (by content), everything it writes (by size and time) and the options
# it names are what they were when it last ended well; icefall_ext/bin/stage_marker.py keeps that record in
# $data_dir/stages or $exp_dir/stages. The end of a stage is the start of the next, or the end of the script.

stages_open="" stages_seen=0

say() { echo "$(date +%H:%M:%S) $*"; }

least() { echo $(($1 < $2 ? $1 : $2)); }

# last_epoch FOLDER: the number of its last epoch-*.pt, or nothing.
last_epoch() {
  { find "$1" -maxdepth 1 -name "epoch-*.pt" 2>/dev/null || true; } |
    sed -n 's/.*epoch-\([0-9]*\)\.pt$/\1/p' | sort -n | tail -n 1
}

# stage NUMBER TITLE [--reads PATH...] [--writes PATH...] [--options NAME...]: true when its body is to be run.
stage() {
  local number="$1" title="$2" list="" word pairs=() paths_read=() paths_written=() status=0
  shift 2
  if [ "$list_stages" = true ]; then
    printf '%3s  %s\n' "$number" "$title"
    return 1
  fi
  close_stage
  [ "$number" -ge "$stage" ] && [ "$number" -le "$stop_stage" ] || return 1
  stages_seen=$((stages_seen + 1))
  for word in "$@"; do
    case "$word" in
      --reads | --writes | --options) list="$word" ;;
      *)
        case "$list" in
          --reads) paths_read+=("$word") ;;
          --writes) paths_written+=("$word") ;;
          --options) pairs+=("$word=${!word}") ;;
        esac ;;
    esac
  done
  stage_marker="$stages_dir/$number.json"
  ! is_forced "$number" || pairs+=("forced=$(date +%s)")
  python -m icefall_ext.bin.stage_marker check --marker "$stage_marker" --number "$number" --title "$title" \
    --reads ${paths_read[@]+"${paths_read[@]}"} --writes ${paths_written[@]+"${paths_written[@]}"} \
    --options ${pairs[@]+"${pairs[@]}"} || status=$?
  case "$status" in
    0) return 1 ;;
    3) stages_open="$number" stage_started=$SECONDS; return 0 ;;
    *) exit "$status" ;;
  esac
}

# is_forced NUMBER: whether --force names the stage.
is_forced() {
  case " ${force//,/ } " in *" $1 "* | " all ") return 0 ;; *) return 1 ;; esac
}

close_stage() {
  [ -n "$stages_open" ] || return 0
  # `set -e` does not hold here: the next stage calls this from the condition of an `if`.
  python -m icefall_ext.bin.stage_marker done --marker "$stage_marker" || exit
  say "stage $stages_open  done in $((SECONDS - stage_started)) s"
  stages_open=""
}

# run COMMAND...: one step of a stage. The place where another launcher (a cluster's) would step in.
run() {
  [ "$verbose" = false ] || echo "         + $*"
  "$@"
}

# take_lock FD DIR: two runs that write the same files would spoil both. The lock is on an open file, which every program
# started from here inherits: it holds until the last of them has ended, also when this shell is killed before it.
take_lock() {
  eval "exec $1>>\"\$2/.lock\""
  if ! python -c "$lock_it" "$1"; then
    fail "$2: process $(cat "$2/.lock"), or what it started, is working there; wait for it, or give another folder"
  fi
  echo $$ >"$2/.lock"
}

lock_it='
import fcntl, sys
try:
    fcntl.flock(int(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    raise SystemExit(1)
except OSError:
    pass # a file system without locks
'

stage_failed() {
  local status=$?
  # Status 2 is a wrong option: the same command would end in the same way.
  [ "$status" = 0 ] || [ "$status" = 2 ] || [ -z "$stages_open" ] ||
    echo "$CALLED_AS: stage $stages_open stopped (exit status $status); the same command continues there" >&2
}
