"""gRPC servicers, TLS identity and stream flow control shared by the daemons."""

import os

# gRPC's fork handlers serve programs that fork and go on with gRPC in the child. Daemons only start worker programs,
# and the handlers would log a line for each. Read when gRPC is loaded, hence here.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
