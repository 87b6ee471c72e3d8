"""Generated: the messages of the Open Inference Protocol and of gRPC's error details, in pools of their own."""
