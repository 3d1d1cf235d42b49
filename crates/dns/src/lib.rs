//! DNS forwarder: cache, in-flight table, retries, TCP fallback, local names.
