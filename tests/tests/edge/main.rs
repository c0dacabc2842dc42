//! Real proxies on loopback, changed while they serve.
//!
//! Needs `haproxy` and `nginx`; without them every test here fails. Files lie in directories of
//! their own, ports are the kernel's choice, and each test ends the processes that it started.

mod churn;
mod faults;
mod lab;
mod nginx;
mod runtime;
mod served;
mod shop;
