# The paper's numbers of epochs. Not in the paper: how many epochs are averaged.
conf_phase1_epochs=20
conf_phase2_epochs=40
conf_avg=5
conf_aligner_epochs=5
conf_source_hours=0.0
conf_processes=1
