//! Partitions, without a server.
