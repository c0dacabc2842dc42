//! Agents, Services and real traffic in labs of network namespaces.

mod lab;
