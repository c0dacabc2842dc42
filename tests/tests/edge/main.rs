//! Real proxies on loopback, changed while they serve.
