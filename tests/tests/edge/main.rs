//! Real proxies on loopback, changed while they serve.
//!
//! Needs `haproxy`, `nginx`, `caddy` and `curl`; without them every test here fails. Files lie in directories of
//! their own, ports are the kernel's choice, and each test ends the processes that it started.

#[cfg(test)]
mod caddy;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod churn;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod conversations;
#[cfg(test)]
mod elsewhere;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod h2c;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod nginx;
#[cfg(test)]
mod node;
#[cfg(test)]
mod pods;
#[cfg(test)]
mod rewritten;
#[cfg(test)]
mod runtime;
#[cfg(test)]
mod served;
#[cfg(test)]
mod shares;
#[cfg(test)]
mod shop;
#[cfg(test)]
mod told;
