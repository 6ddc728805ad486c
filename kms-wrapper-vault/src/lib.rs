//! A root wrapper over a transit key in HashiCorp Vault or OpenBao.
