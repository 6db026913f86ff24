//! Sockets: the acceptor, the workers that read, run and answer, and the pools that commands wait in. The only floor that sees mio.

pub mod buffer;
pub mod output;
pub mod timer;
pub mod shutdown;
pub mod flow;
pub mod tls;
pub mod tls_stream;
pub mod stream;
pub mod listeners;
pub mod metrics_server;
pub mod connection;
pub mod push;
pub mod pool;
pub mod blocking;
pub mod worker;
pub mod acceptor;
