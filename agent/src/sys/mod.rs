//! The kernel, as values and small adapters; knows no Kubernetes.

pub mod map;
