#!/bin/sh
# Relative attention with the beat told, without it, rotary and no positions, three seeds each, on one CUDA device (at most 6 minutes a run): not yet run.
#
#   ZOO_MIRROR=FOLDER sh experiments/music/full.sh
set -e
for seed in 1 2 3; do
    for position in beat relative rotary none; do
        case $position in
        beat) more="" ;;
        relative) more="--model.stack.position.absolute NoPosition" ;;
        # the table of distances holds 1.6 M numbers, a feed-forward 511 wider as many
        rotary) more="--model.stack.position Rotary --model.stack.ffn.dim 1535" ;;
        none) more="--model.stack.position NoPosition --model.stack.ffn.dim 1535" ;;
        esac
        run=runs/jsb-$position-$seed
        # shellcheck disable=SC2086 # $more holds several options
        zoo fit --config configs/music/jsb_full.yaml --seed_everything "$seed" --data.seed "$seed" --run "$run" $more
        zoo test "$run"
        python experiments/collect.py "$run" music "16th $position seed $seed"
    done
done
zoo fit --config configs/music/jsb_quarter.yaml --run runs/jsb-quarter-cuda --model.stack.dim 256 --model.stack.depth 6 \
    --model.stack.dropout 0.3 --data.tokens_per_batch 8192 --trainer.max_steps 3000 --trainer.val_check_interval 500
zoo test runs/jsb-quarter-cuda
python experiments/collect.py runs/jsb-quarter-cuda music "quarter cuda"
python experiments/tables.py
