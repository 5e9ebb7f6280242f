# SITA: speaker-invariant, tone-aware embeddings of isolated words (stage 1), then CTC on top of them (stage 2).

recipe_options() {
  scripts=() # no byte-level BPE: words are spelled in letters and a tone
  without mini_hours source_hours mic duration_tolerance duration_factor failed_spelling cv_split tailo_form \
    unknown_characters vocab_size speed_perturb noise_dir fbank fbank_shares shar_dir parts
  section "Words (stages 0 to 4)"
  option word_language taiwanese "taiwanese|mandarin" "mini: the language that is generated"
  option word_bases 16 "int>=2" "mini: bases, each in all its tones"
  option word_speakers 24 "int>=2" "mini: speakers in training, an even number"
  option word_unseen 8 "int>=2" "mini: speakers in test alone, an even number"
  option word_takes 2 "int>=1" "mini: recordings of each word by each speaker in training"
  section "Encoder (stage 5)"
  option encoder auto text "pretrain: here, on the training words; a model's name, folder or file; random:SIZE"
  option conf auto text "settings of stages 5 to 8: a folder, or the name of one in egs/sita/conf"
  section "Training (stages 6 to 8)"
  option scheme staged "staged|stage1|single" "stage 1, then stage 2; stage 1 alone; or the losses of both at once"
  option frozen auto "auto|int" "blocks from below that never learn, from 0 on; auto: as in --conf"
  option feature_layer 0 int "block that gives the embeddings; 0: as in --conf"
  option teacher train text "train: one is trained here; or the folder of one that was trained before"
  option teacher_epochs 0 int "epochs of the teacher that is trained here; 0: as in --conf"
  option stage1_epochs 0 int "epochs of stage 1; 0: as in --conf"
  option stage2_epochs 0 int "epochs of stage 2; 0: as in --conf"
  option speaker_scale 0.25 number "weight of the cross-gender loss"
  option tone_scale 1.0 number "weight of the tone-repulsive loss"
  option classifier_scale 0.5 number "weight of the tone classifier"
  option tone_loss infonce "infonce|margin" "kind of the tone-repulsive loss"
  option distil_scale 1.0 number "weight of the distance from the teacher; 0: CTC alone"
  option init_from "" path "stage 1 begins with what this training of other words made, and not with --encoder"
  option train_seed 42 int "of weights, batches and augmentation"
  option device auto text "cpu, cuda, or auto: cuda where there is one"
  option threads 0 int "threads of a training on a CPU; 0: one for a small model, else one for each core"
  section "Scoring (stage 9)"
  option avg 0 int "average over so many epochs, or all that a training has; 0: as in --conf"
  table_options
}

# What a cluster has to know of a stage (local/cluster/submit.sh): there is no 2 and 3 to wait for.
recipe_needs() {
  case "$1" in
    4) after=1 ;;
    5)
      after=""
      [ "$encoder" != pretrain ] || machine=gpu after=4 ;;
    6) machine=gpu after="4 5" ;;
    7) machine=gpu after="4 5 6" ;; # it needs no teacher, but one stage at a time works in the experiment's folder
    8) machine=gpu after="4 5 6 7" ;;
    9) machine=gpu after="4 5 6 7 8" ;;
  esac
}

