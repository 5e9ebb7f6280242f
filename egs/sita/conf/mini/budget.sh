# Two cores, a quarter of an hour in all. The encoder has three blocks: one frozen, one that gives embeddings, one for CTC.
conf_encoder=pretrain
conf_frozen=1
conf_feature_layer=2
conf_teacher_epochs=6
conf_stage1_epochs=6
conf_stage2_epochs=6
conf_avg=2
