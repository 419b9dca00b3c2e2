"""A real Slurm on this machine for the time of some tests: one node, loopback only, no systemd, no cgroups.

Needs root and Debian's slurmctld, slurmd, slurm-client and munge; `available()` says whether they are there.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "squeue", "scancel", "sinfo")


def available() -> bool:
    """Whether this machine can run one."""
    return os.geteuid() == 0 and all(shutil.which(program) for program in PROGRAMS)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@contextlib.contextmanager
def slurm_host(folder: Path, cpus: int = 2) -> Iterator[dict[str, str]]:
    """Start it with all its state in `folder`; yields the variables by which its commands find it."""
    for name in ("state", "spool", "log", "munge"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    (folder / "munge").chmod(0o700)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    (folder / "slurm.conf").write_text(_configuration(folder, cpus))
    variables = {"SLURM_CONF": str(folder / "slurm.conf")}
    with contextlib.ExitStack() as stack:
        munge = folder / "munge.sock"
        munged = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={munge}"]
        munged += [f"--{name}-file={folder}/munge/{name}" for name in ("pid", "log", "seed")]
        stack.enter_context(_daemon(munged, folder / "log" / "munged.out", variables))
        _until(munge.exists, "munged")
        stack.enter_context(_daemon(["slurmctld", "-D", "-i"], folder / "log" / "ctld.out", variables))
        stack.enter_context(_daemon(["slurmd", "-D"], folder / "log" / "slurmd.out", variables))

        def idle() -> bool:
            asked = ["sinfo", "--noheader", "--states=idle", "--format=%D"]
            said = subprocess.run(asked, env={**os.environ, **variables}, capture_output=True, text=True)
            return said.stdout.strip() == "1"

        _until(idle, "slurm")
        yield variables


@contextlib.contextmanager
def _daemon(command: list[str], log: Path, variables: dict[str, str]) -> Iterator[None]:
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, env={**os.environ, **variables}, start_new_session=True
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _until(condition: object, what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come up")
        time.sleep(0.1)


def _configuration(folder: Path, cpus: int) -> str:
    host = socket.gethostname().split(".")[0]
    controller, node = _free_ports(2)
    return f"""
ClusterName=superluigi
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/log/slurmctld.pid
SlurmdPidFile={folder}/log/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=10000
KillWait=5
InactiveLimit=0
ReturnToService=2
PropagateResourceLimits=NONE
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
