# Two cores, a quarter of an hour in all. The encoder has four blocks: two learn embeddings, two are left for CTC.
conf_encoder=pretrain
conf_frozen=0
conf_feature_layer=2
conf_teacher_epochs=8
conf_stage1_epochs=10
conf_stage2_epochs=10
conf_avg=2
