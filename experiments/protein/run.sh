#!/usr/bin/env bash
# The runs of this folder, in its README's order: bash experiments/protein/run.sh [NAME ...] (default: all of them).
# What was trained before is left as it is, and what was interrupted goes on. Run it from the root of the checkout, with
# ZOO_MIRROR where public data is wanted from a copy. RUNS says where the run folders are kept (default: runs).
set -euo pipefail
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
RUNS=${RUNS:-runs}
SEEDS=${SEEDS:-1}
quiet=(--trainer.enable_progress_bar false)

train() { # run, what zoo fit is given: begins it, or goes on with it
  local run=$1
  shift
  if [ -f "$run/checkpoints/last.ckpt" ]; then
    python -m zoo fit --run "$run" --resume last "${quiet[@]}"
  else
    python -m zoo fit --run "$run" "$@" "${quiet[@]}"
  fi
}

tested() { # run, name of the result, test sets
  local run=$1 name=$2
  shift 2
  for set in "$@"; do python -m zoo test "$run" --data.test_set "$set" "${quiet[@]}"; done
  [ $# -gt 0 ] || python -m zoo test "$run" "${quiet[@]}"
  python experiments/collect.py "$run" protein "$name"
}

planted() { # one minute of training, and the larger family in ten minutes at most
  for seed in $SEEDS; do
    local own=(--seed_everything "$seed" --data.seed "$seed")
    local large=(--data.length 64 --data.strength 4 --model.stack.position.length 66)
    train "$RUNS/planted-$seed" --config configs/protein/planted.yaml "${own[@]}"
    tested "$RUNS/planted-$seed" "planted 32, seed $seed"
    train "$RUNS/planted-large-$seed" --config configs/protein/planted.yaml "${own[@]}" "${large[@]}" \
      --trainer.max_steps 6000
    tested "$RUNS/planted-large-$seed" "planted 64, seed $seed"
  done
}

if [ $# -eq 0 ]; then set -- planted; fi
for name in "$@"; do "$name"; done
python experiments/tables.py
