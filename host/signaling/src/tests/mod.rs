//! Real sockets on loopback: the server, driven by our client and by raw sockets that may lie.

mod abuse;
mod api;
mod broker;
mod cluster;
mod elsewhere;
mod full;
mod old_server;
mod pairing;
mod reconnect;
mod relay;
mod relay_load;
mod relay_tls;
mod roster;
mod several;
mod support;
mod traffic;
