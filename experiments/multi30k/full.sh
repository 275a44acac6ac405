#!/usr/bin/env bash
# The full recipe on one CUDA device: en-de with three seeds, de-en and en-fr, side by side; then every test set.
# What was trained before is left as it is, and what was interrupted goes on. Run it from the root of the checkout.
set -euo pipefail
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}

train() { # name, source, target, seed
  local run=runs/multi30k-full-$1
  if [ -f "$run/checkpoints/last.ckpt" ]; then
    zoo fit --run "$run" --resume last --trainer.enable_progress_bar false
  else
    zoo fit --config configs/text/multi30k_full.yaml --run "$run" --data.source "$2" --data.target "$3" \
      --seed_everything "$4" --data.seed "$4" --trainer.enable_progress_bar false
  fi
  for name in test_2016_flickr test_2017_flickr test_2017_mscoco; do
    zoo test "$run" --data.test_set "$name" --trainer.enable_progress_bar false
  done
  python experiments/collect.py "$run" multi30k "$2-$3, full, seed $4"
}

zoo data fetch multi30k
runs=()
train en-de-1 en de 1 & runs+=($!)
train en-de-2 en de 2 & runs+=($!)
train en-de-3 en de 3 & runs+=($!)
train de-en-1 de en 1 & runs+=($!)
train en-fr-1 en fr 1 & runs+=($!)
for run in "${runs[@]}"; do wait "$run"; done # each by its number: a bare wait forgets who failed
python experiments/tables.py
