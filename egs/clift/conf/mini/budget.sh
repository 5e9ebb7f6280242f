# Two cores, ten minutes in all.
conf_phase1_epochs=4
conf_phase2_epochs=7
conf_phase1_avg=1 # it still learns fast, and a mean with what it was is worse
conf_avg=3
conf_aligner_epochs=2 # boundaries are then as they are after six
conf_source_hours=0.4
conf_processes=2
