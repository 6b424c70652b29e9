"""Generated code of the protobuf package lossbook.v1 (see the .proto files beside it)."""
