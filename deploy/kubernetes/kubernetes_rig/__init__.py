"""A real Kubernetes on one machine: etcd, API server, controllers, scheduler, and nodes by KWOK or a kubelet."""
