//! The control socket: request and reply types, versioned; HTTP server and client on a Unix stream.
