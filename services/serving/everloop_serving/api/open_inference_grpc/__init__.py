"""The Open Inference Protocol by gRPC. Imported only where its port is set: a process without it does not load gRPC."""
