//! Real sockets on loopback: the server driven by the client, and by bare sockets that may lie.
