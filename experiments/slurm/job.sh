# shellcheck shell=bash
# What the jobs of this folder have in common; they source it.

# The exit status of a program that was told to stop, has saved, and goes on when it is started again
# (callbacks/preemption.py).
readonly STOPPED=75

# Nothing is downloaded by a hundred processes at once: put weights into the cache beforehand, with
# `hf download` on a node that has a network.
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_DATASETS_OFFLINE=1
export TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1

# setup: the environment of Python, below the folder that sbatch was called in.
setup() {
  # shellcheck source=/dev/null
  source "${VENV:-.venv}/bin/activate"
  # srun does not take --cpus-per-task over from sbatch since SLURM 22.05.
  export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"
}

# of_task ARGUMENT...: sets `arguments`, with the number of the array's task for each %a.
of_task() {
  # shellcheck disable=SC2034 # read by the job
  arguments=("${@//%a/${SLURM_ARRAY_TASK_ID:-0}}")
}

# stage_to_nodes FOLDER...: copy folders of a shared file system to each node's own disk, once; what
# is there stays for the next start. A copy cut off by a kill is made again.
stage_to_nodes() {
  local cache="${NODE_CACHE:?set NODE_CACHE to a folder on a disk of the node, such as /tmp/$USER}"
  # shellcheck disable=SC2016 # expanded by the inner shell
  srun --ntasks-per-node=1 --ntasks="$SLURM_NNODES" bash -c '
    set -euo pipefail
    cache="$1"
    shift
    mkdir -p "$cache"
    exec 9>"$cache/.lock"
    flock 9 # another job on this node may be at it
    for folder in "$@"; do
      copy="$cache/$(basename "$folder")"
      [ -e "$copy" ] && continue
      rm -rf "$copy.partial"
      cp -rL "$folder" "$copy.partial"
      mv -T "$copy.partial" "$copy"
    done' stage "$cache" "$@"
}

# run_or_requeue SIGNAL COMMAND...: run the command to its end. SIGUSR1, which `#SBATCH
# --signal=B:USR1@SECONDS` sends to this shell before the time is up, is passed on as SIGNAL. A
# command that was stopped puts the job back into the queue; any other failure ends the job, because
# it would only come again. Where nothing was to be saved, as before the first step, it has died by
# the signal; but so have ranks that srun ended because another one had failed.
run_or_requeue() {
  local signal="$1"
  shift
  "$@" &
  local command=$! status=0 told=0
  trap 'told=1; kill "-$signal" "$command"' USR1
  # A trap interrupts `wait`, which then says nothing about the command.
  while kill -0 "$command" 2>/dev/null; do
    status=0
    wait "$command" || status=$?
  done
  trap '' USR1
  local state
  state=$(squeue --noheader --format=%T --jobs="$SLURM_JOB_ID")
  if ((told && (status == 128 + $(kill -l USR1) || status == 128 + $(kill -l TERM)))); then
    status=$STOPPED
  fi
  # One that scancel ended comes here too, and is not to come back.
  if [[ $status == "$STOPPED" && $state == RUNNING ]]; then
    echo "status $status: back into the queue, after ${SLURM_RESTART_COUNT:-0} restarts"
    scontrol requeue "$SLURM_JOB_ID"
    sleep infinity # until SLURM ends this script: its own end would be the job's
  fi
  exit "$status"
}
