//! A root wrapper over a key in AWS KMS.
