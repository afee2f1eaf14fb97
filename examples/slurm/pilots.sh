#!/bin/bash
# Pilots of a project on the cluster's common disk: each task of the array is one worker, which joins the project,
# plays what its host gives it, and leaves when the job is cancelled or its time is over. In the project folder:
#
#     mkdir -m 755 workers
#     sbatch --array=1-32 pilots.sh
#     pipeline watch
#
#SBATCH --job-name=pilots
#SBATCH --cpus-per-task=1
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@60
#SBATCH --output=pilots-%A_%a.log
#SBATCH --no-requeue
set -eu
cd "$SLURM_SUBMIT_DIR"
# exec: the signal at the end must reach the agent, which gives its game back then.
exec "${INBOX_AGENT:-inbox-agent}" --join workers --name "slurm-$SLURM_ARRAY_JOB_ID-$SLURM_ARRAY_TASK_ID"
