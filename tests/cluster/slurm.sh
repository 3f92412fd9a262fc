#!/bin/bash
# A Slurm of one node for the time of one command: tests/cluster/slurm.sh COMMAND...
#
# Debian and Ubuntu: apt install slurm-wlm munge. Needs neither systemd nor cgroups, nor root. All
# its files lie in one temporary folder, and its ports are free ones of this host. It lends the
# partition "here": one node with 4 processors, 64 GB and a GPU, all of them invented, so that the
# requests of profiles/slurm fit on any machine. The command finds it through SLURM_CONF.
set -u
[ $# -gt 0 ] || { sed -n '2s/^# //p' "$0" >&2; exit 2; }
for program in munged slurmctld slurmd srun; do
  PATH=$PATH:/usr/sbin command -v $program > /dev/null ||
    { echo "$program is missing: apt install slurm-wlm munge" >&2; exit 2; }
done
export PATH=$PATH:/usr/sbin
home=$(mktemp -d -t slurm.XXXXXX)
daemons=()

down() {
  trap '' INT TERM HUP
  if [ ${#daemons[@]} -eq 3 ]; then
    scancel --full --user="$(id -un)" 2> /dev/null
    for _ in $(seq 50); do # the processes of a job end before those that watch over them
      [ -n "$(squeue --noheader 2> /dev/null)" ] || break
      sleep 0.2
    done
  fi
  for ((i = ${#daemons[@]} - 1; i >= 0; i--)); do
    kill "${daemons[i]}" 2> /dev/null
    for _ in $(seq 50); do
      kill -0 "${daemons[i]}" 2> /dev/null || break
      sleep 0.2
    done
    kill -9 "${daemons[i]}" 2> /dev/null
    wait "${daemons[i]}" 2> /dev/null
  done
  rm -rf "$home"
}
trap down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

fail() {
  echo "Slurm does not start: $1" >&2
  tail -n 5 "$home"/*.log >&2
  exit 1
}

until_done() { # up to 20 seconds
  for _ in $(seq 100); do
    "$@" > /dev/null 2>&1 && return
    sleep 0.2
  done
  return 1
}

read -r controller node < <(python3 -c '
import socket
ends = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(end.getsockname()[1] for end in ends))')
mkdir "$home/state" "$home/spool" "$home/munge" "$home/bin"
chmod 755 "$home"
head -c 128 /dev/urandom > "$home/munge/key"
chmod 600 "$home/munge/key"
cat > "$home/slurm.conf" << END
ClusterName=here
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$controller
SlurmdPort=$node
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$home/munge/socket
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/spool
SlurmctldPidFile=$home/slurmctld.pid
SlurmdPidFile=$home/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
GresTypes=gpu
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=4 RealMemory=64000 Gres=gpu:1
PartitionName=here Nodes=ALL Default=YES
END
echo "NodeName=$(hostname -s) Name=gpu File=/dev/null" > "$home/gres.conf"
export SLURM_CONF=$home/slurm.conf
# Snakemake's plugin takes SLURM_* away from the step of a job, for which /etc/slurm then speaks
printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$SLURM_CONF" "$(command -v srun)" > "$home/bin/srun"
chmod +x "$home/bin/srun"
export PATH=$home/bin:$PATH

munged --foreground --force --socket="$home/munge/socket" --key-file="$home/munge/key" \
  --pid-file="$home/munge/pid" --seed-file="$home/munge/seed" > "$home/munged.log" 2>&1 &
daemons+=($!)
until_done munge --no-input --socket="$home/munge/socket" || fail "munged does not answer"
slurmctld -D > "$home/slurmctld.log" 2>&1 &
daemons+=($!)
until_done scontrol ping || fail "slurmctld does not answer"
slurmd -D > "$home/slurmd.log" 2>&1 &
daemons+=($!)
until_done sh -c 'sinfo --noheader --states=idle | grep -q idle' || fail "slurmd does not report"

EXECUTABLE_PAPERS_SLURM=here "$@"
