# CLiFT-ASR: a HuBERT encoder and a pruned transducer, fine-tuned on Tai-lo first, then on Han-Lo text.

recipe_options() {
  scripts=(tailo hanlo) # one byte-level BPE model each: phase 1 and phase 2
  section "Encoder (stage 5)"
  option encoder auto text \
    "tonal or nontonal: pre-trained here on mini's source languages; a model's name, folder or file; random:SIZE"
  option conf auto text "settings of stages 5 to 7: a folder, or the name of one in egs/clift/conf"
  section "Training (stages 6 and 7)"
  option phases two "two|direct" "Tai-lo first, then Han-Lo; or Han-Lo alone"
  option phase1_epochs 0 int "epochs on Tai-lo; 0: as in --conf"
  option phase2_epochs 0 int "epochs on Han-Lo; 0: as in --conf"
  option freeze_phase1 none text "what of the encoder does not learn in phase 1: none, front_end, layers:N, all"
  option sandhi citation "citation|surface" "tones of the Tai-lo text: as written, or as spoken"
  option predictor stateless "stateless|lstm" "prediction network"
  option context_size 2 "int>=1" "tokens that the stateless predictor sees"
  option rnnt_backend auto "auto|torch|triton|k2" "of the pruned loss; auto takes k2 where it imports"
  option processes 0 int "processes that train together, one for each GPU or core; 0: as in --conf, on a cluster one a GPU"
  option train_seed 42 int "of weights, batches, masks and dropout"
  option device auto text "cpu, cuda, or auto: cuda where there is one"
  option threads 0 int "threads of a training on a CPU; 0: one for a small model, else one for each core"
  section "Tone losses on syllables (stages 6 and 7)"
  option tone_loss_scale 0 number "weight of the loss that holds tones apart, in both phases; 0: without"
  option speaker_loss_scale 0 number "weight of the loss that brings women and men together; 0: without"
  option tone_loss_tones auto "auto|citation|surface" "tone of a syllable; auto: --sandhi in phase 1, citation in phase 2"
  option aligner here text \
    "what finds the syllables: a folder of a training on Tai-lo, or a file of alignments; here: a short training for it"
  option aligner_epochs 0 int "of that training; 0: as in --conf"
  section "Decoding (stage 8)"
  option methods greedy_search,modified_beam_search,fast_beam_search text "searches, separated by commas"
  option epoch 0 int "which checkpoint; 0: the last epoch"
  option avg 0 int "average over so many epochs, or all that a phase has; 0: as in --conf"
  option search_backend auto "auto|torch|k2" "of the fast beam search; auto takes k2 where it imports"
  table_options
}

# What a cluster has to know of a stage (local/cluster/submit.sh).
recipe_needs() {
  local IFS=,
  case "$1" in
    5)
      after=""
      case "$encoder" in tonal | nontonal) machine=gpu after=0 ;; esac ;; # it learns from audio without text
    6)
      after="4 5"
      { [ "$phases" = direct ] && ! tone_losses; } || machine=training ;;
    7) machine=training ;;
    8) # a task for each reading of a test set
      machine=gpu
      set -- $methods
      tasks=$(($# * ${#tested[@]})) ;;
  esac
}

tone_losses() { case "$tone_loss_scale$speaker_loss_scale" in *[1-9]*) ;; *) return 1 ;; esac; }

# Values that depend on others, once all are known.
recipe_settings() {
  [ "$encoder" != auto ] || { [ "$corpus" = mini ] && encoder=tonal || encoder=chinese-hubert-base; }
  choose_conf
  [ "$phase1_epochs" -gt 0 ] || phase1_epochs="$conf_phase1_epochs"
  [ "$phase2_epochs" -gt 0 ] || phase2_epochs="$conf_phase2_epochs"
  [ "$aligner_epochs" -gt 0 ] || aligner_epochs="${conf_aligner_epochs:-$conf_phase1_epochs}"
  ! tone_losses || [ "$phases$freeze_phase1" != twoall ] ||
    fail "--freeze-phase1 all: the tone losses teach the encoder, which does not learn then; leave one of them out"
  ! tone_losses || [ "$aligner" = here ] || [ -e "$aligner" ] || fail "--aligner $aligner: no such folder or file"
  [ "$processes" -gt 0 ] || processes=$((num_nodes * (gpus_per_node > 0 ? gpus_per_node : conf_processes)))
  [ $((processes % num_nodes)) = 0 ] ||
    fail "--processes $processes: cannot be shared evenly by --num-nodes $num_nodes"
  phase1_avg="$avg"
  [ "$avg" -gt 0 ] || avg="$conf_avg" phase1_avg="${conf_phase1_avg:-$conf_avg}"
  avg=$(least "$avg" "$phase2_epochs") phase1_avg=$(least "$phase1_avg" "$phase1_epochs")
  case "$encoder" in
    tonal | nontonal)
      [ "$corpus" = mini ] || fail "--encoder $encoder: only --corpus mini has source languages; name a model or a file"
      [ "$source_hours" != 0.0 ] || source_hours="$conf_source_hours" ;;
  esac
  table_budget=("phase 1=$phase1_epochs" "Han-Lo=$phase2_epochs")
  table_pretrained="on $source_hours h of their language"
  tested=(phase1 phase2)
  [ "$phases" = two ] || tested=(phase2)
  case ",$methods," in
    *,greedy_search,* | *,modified_beam_search,* | *,fast_beam_search,*) ;;
    *) fail "--methods $methods: must be of greedy_search, modified_beam_search, fast_beam_search" ;;
  esac
}

