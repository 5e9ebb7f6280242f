#!/usr/bin/env bash
# The data stages, 0 to 4, the same for every recipe: from a corpus folder to cuts that a model can be trained on.
# run.sh goes through them too; called alone, this stops after them.

data_options() {
  section "Corpus (stages 0 and 1)"
  option corpus mini "mini|tat|hat|common_voice|table|words|tone_perfect" "what the data is; mini is generated"
  option corpus_dir "" path "where it is; for mini, where it is generated"
  option mini_hours 2.0 number "mini: hours of training speech to generate"
  option source_hours 0.0 number "mini: hours of each of two unlabelled source languages for pre-training"
  option seed 1 int "mini: same seed, same corpus"
  option mic auto text "tat, hat, mini: microphones to take, separated by commas; auto: the only one, or condenser"
  option duration_tolerance 0.1 number "seconds by which a stated and the real duration may differ unlisted"
  option duration_factor 2.0 number "tat, hat: reject audio so many times longer or shorter than its label says"
  option failed_spelling keep "keep|drop" "tat: sentences that failed the corpus's own spelling check"
  option cv_split official "official|validated|resplit" "common_voice: which rows make which part"
  option language nan text "table: language of the sentences"
  option dev_share 0.1 number "share of dev where a corpus comes without parts"
  option test_share 0.1 number "share of test where a corpus comes without parts"
  option parts train,dev,test text "parts of the corpus to prepare, separated by commas"
  option strict false bool "stop when anything in the data is rejected"
  section "Text (stages 2 and 3)"
  option tailo_form number "number|diacritic" "how tones are written for training: tsit8-e5 or tsi̍t-ê"
  option unknown_characters reject "reject|keep" "sentences with characters outside the alphabet"
  option vocab_size 500 "int>=261" "byte-level BPE tokens for each script (255 bytes, 3 special symbols, room to merge)"
  section "Cuts (stage 4)"
  option speed_perturb false bool "add copies of the training cuts at 0.9 and 1.1 of the speed"
  option noise_dir "" path "mix noise from the audio files in this folder into the training cuts"
  option fbank false bool "extract 80 log-mel features (kaldifeat where it is installed)"
  option fbank_shares 8 "int>=1" "parts they are extracted in, each kept when it is done; tasks of a job on a cluster"
  option shar_dir "" path "also export the cuts, as recorded, in lhotse's Shar format"
}

# What a cluster has to know of a stage (local/cluster/submit.sh).
data_needs() {
  [ "$1" != 4 ] || [ "$fbank" = false ] || tasks="$fbank_shares"
}

data_paths() {
  [ -n "$data_dir" ] || data_dir="data/$corpus"
  if [ "$corpus" = mini ] && [ -z "$corpus_dir" ]; then # other options, another folder: none is overwritten
    corpus_dir="$data_dir/corpus-${mini_hours}h-seed$seed"
    [ "$source_hours" = 0.0 ] || corpus_dir="$corpus_dir-source${source_hours}h"
  fi
  IFS=, read -r -a part_names <<<"$parts"
  manifests="$data_dir/manifests" text_dir="$data_dir/text" cuts_dir="$data_dir/wav" audit_dir="$data_dir/audit"
}

data_check() {
  local part
  case "$data_dir$corpus_dir$exp_dir$noise_dir$shar_dir" in
    *$'\n'*) fail "--corpus-dir, --data-dir, --exp-dir, --noise-dir, --shar-dir: a line break in a path; rename it" ;;
  esac
  for part in "${part_names[@]}"; do
    case "$part" in
      train | dev | test) ;;
      *) fail "--parts $parts: must be of train, dev, test, separated by commas" ;;
    esac
  done
  [[ ,$parts, == *,train,* ]] || [ "$stage" -gt 3 ] || [ "$stop_stage" -lt 3 ] ||
    fail "--parts $parts: stage 3 learns from train; add it, or leave that stage out (--stop-stage 2, then --stage 4)"
  [ -n "$corpus_dir" ] || fail "--corpus $corpus: needs --corpus-dir, the folder that holds it"
  [ "$corpus" = mini ] || [ -e "$corpus_dir" ] || fail "--corpus-dir $corpus_dir: no such folder"
  [ -z "$noise_dir" ] || [ -d "$noise_dir" ] || fail "--noise-dir $noise_dir: no such folder"
}

