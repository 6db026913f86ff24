//! os_env
