//! mem_env
