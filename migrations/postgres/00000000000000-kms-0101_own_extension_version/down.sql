drop table kms_extension_version;