# Values that depend on others, once all are known.
recipe_settings() {
  choose_conf
  local name
  [ "$frozen" != auto ] || frozen="$conf_frozen"
  for name in feature_layer teacher_epochs stage1_epochs stage2_epochs avg; do
    [ "${!name}" -gt 0 ] || eval "$name=\$conf_$name"
  done
  [ "$frozen" -lt "$feature_layer" ] ||
    fail "--frozen $frozen, --feature-layer $feature_layer: no block would learn in stage 1; the second must be above the first"
  [ "$encoder" != auto ] || encoder="$conf_encoder"
  [ "$encoder" != pretrain ] || [ -f "$conf/encoder.yaml" ] ||
    fail "--encoder pretrain: $conf has no encoder.yaml that says how; take --conf mini, or name a model"
  if [ "$teacher" != train ] && [ "$list_stages" = false ]; then
    teacher_epochs=$(last_epoch "$teacher")
    [ -n "$teacher_epochs" ] || fail "--teacher $teacher: no epoch-*.pt there; name the folder of a training, or train"
  fi
  init_epochs=0
  if [ -n "$init_from" ] && [ "$list_stages" = false ]; then
    init_epochs=$(last_epoch "$init_from")
    [ -n "$init_epochs" ] || fail "--init-from $init_from: no epoch-*.pt there; name the folder of a training"
  fi
  [ "$num_nodes" = 1 ] && [ "$gpus_per_node" -le 1 ] ||
    fail "--num-nodes $num_nodes, --gpus-per-node $gpus_per_node: a training of sita is one process, on one GPU at most"
  table_budget=("the teacher=$teacher_epochs" "stage 1=$stage1_epochs" "stage 2=$stage2_epochs")
  table_pretrained="on the training words without their labels"
  table_corpus="$corpus"
  words="$corpus" # which importer reads it, and what the files are called by
  case "$corpus" in
    mini)
      words=words table_corpus="mini-$word_language"
      [ $((word_speakers % 2)) = 0 ] && [ $((word_unseen % 2)) = 0 ] ||
        fail "--word-speakers $word_speakers, --word-unseen $word_unseen: even numbers, for as many women as men"
      [ -n "$data_dir" ] || data_dir="data/sita-mini-$word_language"
      [ -n "$exp_dir" ] || exp_dir="exp/sita-mini-$word_language"
      [ -n "$corpus_dir" ] ||
        corpus_dir="$data_dir/corpus-${word_bases}x$word_speakers+${word_unseen}x$word_takes-seed$seed" ;;
    words | tone_perfect)
      case " $options_given " in
        *" word_"*) fail "--corpus $corpus: --word-language and the like are of generated words; leave them out" ;;
      esac ;;
    *) fail "--corpus $corpus: sita learns from isolated words; take mini, words or tone_perfect" ;;
  esac
  table_files="$words"
}

# In place of prepare.sh's: words need no text of one form and no byte-level BPE, which are its stages 2 and 3.
data_stages() {
  local IFS=$'\n' # lists are lines, so that paths may hold spaces
  set -f
  local recordings supervisions cuts folder="$corpus_dir"
  [ "$corpus" != mini ] || folder="$corpus_dir/words/$word_language"
  recordings=$(for_each "$manifests/${words}_recordings_{}.jsonl.gz")
  supervisions=$(for_each "$manifests/${words}_supervisions_{}.jsonl.gz")
  cuts=$(for_each "$cuts_dir/${words}_cuts_{}.jsonl.gz")
  local importer=(python -m icefall_ext.bin.prepare_manifests --corpus "$words" --corpus-dir "$folder"
    --data-dir "$data_dir" --parts "${part_names[@]}" --language "$language" --dev-share "$dev_share"
    --test-share "$test_share" --strict "$strict" --nj "$nj")

  if [ "$corpus" = mini ]; then
    if stage 0 "generate isolated words" --writes "$folder" \
      --options word_language word_bases word_speakers word_unseen word_takes seed; then
      run python -m icefall_ext.bin.make_mini_words --corpus-dir "$corpus_dir" --languages "$word_language" \
        --bases "$word_bases" --speakers "$word_speakers" --unseen "$word_unseen" --takes "$word_takes" \
        --seed "$seed" --nj "$nj"
    fi
  elif stage 0 "check the layout of the corpus" --reads "$corpus_dir" --options corpus language; then
    run "${importer[@]}" --check-only true
  fi

  if stage 1 "manifests and audit" --reads "$folder" --options corpus language dev_share test_share strict \
    --writes $recordings $supervisions $(for_each "$audit_dir/${words}_manifests_{}.tsv"); then
    run "${importer[@]}"
  fi

  if stage 4 "cuts and statistics" --reads $recordings $supervisions --writes $cuts "$data_dir/statistics.tsv"; then
    run python -m icefall_ext.bin.prepare_cuts --corpus "$words" --data-dir "$data_dir" --parts "${part_names[@]}" \
      --nj "$nj" --as-imported true
  fi
  set +f
}

