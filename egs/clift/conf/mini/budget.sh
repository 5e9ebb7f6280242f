# Two cores, a quarter of an hour in all.
conf_phase1_epochs=6
conf_phase2_epochs=10
conf_avg=3
conf_source_hours=0.4
conf_processes=2
