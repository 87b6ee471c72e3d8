"""The command `rig`."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from kubernetes_rig import containers, control_plane, keda, kwok, pods, volumes
from kubernetes_rig.binaries import VERSION, build, cache
from kubernetes_rig.control_plane import kubectl
from kubernetes_rig.errors import RigError
from kubernetes_rig.processes import Processes

DEFAULT_FOLDER = ".kubernetes"
OWN, RUNS_PODS = "rig", "runs-pods"
TEXT = f"""A real Kubernetes {VERSION} on 127.0.0.1: etcd, API server, controllers and scheduler as processes of this
machine, and nodes by KWOK, on which pods are scheduled and become Ready, but nothing runs. With --pods there is one
node instead, by kubelet and containerd, on which they run. The custom resources of KEDA, the Prometheus operator
and the Gateway API are there; their controllers are not, but KEDA's with --keda."""


def main() -> int:
    """The exit status: 0, or 1 with the reason on stderr."""
    args = _parser().parse_args()
    try:
        if args.command == "build":
            build(args.pods, args.keda)
            print(cache())  # noqa: T201
        elif args.command == "up":
            print(up(args.folder.absolute(), args.nodes, args.pods, args.keda))  # noqa: T201
        elif args.command == "load":
            load(args.folder.absolute(), args.images)
        else:
            down(args.folder.absolute())
    except (RigError, subprocess.SubprocessError) as e:
        _say(str(e))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def up(folder: Path, nodes: int, runs_pods: bool, has_keda: bool) -> Path:
    """Start what does not run in `folder`; the path of the kubeconfig."""
    processes, kubeconfig = Processes(folder), folder / "kubeconfig"
    if not processes.missing(_names(runs_pods, has_keda)):
        _say(f"runs already: export KUBECONFIG={kubeconfig}")
        return kubeconfig
    if folder.exists() and any(folder.iterdir()):
        _say(f"what is in {folder} does not run whole, or without what is asked for: it is removed, and started anew")
        down(folder)
    if runs_pods:
        pods.check()
    build(runs_pods, has_keda)
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / OWN).touch()
    try:
        _start(folder, processes, nodes, runs_pods)
        if has_keda:
            _say("starting KEDA's operator, metrics server and webhooks")
            keda.start_keda(folder, processes, kubeconfig)
    except BaseException:  # Ctrl-C as well: nothing is left behind, but the logs
        _end(folder)
        raise
    _say(f"ready after {time.monotonic() - started:.0f} s: export KUBECONFIG={kubeconfig} PATH={cache()}/bin:$PATH")
    return kubeconfig


def load(folder: Path, images: list[str]) -> None:
    """Give the node images of the Docker engine of this machine."""
    if Processes(folder).missing(["containerd"]):
        raise RigError(f"No node in {folder} runs pods: rig up --pods {folder}")
    with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as saving:
        assert saving.stdout is not None
        containers.load(folder, saving.stdout)
    if saving.returncode != 0:
        raise RigError(f"The Docker engine did not save {' '.join(images)}.")


def down(folder: Path) -> None:
    """End the processes, and remove the folder; a folder that is not a rig's is left, with an error."""
    if not folder.exists():
        _say(f"nothing runs in {folder}")
        return
    if not (folder / OWN).exists() and any(folder.iterdir()):
        raise RigError(f"{folder} is not the folder of a rig: nothing was done.")
    _end(folder)
    shutil.rmtree(folder)
    _say(f"ended; {folder} is removed")


def _start(folder: Path, processes: Processes, nodes: int, runs_pods: bool) -> None:
    _say("starting etcd, API server, controllers and scheduler")
    kubeconfig = control_plane.start_control_plane(folder, processes)
    kubectl(kubeconfig, "create", "--validate=false", "-f", str(cache() / "resources"))
    volumes.start_volumes(folder, processes, kubeconfig)
    if runs_pods:
        _say("starting containerd, CoreDNS, kubelet and kube-proxy")
        (folder / RUNS_PODS).touch()
        pods.start_pods(folder, processes, kubeconfig)
    else:
        _say(f"starting {nodes} nodes by KWOK")
        kwok.start_nodes(folder, processes, kubeconfig, nodes)


def _end(folder: Path) -> None:
    processes = Processes(folder)
    if (folder / RUNS_PODS).exists():
        pods.end_pods(folder, processes)
    processes.stop()


def _names(runs_pods: bool, has_keda: bool) -> tuple[str, ...]:
    on_nodes = pods.NAMES if runs_pods else kwok.NAMES
    return (*control_plane.NAMES, *volumes.NAMES, *on_nodes, *(keda.NAMES if has_keda else ()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("rig", description=TEXT, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    where = argparse.ArgumentParser(add_help=False)
    about = f"the rig's folder (default: {DEFAULT_FOLDER})"
    where.add_argument("folder", nargs="?", type=Path, default=Path(DEFAULT_FOLDER), help=about)
    starting = commands.add_parser("up", parents=[where], help="start it, and print the path of the kubeconfig")
    starting.add_argument("--nodes", type=int, default=3, help="how many nodes by KWOK, in three zones (default: 3)")
    starting.add_argument("--pods", action="store_true", help="one node that runs pods instead; needs root")
    starting.add_argument("--keda", action="store_true", help="also KEDA's operator, metrics server and webhooks")
    commands.add_parser("down", parents=[where], help="end it, and remove its folder")
    loading = commands.add_parser("load", help="give the node of --pods images of this machine's Docker engine")
    loading.add_argument("folder", type=Path, help="the rig's folder")
    loading.add_argument("images", nargs="+", metavar="IMAGE", help="a name with its tag")
    building = commands.add_parser("build", help="build its programs into the cache, as `up` does by itself")
    building.add_argument("--pods", action="store_true", help="also those that run pods: kubelet, containerd, ...")
    building.add_argument("--keda", action="store_true", help="also KEDA's operator, metrics server and webhooks")
    return parser


def _say(text: str) -> None:
    sys.stderr.write(f"rig: {text}\n")
    sys.stderr.flush()
