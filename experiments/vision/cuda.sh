#!/bin/bash
# CIFAR-10 (JPEG q75) on one CUDA device: three seeds of our recipe, then timm's ViT of the same size by the same recipe.
set -e
config=configs/vision/cifar10_cuda.yaml
for seed in 1 2 3; do
  zoo fit --config $config --run runs/cifar10_cuda_$seed --seed_everything $seed --data.seed $seed
  zoo test runs/cifar10_cuda_$seed
  python experiments/collect.py runs/cifar10_cuda_$seed vision "CIFAR-10 JPEG q75 CUDA seed $seed"
done
python experiments/vision/timm_peer.py fit --config $config --run runs/cifar10_timm --model.compile false \
  --model.optimizer AdamW --model.optimizer.lr 1e-3 --model.optimizer.weight_decay 0.05 --model.optimizer.beta2 0.999
python experiments/vision/timm_peer.py test runs/cifar10_timm
python experiments/collect.py runs/cifar10_timm vision "CIFAR-10 JPEG q75 CUDA timm"
python experiments/tables.py
