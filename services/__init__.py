"""gRPC servicers, TLS identity and stream flow control shared by the daemons."""
