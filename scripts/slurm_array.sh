#!/usr/bin/env bash
#SBATCH --job-name=assay
#SBATCH --cpus-per-task=4
#SBATCH --gres=gpu:1
#SBATCH --time=12:00:00
# Stages that do not need each other, one per task of a Slurm array; docs/scale.md says what must be pushed before.
#
#   stages=$(dvc stage list --name-only train_expert)
#   sbatch --array=0-$(($(wc -w <<< "$stages") - 1)) --export=ALL,ASSAY_COMMIT=$(git rev-parse HEAD) scripts/slurm_array.sh $stages
#
# The commit must hold the files of code/ that belong to its source (dvc repro code, git add code): a stage refuses others.
# Each task works in a clone of its own, never in a workspace that others share. What it makes goes to the DVC remote;
# when all are done, `dvc repro --pull` in your workspace takes it from there.
set -euo pipefail

stages=("$@")
stage=${stages[${SLURM_ARRAY_TASK_ID:?run it by sbatch --array}]:?no stage of this number: --array must count from 0 to the number of stages less 1}
home=${SLURM_SUBMIT_DIR:?}
folder=$(mktemp --directory "${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/assay-XXXXXX")
trap 'rm -rf "$folder"' EXIT

git clone --quiet --no-checkout "${ASSAY_REPOSITORY:-$home}" "$folder/clone"
cd "$folder/clone"
git checkout --quiet --detach "${ASSAY_COMMIT:?the commit to run: --export=ALL,ASSAY_COMMIT=\$(git rev-parse HEAD)}"
# Closed to other users, and of this machine, whatever config.local says.
export DVC_SITE_CACHE_DIR="$folder/site"
if [ -f "$home/.dvc/config.local" ]; then cp "$home/.dvc/config.local" .dvc/config.local; fi
# The clone's code, whatever version of it is installed.
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}"

python -m dvc repro --single-item --pull "$stage"
python -m dvc push --run-cache "$stage"
