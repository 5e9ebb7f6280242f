# `./run.sh --table NAME`: the rows of a table of egs/<recipe>/tables.yaml as runs of this script (docs/tables.md).

# table_options: what a recipe with tables declares besides its own options.
table_options() {
  section "Tables (instead of stages 5 to 9, once for each row and seed)"
  option table none "none|$(table_names)" "of egs/$chosen/tables.yaml"
  option seeds 3 "int>=1" "runs of each row"
  option jobs 0 int "runs side by side; 0: as many as GPUs, or else cores, allow"
  option results "egs/$chosen/RESULTS.md" path "file that gets the table as a section"
}

# The keys below tables:, without a Python that reads yaml.
table_names() {
  sed -n '/^tables:/,$s/^  "\{0,1\}\([a-z0-9]*\)"\{0,1\}:$/\1/p' "egs/$chosen/tables.yaml" | tr '\n' '|' | sed 's/|$//'
}

# The rows are runs from stage 5 on, with the options that were given here and the row's own. A recipe says in
# recipe_settings what else the table has to know: table_budget (NAME=EPOCHS...), table_pretrained, and where its corpus
# goes by other names table_corpus and table_files.
run_table() {
  local IFS=' ' name given=()
  for name in $options_given; do given+=("--${name//_/-}" "${!name}"); done
  run python -m icefall_ext.bin.run_table --table "$table" --definitions "egs/$recipe/tables.yaml" \
    --data-dir "$data_dir" --corpus "${table_corpus:-$corpus}" --files "${table_files:-$corpus}" --encoder "$encoder" \
    --exp-dir "$exp_dir" --results "$results" --conf "$conf" --epochs "${table_budget[@]}" \
    --pretrained "$table_pretrained" --seeds "$seeds" --processes "${processes:-1}" --jobs "$jobs" --device "$device" \
    "$@" -- ./run.sh "${given[@]}"
}