# for_each PATTERN [VALUE...]: the pattern with its last {} replaced by each value (by default the parts), a line each.
for_each() {
  local pattern="$1" value
  shift
  [ $# -gt 0 ] || set -- "${part_names[@]}"
  for value in "$@"; do echo "${pattern%\{\}*}$value${pattern##*\{\}}"; done
}

data_stages() {
  local IFS=$'\n' script # lists below are lines, so that paths may hold spaces
  set -f # and * and ?
  local recordings supervisions text train_text cuts lang
  recordings=$(for_each "$manifests/${corpus}_recordings_{}.jsonl.gz")
  supervisions=$(for_each "$manifests/${corpus}_supervisions_{}.jsonl.gz")
  text=$(for_each "$text_dir/${corpus}_supervisions_{}.jsonl.gz")
  cuts=$(for_each "$cuts_dir/${corpus}_cuts_{}.jsonl.gz")
  [ "$fbank" = false ] || cuts="$cuts$IFS$(for_each "$data_dir/fbank/${corpus}_cuts_{}.jsonl.gz")$IFS$data_dir/fbank"
  [ -z "$shar_dir" ] || cuts="$cuts$IFS$(for_each "$shar_dir/{}")"
  lang="$data_dir/lang_bbpe_${vocab_size}_{}"
  train_text=""
  [[ ,$parts, != *,train,* ]] || train_text=$(for_each "$text_dir/train.{}" "${scripts[@]}")
  local importer=(python -m icefall_ext.bin.prepare_manifests --corpus "$corpus" --corpus-dir "$corpus_dir"
    --data-dir "$data_dir" --parts "${part_names[@]}" --mic ${mic//,/$IFS} --failed-spelling "$failed_spelling"
    --duration-tolerance "$duration_tolerance" --duration-factor "$duration_factor" --language "$language"
    --cv-split "$cv_split" --dev-share "$dev_share" --test-share "$test_share" --strict "$strict" --nj "$nj")

  if [ "$corpus" = mini ]; then
    if stage 0 "generate the mini corpus" --writes "$corpus_dir" --options mini_hours source_hours seed; then
      run python -m icefall_ext.bin.make_mini_corpus --corpus-dir "$corpus_dir" --mini-hours "$mini_hours" \
        --source-hours "$source_hours" --seed "$seed" --nj "$nj"
    fi
  elif stage 0 "check the layout of the corpus" --reads "$corpus_dir" --options corpus mic cv_split; then
    run "${importer[@]}" --check-only true
  fi

  if stage 1 "manifests and audit" --reads "$corpus_dir" \
    --options corpus mic duration_tolerance duration_factor failed_spelling language cv_split dev_share test_share \
    strict \
    --writes $recordings $supervisions $(for_each "$audit_dir/${corpus}_manifests_{}.tsv"); then
    run "${importer[@]}"
  fi

  if stage 2 "text in one form per script" --reads $supervisions --options tailo_form unknown_characters strict \
    --writes $text $train_text $(for_each "$audit_dir/${corpus}_text_{}.tsv"); then
    run python -m icefall_ext.bin.prepare_text --corpus "$corpus" --data-dir "$data_dir" --tailo-form "$tailo_form" \
      --parts "${part_names[@]}" --scripts "${scripts[@]}" --unknown-characters "$unknown_characters" --strict "$strict"
  fi

  if stage 3 "byte-level BPE, one model per script" --reads $train_text \
    --options vocab_size --writes $(for_each "$lang" "${scripts[@]}"); then
    for script in "${scripts[@]}"; do
      run python -m icefall_ext.bin.train_bbpe --text "$text_dir/train.$script" --vocab-size "$vocab_size" \
        --lang-dir "$(for_each "$lang" "$script")"
    done
  fi

  if stage 4 "cuts and statistics" --reads $recordings $text ${noise_dir:+"$noise_dir"} \
    --options speed_perturb noise_dir fbank shar_dir --writes $cuts "$data_dir/statistics.tsv"; then
    local only=() again=false
    ! is_forced 4 || again=true
    if [ -n "$part" ]; then
      [ "$fbank" = true ] || fail "--part $part: of stage 4 only --fbank can be done in parts"
      share $(seq "$fbank_shares")
      [ "${#taken[@]}" -gt 0 ] || fail "--part $part: there are only $fbank_shares shares (--fbank-shares)"
      only=(--only-shares "${taken[@]}")
    fi
    run python -m icefall_ext.bin.prepare_cuts --corpus "$corpus" --data-dir "$data_dir" --parts "${part_names[@]}" \
      --nj "$nj" --speed-perturb "$speed_perturb" --noise-dir "$noise_dir" --fbank "$fbank" \
      --fbank-shares "$fbank_shares" --force "$again" --shar-dir "$shar_dir" ${only[@]+"${only[@]}"}
  fi
  set +f
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  set -euo pipefail
  about="the data stages of a recipe, from a corpus to cuts"
  . "$(dirname "${BASH_SOURCE[0]}")/local/main.sh" # shared with run.sh
  main 4 "$@"
fi
