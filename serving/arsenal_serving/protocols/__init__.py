"""How a request comes and an answer goes: HTTP/1.1, gRPC, and the forms of their bodies."""
