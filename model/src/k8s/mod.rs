//! k8s-openapi object to model value, one file a kind; total and pure.
