#!/usr/bin/env bash
# A Ray cluster for the time of one Slurm job: a head on the first node, workers on all others, then one command.
#   sbatch --nodes=8 --cpus-per-task=32 --gpus-per-node=4 slurm.sh profile laion2b --set resources.max_actors=64
# What follows the script's name is parrotscope's, on the cluster that it starts. Shards and run lie on the parallel file
# system or an object store; credentials are those of the environment or of ~/.aws, which Slurm's nodes share.
# Requeued (preempted or out of time), the same command goes on with what is missing.
#SBATCH --job-name=parrotscope
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
set -euo pipefail

# The environment with parrotscope, on all nodes: activate it here, or let sbatch take the calling shell's.
if [ -n "${PARROTSCOPE_VENV:-}" ]; then source "$PARROTSCOPE_VENV/bin/activate"; fi

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
head_ip=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')
# Several jobs may share a node.
port=$((20000 + SLURM_JOB_ID % 10000))
address=$head_ip:$port
export RAY_USAGE_STATS_ENABLED=0
# Only who has the token may use the cluster: it is open to the network of the nodes.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$PWD/.ray-token-$SLURM_JOB_ID
(umask 077 && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$RAY_AUTH_TOKEN_PATH")
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT

cpus=(--num-cpus="${SLURM_CPUS_PER_TASK:-$(nproc)}")
gpus=(); if [ -n "${SLURM_GPUS_ON_NODE:-}" ]; then gpus=(--num-gpus="$SLURM_GPUS_ON_NODE"); fi

srun --nodes=1 --ntasks=1 --nodelist="$head" \
  ray start --head --block --node-ip-address="$head_ip" --port="$port" --dashboard-host=127.0.0.1 \
  "${cpus[@]}" "${gpus[@]}" ${RAY_HEAD_OPTIONS:-} &
ready() { srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" ray status --address="$address" >/dev/null 2>&1; }
for _ in $(seq 60); do sleep 5; if ready; then break; fi; done
ready || { echo "slurm.sh: Ray's head did not start at $address." >&2; exit 1; }
for node in "${nodes[@]:1}"; do
  srun --nodes=1 --ntasks=1 --nodelist="$node" \
    ray start --block --address="$address" "${cpus[@]}" "${gpus[@]}" ${RAY_WORKER_OPTIONS:-} &
done

# Workers that come late are taken in.
srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" parrotscope "$@" --set resources.address="$address" &
driver=$!
trap 'kill -TERM $driver' TERM
status=0; wait "$driver" || status=$?
# A signal ends the first wait before the driver, which finishes nothing and resumes.
if kill -0 "$driver" 2>/dev/null; then wait "$driver" || status=$?; fi
exit "$status"
