//! A root wrapper over a key in Google Cloud KMS.
