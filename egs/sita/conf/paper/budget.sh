# XLS-R with 24 blocks. Blocks are the paper's (it also reports 21 for the feature layer), epochs are ours.
conf_encoder=facebook/wav2vec2-xls-r-300m
conf_frozen=12
conf_feature_layer=19
conf_teacher_epochs=30
conf_stage1_epochs=20
conf_stage2_epochs=30
conf_avg=4
