# What is particular to a cluster. Each job sources its own copy, made when it was submitted.

# job_environment: runs once at the start of a job, before ./run.sh, on the first machine of the job. What it exports
# reaches all processes of the job. Modules, proxies and variables of the network belong here:
#   module purge && module load cuda/12.4
#   export NCCL_SOCKET_IFNAME=ib0 HF_HOME=/scratch/models
job_environment() {
  :
}

# in_container COMMAND...: how a job starts each program, on each machine. The repository, the data, and the Python that
# the jobs were submitted with must have the same paths inside:
#   apptainer exec --nv --bind /corpora,/scratch /images/ubuntu-cuda.sif "$@"
in_container() {
  "$@"
}
