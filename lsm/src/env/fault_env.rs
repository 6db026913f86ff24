//! fault_env
