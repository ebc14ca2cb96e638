#!/usr/bin/env bash
# Runs an experiment on the nodes of a SLURM job, one process per GPU. It goes on
# in the next job if its time ends or it is preempted.
#
#   sbatch --nodes=4 launch/slurm.sh --config=configs/multi_task.py:sets \
#     --workdir=/shared/runs/sets --config.zoo.cache=/shared/zoos
#
#SBATCH --job-name=scalegmn
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gres=gpu:8
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@180
# --gres, not --gpus-per-task: a process that sees one GPU alone cannot exchange
# data with the others of its node. JAX takes the GPU of its SLURM_LOCALID.
set -u

srun --kill-on-bad-exit=1 "${PYTHON:-python}" -m experiments.run \
  --distributed=on "$@"
status=$?
if [ "$status" -eq 75 ]; then # stopped by a signal, nothing is lost
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
