//! Real proxies on loopback, changed while they serve.
//!
//! Needs `haproxy` and `nginx`; without them every test here fails. Files lie in directories of
//! their own, ports are the kernel's choice, and each test ends the processes that it started.

#[cfg(test)]
mod churn;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod nginx;
#[cfg(test)]
mod runtime;
#[cfg(test)]
mod served;
#[cfg(test)]
mod shop;
