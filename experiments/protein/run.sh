#!/usr/bin/env bash
# The runs of this folder, in its README's order: bash experiments/protein/run.sh [NAME ...] (default: all of them).
# What was trained before is left as it is, and what was interrupted goes on. Run it from the root of the checkout, with
# ZOO_MIRROR where public data is wanted from a copy. SEEDS says which seeds (default: 1).
set -euo pipefail
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
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

planted() { # the built-in family; a test says what an untrained network finds too
  for seed in $SEEDS; do
    train "runs/planted-$seed" --config configs/protein/planted.yaml --seed_everything "$seed" --data.seed "$seed"
    tested "runs/planted-$seed" "planted, seed $seed"
  done
}

structure() { # three states from one sequence, from nothing
  for seed in $SEEDS; do
    train "runs/structure-$seed" --config configs/protein/structure.yaml --seed_everything "$seed" --data.seed "$seed"
    tested "runs/structure-$seed" "structure, from nothing, seed $seed" flip cb513 ts115
    train "runs/structure-alibi-$seed" --config configs/protein/structure.yaml --seed_everything "$seed" \
      --data.seed "$seed" --model.stack.position ALiBi
    tested "runs/structure-alibi-$seed" "structure, ALiBi, seed $seed" flip cb513 ts115
  done
}

fitness() { # a linear model, and networks from nothing
  python experiments/protein/ridge.py
  for seed in $SEEDS; do
    local own=(--config configs/protein/fitness.yaml --seed_everything "$seed" --data.seed "$seed")
    local gb1=("${own[@]}" --data GB1 --data.seed "$seed" --data.tokens_per_batch 8192
      --model.stack.position.length 267 --trainer.max_steps 400 --trainer.val_check_interval 200)
    for split in two_vs_rest three_vs_rest low_vs_high; do
      train "runs/gb1-$split-$seed" "${gb1[@]}" --data.split $split
      tested "runs/gb1-$split-$seed" "gb1 $split, from nothing, seed $seed"
    done
    train "runs/gb1-mean-$seed" "${gb1[@]}" --data.split three_vs_rest --model.pool Mean
    tested "runs/gb1-mean-$seed" "mean pool, gb1 three_vs_rest, seed $seed"
    train "runs/avgfp-$seed" "${own[@]}"
    tested "runs/avgfp-$seed" "avgfp, from nothing, seed $seed"
  done
}

natural() { # left to right: attention, an LSTM of equal parameters, two other sizes (of the first seed), n-grams
  for seed in $SEEDS; do
    local own=(--config configs/protein/natural.yaml --seed_everything "$seed")
    train "runs/natural-transformer-$seed" "${own[@]}"
    tested "runs/natural-transformer-$seed" "natural transformer, seed $seed"
    train "runs/natural-lstm-$seed" "${own[@]}" --model.stack.position NoPosition --model.stack.mixer LSTM \
      --model.stack.ffn.dim 192
    tested "runs/natural-lstm-$seed" "natural LSTM, seed $seed"
  done
  local seed=${SEEDS%% *}
  local own=(--config configs/protein/natural.yaml --seed_everything "$seed")
  train "runs/natural-small-$seed" "${own[@]}" --model.stack.dim 64 --model.stack.depth 2 --model.stack.ffn.dim 256
  tested "runs/natural-small-$seed" "natural small, seed $seed"
  train "runs/natural-large-$seed" "${own[@]}" --model.stack.dim 256 --model.stack.depth 4 --model.stack.heads 8 \
    --model.stack.ffn.dim 1024
  tested "runs/natural-large-$seed" "natural large, seed $seed"
  python experiments/protein/ngram.py runs/natural-*-[0-9]
}

masked() { # masked pretraining; what follows begins with its trunk
  for seed in $SEEDS; do
    train "runs/masked-$seed" --config configs/protein/natural_masked.yaml --seed_everything "$seed"
    tested "runs/masked-$seed" "natural masked, seed $seed"
    python experiments/protein/contacts.py "runs/masked-$seed"
    python experiments/protein/lactamase.py "runs/masked-$seed"
    train "runs/structure-tuned-$seed" --config configs/protein/structure.yaml --seed_everything "$seed" \
      --data.seed "$seed" --init-from "runs/masked-$seed/checkpoints/last.ckpt"
    tested "runs/structure-tuned-$seed" "structure, tuned, seed $seed" flip cb513 ts115
    train "runs/structure-probe-$seed" --config configs/protein/structure.yaml --seed_everything "$seed" \
      --data.seed "$seed" --init-from "runs/masked-$seed/checkpoints/last.ckpt" --model.frozen true \
      --model.optimizer AdamW --model.optimizer.lr 1e-3
    tested "runs/structure-probe-$seed" "structure, probe, seed $seed" flip cb513 ts115
  done
  tuned
}

tuned() { # fitness from the trunk of masked pretraining, which is trained first where it is not there
  for seed in $SEEDS; do
    train "runs/masked-$seed" --config configs/protein/natural_masked.yaml --seed_everything "$seed"
    local own=(--seed_everything "$seed" --data.seed "$seed" --data.tokens_per_batch 8192
      --model ProteinValues --model.pool Standardised --model.optimizer AdamW --model.optimizer.lr 1e-3
      --model.optimizer.weight_decay 0.01 --model.schedule Cosine --model.schedule.warmup 50
      --checkpoint.monitor val/spearman --checkpoint.mode max --trainer.max_steps 300 --trainer.val_check_interval 150
      --trainer.check_val_every_n_epoch null --trainer.gradient_clip_val 1.0 --trainer.num_sanity_val_steps 0)
    local begun=(--init-from "runs/masked-$seed")
    # the same network and recipe from nothing: what of a figure is pretraining
    local same=(--model.token_dropout true --model.stack.dim 96 --model.stack.depth 4 --model.stack.heads 12
      --model.stack.position Peaks --model.stack.position.distances "[-6,-4,-3,-2,-1,1,2,3,4,6,0,0]"
      --model.stack.position.slopes "[1,1,1,1,1,1,1,1,1,1,0.1,0.02]"
      --model.stack.ffn Plain --model.stack.ffn.activation gelu --model.stack.ffn.dim 384)
    for split in low_vs_high two_vs_rest three_vs_rest; do
      train "runs/gb1-$split-tuned-$seed" --data GB1 --data.split $split "${own[@]}" "${begun[@]}"
      tested "runs/gb1-$split-tuned-$seed" "gb1 $split, tuned, seed $seed"
      train "runs/gb1-$split-same-$seed" --data GB1 --data.split $split "${own[@]}" "${same[@]}"
      tested "runs/gb1-$split-same-$seed" "gb1 $split, same network from nothing, seed $seed"
    done
    train "runs/avgfp-tuned-$seed" --data DeepScan --data.name avgfp "${own[@]}" "${begun[@]}"
    tested "runs/avgfp-tuned-$seed" "avgfp, tuned, seed $seed"
    train "runs/avgfp-same-$seed" --data DeepScan --data.name avgfp "${own[@]}" "${same[@]}"
    tested "runs/avgfp-same-$seed" "avgfp, same network from nothing, seed $seed"
  done
}

classes() { # a class per protein, and what a linear model makes of its composition
  python experiments/protein/composition.py
  for seed in $SEEDS; do
    train "runs/classes-$seed" --config configs/protein/classes.yaml --seed_everything "$seed" --data.seed "$seed"
    tested "runs/classes-$seed" "classes, seed $seed"
  done
}

if [ $# -eq 0 ]; then set -- planted structure fitness natural masked classes; fi
for name in "$@"; do "$name"; done
python experiments/tables.py