# The syllables of the training cuts, once for both phases.
align_syllables() {
  local folder="$aligner"
  if [ "$aligner" = here ]; then
    folder="$exp_dir/aligner"
    run "${training[@]}" icefall_ext.bin.train --config "$conf/phase1.yaml" --exp-dir "$folder" --script tailo \
      --lang-dir "${lang}_tailo" --tones "$sandhi" --encoder.source "$source" --train.epochs "$aligner_epochs" \
      "${shared[@]}"
  fi
  [ -f "$aligner" ] || run python -m icefall_ext.bin.align --exp-dir "$folder" --cuts "$train_cuts" \
    --out "$alignments" --device "$device" --threads "$threads"
}

recipe_stages() {
  local IFS=$'\n' script phase pretrained="" source="$encoder" init="" scoring # lists are lines
  set -f
  local train_cuts="$cuts_dir/${corpus}_cuts_train.jsonl.gz" dev_cuts="$cuts_dir/${corpus}_cuts_dev.jsonl.gz"
  local test_cuts="$cuts_dir/${corpus}_cuts_test.jsonl.gz" lang="$data_dir/lang_bbpe_${vocab_size}"
  local shared=(--train-cuts "$train_cuts" --valid-cuts "$dev_cuts" --model.predictor "$predictor"
    --model.context-size "$context_size" --model.rnnt-backend "$rnnt_backend" --train.seed "$train_seed"
    --device "$device" --threads "$threads")
  [ "$predictor" = stateless ] || [ ! -f "$conf/$predictor.yaml" ] || shared+=(--config "$conf/$predictor.yaml")
  local training=(across_machines python -m icefall_ext.bin.launch $((processes / num_nodes)))
  local choices=(processes encoder predictor context_size train_seed conf tone_loss_scale speaker_loss_scale)
  local tone_options=() alignments="" given="" made="" # alignments that are there, or that stage 6 makes
  if tone_losses; then
    choices+=(tone_loss_tones aligner)
    alignments="$exp_dir/alignments.jsonl.gz"
    [ ! -f "$aligner" ] || alignments="$aligner"
    [ "$aligner" = here ] || given="$aligner"
    [ -f "$aligner" ] || made="$alignments"
    tone_options=(--alignments "$alignments" --tone-loss.tone-scale "$tone_loss_scale"
      --tone-loss.speaker-scale "$speaker_loss_scale" --tone-loss.tones "$tone_loss_tones")
  fi

  case "$encoder" in
    tonal | nontonal)
      source="$exp_dir/encoder" pretrained="$exp_dir/encoder/model.safetensors"
      if stage 5 "pre-train the encoder on the $encoder source language" --reads "$corpus_dir/source/$encoder" \
        --options encoder conf source_hours train_seed --writes "$exp_dir/encoder"; then
        run python -m icefall_ext.bin.prepare_audio_cuts --audio-dir "$corpus_dir/source/$encoder" \
          --cuts "$cuts_dir/source_${encoder}_cuts.jsonl.gz" --audit "$audit_dir/source_$encoder.tsv" --nj "$nj"
        run python -m icefall_ext.bin.pretrain_encoder --config "$conf/encoder.yaml" \
          --cuts "$cuts_dir/source_${encoder}_cuts.jsonl.gz" --exp-dir "$exp_dir/encoder-training" \
          --out-dir "$exp_dir/encoder" --train.seed "$train_seed" --device "$device" --threads "$threads"
      fi ;;
    *)
      [ ! -e "$encoder" ] || pretrained="$encoder"
      if stage 5 "check the encoder" --reads --options encoder; then
        run python -m icefall_ext.bin.check_encoder --encoder.source "$encoder"
      fi ;;
  esac

  if [ "$phases" = two ]; then
    init="$exp_dir/phase1"
    if stage 6 "phase 1: fine-tune on Tai-lo" --reads "$train_cuts" "$dev_cuts" "${lang}_tailo" $pretrained $given \
      --options "${choices[@]}" ${made:+aligner_epochs} phase1_epochs freeze_phase1 sandhi \
      --writes "$exp_dir/phase1/epoch-$phase1_epochs.pt" "$exp_dir/phase1/config.yaml" $made; then
      ! tone_losses || align_syllables
      run "${training[@]}" icefall_ext.bin.train --config "$conf/phase1.yaml" --exp-dir "$exp_dir/phase1" \
        --script tailo --lang-dir "${lang}_tailo" --tones "$sandhi" --encoder.source "$source" --encoder.freeze "$freeze_phase1" \
        --train.epochs "$phase1_epochs" "${shared[@]}" ${tone_options[@]+"${tone_options[@]}"}
    fi
  elif [ -n "$made" ]; then
    if stage 6 "align the syllables of the training cuts" --reads "$train_cuts" "$dev_cuts" "${lang}_tailo" \
      $pretrained $given --options "${choices[@]}" aligner_epochs sandhi --writes "$made"; then
      align_syllables
    fi
  elif stage 6 "phase 1: left out" --options phases; then
    :
  fi

  if stage 7 "phase 2: fine-tune on Han-Lo" --reads "$train_cuts" "$dev_cuts" "${lang}_hanlo" $pretrained \
    ${init:+"$init/epoch-$phase1_epochs.pt"} $alignments --options "${choices[@]}" phase2_epochs phases \
    --writes "$exp_dir/phase2/epoch-$phase2_epochs.pt" "$exp_dir/phase2/config.yaml"; then
    run "${training[@]}" icefall_ext.bin.train --config "$conf/phase2.yaml" --exp-dir "$exp_dir/phase2" --script hanlo \
      --lang-dir "${lang}_hanlo" --encoder.source "$source" --init-from "$init" --train.epochs "$phase2_epochs" \
      "${shared[@]}" ${tone_options[@]+"${tone_options[@]}"}
  fi

  local trained="$exp_dir/phase2/epoch-$phase2_epochs.pt${init:+$IFS$init/epoch-$phase1_epochs.pt}"
  if stage 8 "decode" --reads "$test_cuts" $trained --options methods epoch avg phase1_avg search_backend \
    --writes $(for_each "$exp_dir/{}/decoded-test.txt" "${tested[@]}"); then
    local again=false recogs_list averaged
    ! is_forced 8 || again=true
    for phase in "${tested[@]}"; do
      share ${methods//,/$IFS}
      [ ${#taken[@]} -gt 0 ] || continue
      recogs_list="$exp_dir/$phase/decoded-test.txt" averaged="$avg"
      [ "$phase" = phase2 ] || averaged="$phase1_avg"
      [ -z "$part" ] || recogs_list="" # that is for all methods
      run python -m icefall_ext.bin.decode --exp-dir "$exp_dir/$phase" --cuts "$test_cuts" --part test \
        --methods "${taken[@]}" --epoch "$epoch" --avg "$averaged" --search-backend "$search_backend" \
        --device "$device" --threads "$threads" --force "$again" --recogs-list "$recogs_list"
    done
  fi

  local train_text="$text_dir/${corpus}_supervisions_train.jsonl.gz"
  if stage 9 "score and report" --reads "$test_cuts" "$train_text" \
    $(for_each "$exp_dir/{}/decoded-test.txt" "${tested[@]}") --options sandhi \
    --writes "$exp_dir/report/index.html"; then
    for phase in "${tested[@]}"; do
      script=hanlo scoring=(--readings "$train_text")
      [ "$phase" = phase2 ] || script=tailo scoring=(--written-tones "$sandhi")
      run python -m icefall_ext.bin.score --script "$script" --manifest "$test_cuts" "${scoring[@]}" \
        --recogs $(cat "$exp_dir/$phase/decoded-test.txt") --name test
    done
    run python -m icefall_ext.bin.report --exp-dir "$exp_dir" --cuts "$test_cuts"
  fi
  set +f
}
