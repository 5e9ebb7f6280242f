# Options of run.sh, prepare.sh and the recipes: declared once, with a type, a default and a line of help.
# `option vocab_size 500 "int>=261" "tokens"` makes the variable $vocab_size and the flag --vocab-size; both
# `--vocab-size 300` and `--vocab-size=300` set it; one of type bool is true without a value. Works with the bash 3.2 of macOS, hence no associative arrays.

fail() { echo "$CALLED_AS: $*" >&2; exit 2; }

option_names=""
option_help=""
options_given="" # names of those that were on the command line

# section TITLE: a heading in --help for the options that follow.
section() { option_help="$option_help
$1
"; }

# option NAME DEFAULT TYPE HELP; TYPE is text, path, program, stages, part, time, bool, number, int, int>=N,
# a|b|c, or auto|int.
option() {
  local flag="--${1//_/-}" note=""
  [ -z "$2" ] || note=" (default $2)"
  case "$3" in "auto|int") ;; *"|"*) note=" (${3//|/, }; default $2)" ;; esac
  option_names="$option_names $1"
  option_help="$option_help$(printf '  %-20s %s%s' "$flag" "$4" "$note")
"
  eval "$1=\$2 type_$1=\$3 help_$1=\$4"
}

# without NAME...: a recipe has no use for these, declared before; they keep their values and cannot be given.
without() {
  local name line word flags="" heading="" kept=""
  for name in "$@"; do
    option_names=" $option_names "
    option_names="${option_names/ $name / }"
    flags="$flags --${name//_/-}"
  done
  while IFS= read -r line; do
    case "$line" in
      "  --"*)
        word="${line#  }"
        case "$flags " in *" ${word%% *} "*) continue ;; esac
        kept="$kept${heading:+
$heading
}$line
"
        heading="" ;;
      ?*) heading="$line" ;; # of a section, which goes where nothing is left of it
    esac
  done <<<"$option_help"
  option_help="$kept"
}

# default NAME VALUE: a recipe's own default for an option that was declared before it.
default() { eval "$1=\$2"; }

check_value() {
  local name="$1" value="$2" type help flag="--${1//_/-}" least
  eval "type=\$type_$name help=\$help_$name"
  case "$type" in
    text | path | program) ;;
    stages)
      [[ "$value" =~ ^(all|[0-9]+([,\ ]+[0-9]+)*)?$ ]] || fail "$flag $value: must be numbers of stages, or all" ;;
    part) # I/N
      [[ "$value" =~ ^[0-9]{1,6}/[0-9]{1,6}$ ]] && [ "$((10#${value%/*}))" -ge 1 ] &&
        [ "$((10#${value%/*}))" -le "$((10#${value#*/}))" ] || fail "$flag $value: must be such as 2/6, the second of six" ;;
    time)
      [[ "$value" =~ ^([0-9]+-[0-9]+(:[0-9]+){0,2}|[0-9]+(:[0-9]+){0,2})$ ]] ||
        fail "$flag $value: must be minutes, hours:minutes:seconds, or days-hours:minutes:seconds" ;;
    bool) case "$value" in true | false) ;; *) fail "$flag $value: must be true or false" ;; esac ;;
    number) [[ "$value" =~ ^[0-9]*\.?[0-9]+$ ]] || fail "$flag $value: must be a number such as 2 or 0.5" ;;
    "auto|int")
      [[ "$value" =~ ^(auto|[0-9]{1,9})$ ]] || fail "$flag $value: must be auto or a whole number of at most nine digits" ;;
    int*) # no more digits than the shell and the programs can count
      [[ "$value" =~ ^[0-9]{1,9}$ ]] || fail "$flag $value: must be a whole number of at most nine digits"
      least="${type#int>=}"
      [ "$type" = int ] || [ "$((10#$value))" -ge "$least" ] || fail "$flag $value: must be at least $least ($help)" ;;
    *) case "|$type|" in *"|$value|"*) ;; *) fail "$flag $value: must be one of ${type//|/, }" ;; esac ;;
  esac
}

# peek NAME DEFAULT ARGS...: the value of one flag before all of them are known (which recipe, which lane).
peek() {
  local flag="--${1//_/-}" value="$2"
  shift 2
  while [ $# -gt 0 ]; do
    case "$1" in
      "$flag") value="${2:-}" ;;
      "$flag="*) value="${1#*=}" ;;
    esac
    shift
  done
  echo "$value"
}

# A relative path is meant from where the command was typed, which need not be the folder that the scripts work in.
set_option() {
  local name="$1" value="$2" type
  eval "type=\$type_$name"
  case "$type:$value" in
    path: | path:/* | program:/*) ;;
    path:* | program:*/*) value="${called_from:+$called_from/}$value" ;;
  esac
  eval "$name=\$value"
}

parse_options() {
  local word name value type
  while [ $# -gt 0 ]; do
    word="$1"
    shift
    case "$word" in
      --help | -h) show_help; exit 0 ;;
      --list-stages) list_stages=true; continue ;;
      --?*) ;;
      *) fail "$word: not an option (see --help)" ;;
    esac
    name="${word#--}"
    name="${name%%=*}"
    name="${name//-/_}"
    case "$name" in "" | *[!a-z0-9_]*) fail "${word%%=*}: unknown option (see --help)" ;; esac
    case " $option_names " in *" $name "*) ;; *) fail "${word%%=*}: unknown option (see --help)" ;; esac
    case "$word" in
      *=*) value="${word#*=}" ;;
      *)
        # A value may not look like a flag: `--corpus-dir --nj 4` is a value forgotten, not a folder named --nj.
        eval "type=\$type_$name"
        case "$type:${1---}" in
          bool:--*) value=true ;;
          *:--*) fail "$word: needs a value" ;;
          *) value="$1"; shift ;;
        esac ;;
    esac
    check_value "$name" "$value"
    set_option "$name" "$value"
    options_given="$options_given $name"
  done
}

show_help() {
  echo "$CALLED_AS: $about"
  echo "$option_help"
  printf '  %-20s %s\n' "--list-stages" "print the stages and stop" "--help" "print this and stop"
}

# choose_conf: make of --conf a folder of settings, and read its budget.
choose_conf() {
  local known="egs/$recipe/conf"
  [ "$conf" != auto ] || { [ "$corpus" = mini ] && conf=mini || conf=paper; }
  [ -d "$conf" ] || conf="$known/$conf"
  [ -f "$conf/budget.sh" ] || fail "--conf $conf: no folder with a budget.sh; there is: $(cd "$known" && echo *)"
  . "$conf/budget.sh"
}