recipe_stages() {
  local IFS=$'\n' pretrained="" source="$encoder" name earlier="" models=() trained=() epochs=() place
  set -f
  local train_cuts="$cuts_dir/${words}_cuts_train.jsonl.gz" dev_cuts="$cuts_dir/${words}_cuts_dev.jsonl.gz"
  local test_cuts="$cuts_dir/${words}_cuts_test.jsonl.gz"
  local stage1="$exp_dir/stage1" teacher_folder="$teacher"
  [ "$teacher" != train ] || teacher_folder="$exp_dir/teacher"
  [ -z "$init_from" ] || earlier="$init_from/epoch-$init_epochs.pt"

  [ ! -e "$encoder" ] || pretrained="$encoder"
  if [ "$encoder" = pretrain ]; then
    source="$exp_dir/encoder" pretrained="$exp_dir/encoder/model.safetensors"
    if stage 5 "pre-train the encoder on the training words" --reads "$train_cuts" --options conf train_seed \
      --writes "$exp_dir/encoder"; then
      run python -m icefall_ext.bin.pretrain_encoder --config "$conf/encoder.yaml" --cuts "$train_cuts" \
        --exp-dir "$exp_dir/encoder-training" --out-dir "$exp_dir/encoder" --train.seed "$train_seed" \
        --device "$device" --threads "$threads"
    fi
  elif stage 5 "check the encoder" --options encoder; then
    run python -m icefall_ext.bin.check_encoder --encoder.source "$encoder"
  fi

  local shared=(--train-cuts "$train_cuts" --valid-cuts "$dev_cuts" --encoder.source "$source" --layers.frozen "$frozen"
    --layers.feature-layer "$feature_layer" --train.seed "$train_seed" --device "$device" --threads "$threads")
  local training=(python -m icefall_ext.bin.train_tone)
  local choices=(encoder conf frozen feature_layer train_seed)
  local of_stage1=(speaker_scale tone_scale classifier_scale tone_loss init_from)
  local losses=(--loss.speaker-scale "$speaker_scale" --loss.tone-scale "$tone_scale"
    --loss.classifier-scale "$classifier_scale" --loss.kind "$tone_loss")
  if [ -n "$init_from" ]; then
    of_stage1+=(avg)
    losses+=(--init-from "$init_from" --init-epoch "$init_epochs" --init-avg "$(least "$avg" "$init_epochs")")
  fi
  local taught=(--teacher "$teacher_folder" --teacher-epoch "$teacher_epochs"
    --teacher-avg "$(least "$avg" "$teacher_epochs")" --distil.scale "$distil_scale")

  if [ "$scheme" != stage1 ]; then
    models+=(teacher) epochs+=("$teacher_epochs")
    trained+=("$teacher_folder/epoch-$teacher_epochs.pt")
    if [ "$teacher" != train ]; then
      if stage 6 "teacher: the one that was given" --reads "${trained[0]}" --options teacher; then :; fi
    elif stage 6 "teacher: CTC through the whole encoder" --reads "$train_cuts" "$dev_cuts" $pretrained \
      --options "${choices[@]}" teacher_epochs --writes "${trained[0]}" "$teacher_folder/config.yaml"; then
      run "${training[@]}" --config "$conf/stage1.yaml" --part stage1 --exp-dir "$stage1" --check-only true \
        --train.epochs "$stage1_epochs" "${losses[@]}" "${shared[@]}"
      run "${training[@]}" --config "$conf/teacher.yaml" --part teacher --exp-dir "$teacher_folder" \
        --train.epochs "$teacher_epochs" "${shared[@]}"
    fi
  elif stage 6 "teacher: left out" --options scheme; then
    :
  fi

  if [ "$scheme" != single ]; then
    models+=(stage1) epochs+=("$stage1_epochs")
    trained+=("$stage1/epoch-$stage1_epochs.pt")
    if stage 7 "stage 1: speaker-invariant, tone-aware middle blocks" --reads "$train_cuts" "$dev_cuts" $pretrained \
      $earlier --options "${choices[@]}" stage1_epochs "${of_stage1[@]}" \
      --writes "$stage1/epoch-$stage1_epochs.pt" "$stage1/config.yaml"; then
      run "${training[@]}" --config "$conf/stage1.yaml" --part stage1 --exp-dir "$stage1" \
        --train.epochs "$stage1_epochs" "${losses[@]}" "${shared[@]}"
    fi
  elif stage 7 "stage 1: left out" --options scheme; then
    :
  fi

  local last="$exp_dir/stage2/epoch-$stage2_epochs.pt" both=$((stage1_epochs + stage2_epochs))
  case "$scheme" in
    staged)
      if stage 8 "stage 2: CTC and the teacher on the upper blocks" --reads "$train_cuts" "$dev_cuts" \
        "${trained[@]}" --options "${choices[@]}" stage2_epochs distil_scale avg \
        --writes "$last" "$exp_dir/stage2/config.yaml"; then
        run "${training[@]}" --config "$conf/stage2.yaml" --part stage2 --exp-dir "$exp_dir/stage2" \
          --init-from "$stage1" --init-epoch "$stage1_epochs" --init-avg "$(least "$avg" "$stage1_epochs")" \
          --train.epochs "$stage2_epochs" "${taught[@]}" "${shared[@]}"
      fi
      models+=(stage2) epochs+=("$stage2_epochs") trained+=("$last") ;;
    single)
      last="$exp_dir/single/epoch-$both.pt"
      if stage 8 "both stages' losses at once, in as many steps" --reads "$train_cuts" "$dev_cuts" $pretrained \
        $earlier "${trained[@]}" --options "${choices[@]}" stage1_epochs stage2_epochs "${of_stage1[@]}" \
        distil_scale avg --writes "$last" "$exp_dir/single/config.yaml"; then
        # Of stage 2 what stage 1 has not, and where both have something that of stage 1, whose batches these are.
        run "${training[@]}" --config "$conf/stage2.yaml" --config "$conf/stage1.yaml" --part single \
          --exp-dir "$exp_dir/single" --stage-epochs "$stage1_epochs" "$stage2_epochs" "${losses[@]}" "${taught[@]}" \
          "${shared[@]}"
      fi
      models+=(single) epochs+=("$both") trained+=("$last") ;;
    stage1)
      if stage 8 "stage 2: left out" --options scheme; then :; fi ;;
  esac

  if stage 9 "score and report" --reads "$test_cuts" "$train_cuts" $pretrained "${trained[@]}" \
    --options avg feature_layer encoder scheme \
    --writes $(for_each "$exp_dir/{}/scores/words.json" before "${models[@]}") "$exp_dir/report/index.html"; then
    local scoring=(python -m icefall_ext.bin.score_words --test-cuts "$test_cuts" --train-cuts "$train_cuts"
      --device "$device" --threads "$threads")
    say "before"
    run "${scoring[@]}" --encoder.source "$source" --feature-layer "$feature_layer" --out-dir "$exp_dir/before/scores"
    for place in "${!models[@]}"; do
      name="${models[$place]}"
      say "$name"
      run "${scoring[@]}" --exp-dir "${trained[$place]%/*}" --epoch "${epochs[$place]}" \
        --avg "$(least "$avg" "${epochs[$place]}")" --out-dir "$exp_dir/$name/scores"
    done
    run python -m icefall_ext.bin.report --exp-dir "$exp_dir"
  fi
  set +f
}
